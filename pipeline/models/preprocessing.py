"""The squares of pixels that a model sees, byte for byte as its own preprocessing makes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import AbsError
from pipeline.images import pixels
from pipeline.kernels.resize import Filter, Resizer, planes
from pipeline.progress import Reporter


class Preprocessing:
    """Crops and resizes boxes of images, on the device that the model is on.

    By `Resizer`, once it has been seen to give the same bytes as `by_pillow` on this machine; if
    it does not, as with a Pillow that resizes otherwise than the known ones, by Pillow itself.
    """

    def __init__(
        self,
        resizer: Resizer,
        by_pillow: Callable[[Image.Image], Image.Image],
        device: torch.device,
    ) -> None:
        self._resizer, self._by_pillow, self._device = resizer, by_pillow, device
        # Other devices lack float64.
        self._place = device if device.type == "cuda" else torch.device("cpu")
        little, much = resizer.side + 8, 3 * resizer.side
        sizes = ((little, much), (much, little), (much // 9 + 1, much // 8 + 1))
        self.exact = all(self._agrees(*size) for size in sizes)
        if not self.exact:
            Reporter().say("this Pillow resizes in a way of its own: it makes the crops, slowly")

    def __call__(self, image: Image.Image, boxes: np.ndarray | None = None) -> Tensor:
        """RGB image, boxes (n, 4) in pixels, half-open; the whole image if None.

        Returns uint8 (n, 3, side, side) on the device.
        """
        if boxes is None:
            boxes = np.array([(0, 0, *image.size)])
        if self.exact:
            try:
                return self._resizer(planes(image).to(self._place), boxes).to(self._device)
            except torch.OutOfMemoryError:
                raise AbsError(
                    "the device has not the memory for the crops of a unit; set layout.images or "
                    "layout.crops lower, or runtime.device=cpu"
                ) from None
        return self._slowly(image, boxes).to(self._device)

    def _slowly(self, image: Image.Image, boxes: np.ndarray) -> Tensor:
        crops = [self._by_pillow(image.crop(tuple(box))) for box in boxes.tolist()]
        return torch.from_numpy(np.stack([pixels(crop) for crop in crops]))

    def _agrees(self, width: int, height: int) -> bool:
        noise = np.random.default_rng(0).integers(0, 2, (height, width, 3), dtype=np.uint8) * 255
        image = Image.fromarray(noise)
        boxes = np.array([(0, 0, width, height), (3, 2, width - 1, height // 2)])
        found = self._resizer(planes(image).to(self._place), boxes)
        return torch.equal(found.cpu(), self._slowly(image, boxes))


def squashed(side: int, kind: Filter, device: torch.device) -> Preprocessing:
    """The whole image squashed to a square, without a crop of its centre.

    The released code feeds DINO so; timm's own transform would crop the border away.
    """
    resample = Image.Resampling[kind.upper()]
    resizer = Resizer(side, "squash", kind)
    return Preprocessing(resizer, lambda image: image.resize((side, side), resample), device)
