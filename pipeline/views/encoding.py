"""Common parts of the stages that encode images with CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pipeline.core.runtime import Runtime
from pipeline.models.clip.source import ClipSource
from pipeline.stage import Cost, Stage, timed

if TYPE_CHECKING:
    from pipeline.models.clip.model import ClipModel


class ImageEncoding(Stage):
    """Stage that encodes whole images, or crops, which take as long."""

    clip: ClipSource
    runtime: Runtime

    kind: ClassVar[str] = "embeddings"
    has_model: ClassVar[bool] = True

    @property
    def model_name(self) -> str:
        """Name of CLIP."""
        return self.clip.name

    @property
    def probe_name(self) -> str:
        """Whole images and crops take the same time."""
        return "images"

    def probe(self) -> Cost:
        """Measure CLIP on black images."""
        return timed(self._clip, lambda model: len(model.encode_images(model.black(), full=True)))

    def _clip(self) -> ClipModel:
        from pipeline.models.clip.model import ClipModel

        return ClipModel(self.clip, self.runtime)
