"""Which model is meant: architecture and weights, known before torch is imported.

A source's identity is the resolved architecture and the digest of its weights, wherever they lie.
`weights` is a tag or file that the library knows, or `random:SEED`: seeded random weights, which
prove shapes and speed and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pipeline import files
from pipeline.config import MAX_SEED, RUNTIME, Section
from pipeline.errors import AbsError, ConfigError
from pipeline.files import Digests
from pipeline.identity import digest
from pipeline.locations import Paths
from pipeline.models import folders
from pipeline.models.precision import Choice
from pipeline.models.resolved import HUB, LOCAL, Resolved, recalled
from pipeline.models.vision import Vision, vision_of

if TYPE_CHECKING:
    from pipeline.kernels.resize import Filter
    from pipeline.models.vit import AttentionVit
    from pipeline.runtime import Runtime

RANDOM = "random:"


class ClipConfig(Section):
    """The CLIP: an open_clip name with a tag or file, `local-dir:FOLDER` or `hf-hub:OWNER/NAME`."""

    model: Annotated[str, RUNTIME]
    weights: Annotated[str | None, RUNTIME] = "openai"
    precision: Annotated[Choice, RUNTIME] = "float32"
    """Of the encoders; `auto` becomes what serves the device best. Part of the identity."""


class VitConfig(Section):
    """Where attention comes from: a timm name with `pretrained` or a file, a folder or repository
    as for CLIP, `clip` for the CLIP itself, or `random`.
    """

    model: Annotated[str, RUNTIME]
    weights: Annotated[str | None, RUNTIME] = "pretrained"
    precision: Annotated[Choice, RUNTIME] = "float32"
    """As for CLIP."""


@dataclass(frozen=True)
class Source(ABC):
    """A configured model, resolved when first asked for and remembered between runs."""

    config: ClipConfig | VitConfig
    paths: Paths
    digests: Digests
    library: ClassVar[str]
    section: ClassVar[str]
    """The section of the settings that names the model."""
    layout: ClassVar[folders.Layout]

    @abstractmethod
    def _resolve_name(self, name: str, weights: str) -> Resolved:
        """Resolve a name of the library. Imports it; may download the weights."""

    @abstractmethod
    def _resolve_folder(self, folder: Path) -> Resolved:
        """Resolve a local folder in the library's own layout. Must not import the library."""

    @cached_property
    def resolved(self) -> Resolved:
        """The model; AbsError if its weights or its configuration cannot be had."""
        model, weights = self.config.model, self.config.weights
        if model.startswith((LOCAL, HUB)):
            if weights is not None:
                raise ConfigError(
                    f"{self.section}.weights: {model} brings its own weights; set it to null"
                )
            return self._found(model)
        if weights is None:
            raise ConfigError(
                f"{self.section}.weights: {model} needs weights: a tag, a file or {RANDOM}SEED"
            )
        return self._recall() or self._remember(self._resolve_name(model, weights))

    def identity(self) -> dict[str, Any]:
        """Architecture and digests of every file that decides the output."""
        model = self.resolved
        weights = self.digests.sha256(model.file) if model.file else f"{RANDOM}{model.seed}"
        extra = [self.digests.sha256(path) for path in model.extra]
        found = {"architecture": digest(model.architecture), "weights": weights, "extra": extra}
        precision = self.config.precision
        return found if precision == "float32" else {**found, "precision": precision}

    def _found(self, model: str) -> Resolved:
        """The model of a folder, or of a repository's folder."""
        if model.startswith(LOCAL):
            where = model.removeprefix(LOCAL), "model folder", f"{self.section}.model"
            return self._resolve_folder(self.paths.find(*where))
        try:
            return self._resolve_folder(Path(self._known["folder"]))
        except (AbsError, KeyError, TypeError):
            folder = self._repository_folder(model.removeprefix(HUB))
        self._keep({"folder": str(folder)})
        return self._resolve_folder(folder)

    def _repository_folder(self, name: str) -> Path:
        from pipeline.models.hub import Repository

        remedy = f"set {self.section}.model to {LOCAL}FOLDER"
        return Repository(name, self.paths, remedy).folder(self.layout)

    # The library's answer is kept in the store, so that a run with nothing to do stays light.

    @property
    def _memory(self) -> Path:
        version = metadata.version(self.library)
        places = [self.paths.data, self.paths.weights]
        question = [self.config.model, self.config.weights, places, version]
        return self.paths.store / ".memory" / f"{self.library}-{digest(question)}.json"

    @property
    def _known(self) -> Any:
        return files.read_sealed(self._memory, "memory")

    def _recall(self) -> Resolved | None:
        try:
            return recalled(self._known)
        except AbsError:
            return None

    def _remember(self, model: Resolved) -> Resolved:
        self._keep(model.note())
        return self._recall() or model

    def _keep(self, note: dict[str, Any]) -> None:
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        files.write_sealed(self._memory, note)


