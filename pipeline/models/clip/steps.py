"""Preprocessing of a CLIP by Pillow, and the mean and std behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image
from torchvision.transforms import Compose, Normalize, ToTensor

from pipeline.kernels.geometry import clip_view
from pipeline.models.clip.source import ClipSource


@dataclass(frozen=True)
class Steps:
    """Steps of a preprocessing."""

    resize: Callable[[Image.Image], Image.Image]
    """Steps up to the square of pixels."""
    mean: Sequence[float]
    """Mean of each channel, of pixels between 0 and 1."""
    std: Sequence[float]
    """Standard deviation of each channel."""

    @classmethod
    def of(cls, transform: Compose) -> Steps:
        """Return the steps of open_clip's own preprocessing."""
        steps = transform.transforms
        resize = Compose([step for step in steps if not isinstance(step, ToTensor | Normalize)])
        (trained,) = (step for step in steps if isinstance(step, Normalize))
        return cls(resize, trained.mean, trained.std)

    @classmethod
    def by_pillow(cls, source: ClipSource) -> Steps:
        """Return the steps of a configuration without padding, made of Pillow's own."""
        side, mode = source.image_size, source.resize_mode
        resample = Image.Resampling[source.interpolation.upper()]

        def resize(image: Image.Image) -> Image.Image:
            view = clip_view(*image.size, side, mode)
            left, top = view.offsets
            whole = image.resize(view.lengths, resample)
            return whole.crop((left, top, left + side, top + side))

        return cls(resize, source.preprocess.mean, source.preprocess.std)
