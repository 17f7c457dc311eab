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
from typing import Annotated, Any, ClassVar

from pipeline import files
from pipeline.config import RUNTIME, Section
from pipeline.errors import AbsError, ConfigError
from pipeline.files import Digests
from pipeline.identity import digest
from pipeline.locations import Paths
from pipeline.models.resolved import LOCAL, Resolved

RANDOM = "random:"


class ClipConfig(Section):
    """The CLIP model: an open_clip name with a tag or file, or `local-dir:FOLDER`."""

    model: Annotated[str, RUNTIME]
    weights: Annotated[str | None, RUNTIME] = "openai"


class VitConfig(Section):
    """The attention model: a timm name with `pretrained` or a file, or `local-dir:FOLDER`."""

    model: Annotated[str, RUNTIME]
    weights: Annotated[str | None, RUNTIME] = "pretrained"


@dataclass(frozen=True)
class Source(ABC):
    """A configured model, resolved when first asked for and remembered between runs."""

    config: ClipConfig | VitConfig
    paths: Paths
    digests: Digests
    library: ClassVar[str]
    section: ClassVar[str]
    """The section of the settings that names the model."""

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
        if model.startswith(LOCAL):
            if weights is not None:
                raise ConfigError(
                    f"{self.section}.weights: {model} brings its own weights; set it to null"
                )
            setting = f"{self.section}.model"
            return self._resolve_folder(
                self.paths.find(model.removeprefix(LOCAL), "model folder", setting)
            )
        if weights is None:
            raise ConfigError(f"{self.section}.weights: {model} needs weights")
        return self._recall() or self._remember(self._resolve_name(model, weights))

    def identity(self) -> dict[str, Any]:
        """Architecture and digests of every file that decides the output."""
        model = self.resolved
        weights = self.digests.sha256(model.file) if model.file else f"{RANDOM}{model.seed}"
        extra = self.digests.sha256_many(model.extra)
        return {"architecture": digest(model.architecture), "weights": weights, "extra": extra}

    # The library's answer is kept in the store, so that a run with nothing to do stays light.

    @property
    def _memory(self) -> Path:
        version = metadata.version(self.library)
        places = [self.paths.data, self.paths.weights]
        question = [self.config.model, self.config.weights, places, version]
        return self.paths.store / ".memory" / f"{self.library}-{digest(question)}.json"

    def _recall(self) -> Resolved | None:
        try:
            known = files.read_json(self._memory, "memory")
            file = Path(known["file"]) if known["file"] else None
            found = Resolved(known["name"], known["architecture"], file, known["seed"])
        except (AbsError, KeyError, TypeError):
            return None
        return None if file and not file.exists() else found

    def _remember(self, model: Resolved) -> Resolved:
        known = {
            "name": model.name,
            "architecture": model.architecture,
            "file": str(model.file) if model.file else None,
            "seed": model.seed,
        }
        files.write_json(self._memory, known)
        return self._recall() or model


def seed_of(weights: str) -> int:
    """The seed of `random:SEED`."""
    seed = weights.removeprefix(RANDOM)
    if not seed.isdecimal():
        raise ConfigError(f"weights {weights!r}: write random:SEED with a whole number")
    return int(seed)


def file_in(folder: Path, names: list[str], what: str) -> Path:
    """The first of `names` in `folder`."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise AbsError(f"{what} not found in {folder}: expected one of {', '.join(names)}")


@dataclass(frozen=True)
class ClipSource(Source):
    """A CLIP of open_clip with its tokenizer and preprocessing."""

    config: ClipConfig
    library: ClassVar[str] = "open_clip_torch"
    section: ClassVar[str] = "clip"

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        size = self._vision["image_size"]
        return int(size[0] if isinstance(size, list) else size)

    @property
    def layers(self) -> int:
        """Blocks of the image encoder."""
        return int(self._vision["layers"])

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.image_size // int(self._vision["patch_size"])

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.resolved.architecture["model"]["embed_dim"])

    @property
    def _vision(self) -> dict[str, Any]:
        vision = dict(self.resolved.architecture["model"]["vision_cfg"])
        if "patch_size" not in vision or "layers" not in vision:
            raise AbsError(f"{self.config.model} is not a plain ViT; feature crops need its tokens")
        return vision

    def _resolve_folder(self, folder: Path) -> Resolved:
        config = files.read_json(folder / "open_clip_config.json", "model configuration")
        names = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        architecture = {"model": config["model_cfg"], "preprocess": config.get("preprocess_cfg")}
        file = file_in(folder, names, "CLIP weights")
        others = {file.name, "open_clip_config.json", "README.md"}
        extra = sorted(p for p in folder.iterdir() if p.is_file() and p.name not in others)
        return Resolved(f"{LOCAL}{folder}", architecture, file, extra=tuple(extra))

    def _resolve_name(self, name: str, weights: str) -> Resolved:
        from pipeline.models import open_clip_names

        if weights.startswith(RANDOM):
            return open_clip_names.resolve_random(name, seed_of(weights))
        return open_clip_names.resolve(name, weights, self.paths)


@dataclass(frozen=True)
class VitSource(Source):
    """A timm ViT with a class token, whose attention guides the crops."""

    config: VitConfig
    library: ClassVar[str] = "timm"
    section: ClassVar[str] = "attention"

    def _resolve_folder(self, folder: Path) -> Resolved:
        config = files.read_json(folder / "config.json", "model configuration")
        file = file_in(folder, ["model.safetensors"], "weights of the attention model")
        return Resolved(f"{LOCAL}{folder}", config, file)

    def _resolve_name(self, name: str, weights: str) -> Resolved:
        from pipeline.models import timm_names

        if weights.startswith(RANDOM):
            return timm_names.resolve_random(name, seed_of(weights))
        return timm_names.resolve(name, weights, self.paths)