def seed_of(text: str, setting: str) -> int:
    """The seed of `random:SEED`."""
    seed = text.removeprefix(RANDOM)
    if not (seed.isdecimal() and seed.isascii()):
        raise ConfigError(f"{setting}: {text!r}: write {RANDOM}SEED with a whole number")
    if int(seed) > MAX_SEED:
        raise ConfigError(f"{setting}: {text!r}: a seed is at most {MAX_SEED}")
    return int(seed)


@dataclass(frozen=True)
class ClipSource(Source):
    """A CLIP of open_clip with its tokenizer and preprocessing."""

    config: ClipConfig
    library: ClassVar[str] = "open_clip_torch"
    section: ClassVar[str] = "clip"
    layout: ClassVar[folders.Layout] = folders.CLIP

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        return self.vision.image_size

    @property
    def resize_mode(self) -> str:
        """How preprocessing makes an image square: `shortest`, `longest` or `squash`."""
        preprocess = self.resolved.architecture["preprocess"] or {}
        return str(preprocess.get("resize_mode") or "shortest")

    @property
    def interpolation(self) -> Filter:
        """The filter of that resizing."""
        preprocess = self.resolved.architecture["preprocess"] or {}
        return "bilinear" if preprocess.get("interpolation") == "bilinear" else "bicubic"

    @property
    def layers(self) -> int:
        """Blocks of the image encoder."""
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
    def width(self) -> int:
        """Length of a token of the image encoder."""
        return self.vision.width

    @cached_property
    def vision(self) -> Vision:
        """Measures of the image encoder; ConfigError if it cannot serve feature crops."""
        return vision_of(self.config.model, self.resolved.architecture["model"])

    def _resolve_folder(self, folder: Path) -> Resolved:
        return folders.read_clip(folder)

    def _resolve_name(self, name: str, weights: str) -> Resolved:
        from pipeline.models import open_clip_names

        if weights.startswith(RANDOM):
            return open_clip_names.resolve_random(name, seed_of(weights, "clip.weights"))
        return open_clip_names.resolve(name, weights, self.paths)


@dataclass(frozen=True)
class VitSource(Source):
    """A timm ViT with a class token, whose attention guides the crops."""

    config: VitConfig
    library: ClassVar[str] = "timm"
    section: ClassVar[str] = "attention"
    layout: ClassVar[folders.Layout] = folders.VIT

    def load(self, runtime: Runtime) -> AttentionVit:
        """Build the model and load its weights."""
        from pipeline.models.vit import AttentionVit

        return AttentionVit(self, runtime)

    def _resolve_folder(self, folder: Path) -> Resolved:
        return folders.read_vit(folder)

    def _resolve_name(self, name: str, weights: str) -> Resolved:
        from pipeline.models import timm_names

        if weights.startswith(RANDOM):
            return timm_names.resolve_random(name, seed_of(weights, "attention.weights"))
        return timm_names.resolve(name, weights, self.paths)
