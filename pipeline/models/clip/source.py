"""A CLIP as configured: architecture and weights, resolved without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.core import files
from pipeline.core.errors import AbsError, ConfigError
from pipeline.models.clip.dimensions import Vision
from pipeline.models.clip.folder import read_clip
from pipeline.models.clip.of_transformers import families
from pipeline.models.clip.preprocess import ClipPreprocess, preprocess_of
from pipeline.models.clip.vision import activation, vision_of
from pipeline.models.config import LEAST_SCALE, MOST_SCALE, RANDOM, ClipConfig
from pipeline.models.local_dir import OPEN_CLIP, TRANSFORMERS, FolderLayout
from pipeline.models.resolved import Resolved
from pipeline.models.source import ModelSource, seed_of

if TYPE_CHECKING:
    from pipeline.kernels.resize_taps import Filter


USUAL_SCALE = 100.0
"""Logit scale of OpenAI's CLIPs, which training clips at it."""


@dataclass(frozen=True)
class ClipSource(ModelSource):
    """A CLIP of open_clip or transformers, with its tokenizer and preprocessing."""

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
    def window_layers(self) -> int:
        """Number of layers of the image encoder that windows can enter."""
        return self.vision.window_layers

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.vision.grid

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.vision.dim

    @property
    def queries(self) -> int:
        """Number of vectors that are kept of a view."""
        return 1 if self.mean_of_queries else self.vision.queries

    @property
    def numbers(self) -> int:
        """Numbers that are kept of a view: the length of an embedding times the queries."""
        return self.queries * self.dim

    @property
    def mean_of_queries(self) -> bool:
        """True if the vectors of a view are averaged to one."""
        return self.config.queries == "mean" and self.vision.queries > 1

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

    @property
    def learns_context(self) -> bool:
        """True if the text encoder is CLIP's own, so that words of a prompt can be learned."""
        model = self.resolved.architecture["model"]
        other = families.KEY in model or "multimodal_cfg" in model or model.get("custom_text")
        return not (other or model["text_cfg"].get("hf_model_name"))

    @cached_property
    def preprocess(self) -> ClipPreprocess:
        """Preprocessing of images; ConfigError if it is not supported."""
        return preprocess_of(self.config.model, self.resolved.architecture["preprocess"])

    def scale(self, given: float | None) -> float:
        """Return the logit scale: the given one, or else that of the checkpoint.

        OpenAI's models and random weights have 100. A model whose files are not at hand gets 100
        too: whatever runs it says what is missing.

        Raises:
            ConfigError: If the model has none, or one that cannot be.
        """
        if given is not None:
            return given
        random = (self.config.weights or "").startswith(RANDOM)
        if random or self.config.weights == "openai":
            return USUAL_SCALE
        try:
            found = self._stored_scale
        except AbsError:
            return USUAL_SCALE
        if found is None:
            raise ConfigError(
                f"scores.logit_scale: {self.config.model} has no logit scale in its checkpoint, so "
                "scores.temperature, which is meant for a scale of 100, cannot be fitted to it; "
                "with scores.logit_scale=100, the scores.temperature that you give divides cosines"
            )
        if not LEAST_SCALE <= found <= MOST_SCALE:  # not NaN either
            raise ConfigError(
                f"scores.logit_scale: {self.config.model} has the logit scale {found} in its "
                "checkpoint, which no training leaves; take another checkpoint, or give the scale"
            )
        return found

    @property
    def _stored_scale(self) -> float | None:
        """Logit scale of the checkpoint, cached by the file's digest; None if it has none."""
        model = self.resolved
        family = families.family_of(model.architecture["model"].get(families.KEY))
        tensor = family.scale if family else "logit_scale"
        if tensor is None or model.file is None:
            return None if model.file else USUAL_SCALE
        name = f"scale-{self.digest_of(model.file)}.json"
        path = self.paths.store / ".memory" / name
        try:
            return float(files.read_sealed(path, "memory")["scale"])
        except (AbsError, KeyError, TypeError, ValueError):
            from pipeline.models.clip.scale import read_scale  # imports torch

            found = read_scale(model.file, tensor)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_sealed(path, {"scale": found})
            return found

    def identity(self) -> dict[str, Any]:
        """Return architecture and files, and whether the vectors of a view are averaged."""
        identity = super().identity()
        return {**identity, "queries": "mean"} if self.mean_of_queries else identity

    @property
    def activation(self) -> str:
        """Activation of both encoders: `QuickGELU` or `GELU`."""
        return activation(self.resolved.architecture["model"])

    def _resolve_folder(self, folder: Path) -> Resolved:
        return read_clip(folder)

    def _resolve_name(self, name: str, weights: str) -> Resolved:
        from pipeline.models.clip import names as open_clip_names

        if weights.startswith(RANDOM):
            seed = seed_of(weights, "clip.weights")
            return open_clip_names.resolve_random(name, seed, self.paths)
        return open_clip_names.resolve(name, weights, self.paths, self.digests)
