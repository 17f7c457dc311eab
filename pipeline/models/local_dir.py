"""Folders that hold a model in its library's own layout, read without importing the library.

Only files that decide the model's output count, so that a model is the same in a checkout, in a
cache of the hub and in a folder of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.models.resolved import LOCAL, Resolved

MERGES = "merges.txt.gz"
"""Merges of open_clip's own tokenizer, if a model has other merges than OpenAI's."""

TOKENIZER = (
    "added_tokens.json",
    "config.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files of a tokenizer of transformers."""


@dataclass(frozen=True)
class FolderLayout:
    """File names of a model folder."""

    what: str
    """Name of the model in errors."""
    config: str
    """File of the configuration."""
    weights: tuple[str, ...]
    """Files of the weights, of which one is enough; the preferred first."""
    others: tuple[str, ...] = ()
    """Optional files, downloaded if the repository has them."""

    def weights_in(self, folder: Path) -> Path:
        """Return the weights file in a folder; AbsError if there is none."""
        for name in self.weights:
            if (folder / name).is_file():
                return folder / name
        expected = ", ".join(self.weights)
        raise AbsError(f"weights of {self.what} not found in {folder}: expected one of {expected}")

    def complete(self, folder: Path) -> bool:
        """Return whether a folder holds configuration and weights."""
        present = [name for name in self.weights if (folder / name).is_file()]
        return bool(present) and (folder / self.config).is_file()


CLIP = FolderLayout(
    "CLIP",
    "open_clip_config.json",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    (MERGES, *TOKENIZER),
)
"""Layout of open_clip."""
VIT = FolderLayout("the attention model", "config.json", ("model.safetensors", "pytorch_model.bin"))
"""Layout of timm."""


def read_clip(folder: Path) -> Resolved:
    """Read a CLIP from a folder in open_clip's layout; AbsError if part of it is missing."""
    path = folder / CLIP.config
    config = files.read_json(path, "model configuration")
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise AbsError(f"model configuration {path} has no model_cfg")
    architecture = {"model": config["model_cfg"], "preprocess": config.get("preprocess_cfg")}
    extra = tuple(_tokenizer_files(folder, config["model_cfg"]))
    return Resolved(f"{LOCAL}{folder}", architecture, CLIP.weights_in(folder), extra=extra)


def read_vit(folder: Path) -> Resolved:
    """Read a ViT from a folder in timm's layout; AbsError if part of it is missing."""
    config = files.read_json(folder / VIT.config, "model configuration")
    if not isinstance(config, dict):
        raise AbsError(f"model configuration {folder / VIT.config} is not a mapping")
    return Resolved(f"{LOCAL}{folder}", config, VIT.weights_in(folder))


def _tokenizer_files(folder: Path, model: dict[str, Any]) -> list[Path]:
    """Return the files that decide the tokenizer; none for open_clip's own with OpenAI's merges."""
    text = model.get("text_cfg")
    name = text.get("hf_tokenizer_name") if isinstance(text, dict) else None
    paths = [folder / file for file in TOKENIZER if (folder / file).is_file()] if name else []
    if name and not paths:
        raise AbsError(f"{folder} has no files of the tokenizer {name} that its model needs")
    return paths or [path for path in [folder / MERGES] if path.is_file()]
