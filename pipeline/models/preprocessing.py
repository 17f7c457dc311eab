"""Square inputs of a model, byte for byte as the model's own preprocessing makes them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.core.errors import AbsError
from pipeline.core.progress import Reporter
from pipeline.datasets.images import HELD_PIXELS
from pipeline.kernels.resize import Resizer, planes
from pipeline.kernels.resize_taps import Filter
from pipeline.kernels.transfer import to_device

HELD = 3 * HELD_PIXELS
"""Most bytes of pixels that stay on CUDA: those of the images that stay in the host's memory."""


class Sent:
    """Pixels of images on a device. On CUDA an image is sent once as long as the host keeps it, as
    it does between the units of a block; up to HELD bytes of such pixels are kept.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: dict[int, Tensor] = {}

    def planes(self, image: Image.Image) -> Tensor:
        """Return the planes of an RGB image, uint8 (3, height, width), on the device."""
        kept = self._kept.get(id(image))
        if kept is not None:
            return kept
        pixels = to_device(planes(image), self._device)
        if self._device.type == "cuda" and self._bytes + pixels.numel() <= HELD:
            self._kept[id(image)] = pixels
            weakref.finalize(image, self._kept.pop, id(image), None).atexit = False
        return pixels

    @property
    def _bytes(self) -> int:
        kept = list(self._kept.values())  # an image may end in another thread meanwhile
        return sum(pixels.numel() for pixels in kept)


class Preprocessing:
    """Cropping and resizing of boxes of images, on the device of the model.

    Uses `Resizer` if it gives the same bytes as Pillow on this machine, which is tested on
    creation. Otherwise, as with a version of Pillow that resizes differently, it uses Pillow
    itself.

    Args:
        resizer: Resizer with the model's side, mode and filter.
        by_pillow: The model's own preprocessing of a Pillow image, up to its normalisation.
        device: Device of the model.
    """

    def __init__(
        self,
        resizer: Resizer,
        by_pillow: Callable[[Image.Image], Image.Image],
        device: torch.device,
    ) -> None:
        self._resizer, self._by_pillow, self._device = resizer, by_pillow, device
        # Other devices lack float64.
        self._resize_device = device if device.type == "cuda" else torch.device("cpu")
        self._sent = Sent(self._resize_device)
        short, long = resizer.side + 8, 3 * resizer.side
        sizes = ((short, long), (long, short), (long // 9 + 1, long // 8 + 1))
        self.exact = all(self._matches_pillow(*size) for size in sizes)
        if not self.exact:
            Reporter().say("unknown way of resizing in this Pillow; using Pillow itself, slower")

    def __call__(self, image: Image.Image, boxes: np.ndarray | None = None) -> Tensor:
        """Crop and resize boxes of an RGB image, or the whole image; as `block` of one image."""
        return self.block([(image, boxes)])

    def block(self, images: Iterable[tuple[Image.Image, np.ndarray | None]]) -> Tensor:
        """Crop and resize boxes of RGB images.

        Args:
            images: Images, each with half-open boxes in pixels, (n, 4), or None for the whole
                image.

        Returns:
            uint8 (n, 3, side, side), on the device, by image.

        Raises:
            AbsError: If the device runs out of memory.
        """
        boxed = (
            (image, np.array([(0, 0, *image.size)]) if boxes is None else boxes)
            for image, boxes in images
        )
        if not self.exact:
            parts = [self._with_pillow(image, boxes) for image, boxes in boxed]
            return to_device(torch.cat(parts), self._device)
        pixels = ((self._sent.planes(image), boxes) for image, boxes in boxed)
        try:
            crops = list(self._resizer.by_groups(pixels, self._resize_device))
            return (crops[0] if len(crops) == 1 else torch.cat(crops)).to(self._device)
        except torch.OutOfMemoryError:
            raise AbsError(
                "out of memory while cropping a unit; lower layout.images or layout.crops, "
                "or set runtime.device=cpu"
            ) from None

    def _with_pillow(self, image: Image.Image, boxes: np.ndarray) -> Tensor:
        """Crop and resize with Pillow."""
        crops = [self._by_pillow(image.crop(tuple(box))) for box in boxes.tolist()]
        return torch.stack([planes(crop) for crop in crops])

    def _matches_pillow(self, width: int, height: int) -> bool:
        """Compare `Resizer` and Pillow on random pixels."""
        noise = np.random.default_rng(0).integers(0, 2, (height, width, 3), dtype=np.uint8) * 255
        image = Image.fromarray(noise)
        boxes = np.array([(0, 0, width, height), (3, 2, width - 1, height // 2)])
        resized = self._resizer(planes(image).to(self._resize_device), boxes)
        return torch.equal(resized.cpu(), self._with_pillow(image, boxes))


def squashed(side: int, kind: Filter, device: torch.device) -> Preprocessing:
    """Return the preprocessing that squashes the whole image to a square, without a centre crop.

    The released code feeds DINO in this way; timm's own transform would crop the border.

    Args:
        side: Side of the square, in pixels.
        kind: Filter.
        device: Device of the model.
    """
    resample = Image.Resampling[kind.upper()]
    resizer = Resizer(side, "squash", kind)
    return Preprocessing(resizer, lambda image: image.resize((side, side), resample), device)
