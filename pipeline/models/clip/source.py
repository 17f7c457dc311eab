"""A CLIP as configured: architecture and weights, resolved without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.models.clip.folder import read_clip
from pipeline.models.clip.preprocess import ClipPreprocess, preprocess_of
from pipeline.models.clip.vision import Vision, activation, vision_of
from pipeline.models.config import RANDOM, ClipConfig
from pipeline.models.local_dir import OPEN_CLIP, TRANSFORMERS, FolderLayout
from pipeline.models.resolved import Resolved
from pipeline.models.source import ModelSource, seed_of

if TYPE_CHECKING:
    from pipeline.kernels.resize_taps import Filter


@dataclass(frozen=True)
class ClipSource(ModelSource):
    """A CLIP of open_clip with its tokenizer and preprocessing."""

    config: ClipConfig
    library: ClassVar[str] = "open_clip_torch"
    section: ClassVar[str] = "clip"
    layouts: ClassVar[tuple[FolderLayout, ...]] = (OPEN_CLIP, TRANSFORMERS)

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        return self.vision.image_size

    @property
    def resize_mode(self) -> str:
        """Way that preprocessing makes an image square: `shortest`, `longest` or `squash`."""
        return self.preprocess.resize_mode

    @property
    def interpolation(self) -> Filter:
        """Filter of the preprocessing's resizing."""
        return self.preprocess.interpolation

    @property
    def layers(self) -> int:
        """Number of blocks of the image encoder."""
        return self.vision.layers

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.vision.grid

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.vision.dim

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return self.vision.tokens

    @property
    def width(self) -> int:
        """Length of a token of the image encoder."""
        return self.vision.width

    @cached_property
    def vision(self) -> Vision:
        """Dimensions of the image encoder; ConfigError if it does not support feature crops."""
        return vision_of(self.config.model, self.resolved.architecture["model"])

    @cached_property
    def preprocess(self) -> ClipPreprocess:
        """Preprocessing of images; ConfigError if it is not supported."""
        return preprocess_of(self.config.model, self.resolved.architecture["preprocess"])

    @property
    def activation(self) -> str:
        """Activation of both encoders: `QuickGELU` or `GELU`."""
        return activation(self.resolved.architecture["model"])

    def _resolve_folder(self, folder: Path) -> Resolved:
        return read_clip(folder)

    def _resolve_name(self, name: str, weights: str) -> Resolved:
        from pipeline.models.clip import names as open_clip_names

        if weights.startswith(RANDOM):
            return open_clip_names.resolve_random(name, seed_of(weights, "clip.weights"))
        return open_clip_names.resolve(name, weights, self.paths, self.digests)
