"""Folders that hold a model in its library's own layout, read without importing the library.

What else lies in a folder never counts: only files that decide the model's output do, so that one
model is the same model in a checkout, in a cache of the hub and in a folder of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import AbsError
from pipeline.models.resolved import LOCAL, Resolved

MERGES = "merges.txt.gz"
"""Merges of open_clip's own tokenizer, where a model has others than OpenAI's."""

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
"""What a tokenizer of transformers is made of."""


@dataclass(frozen=True)
class Layout:
    """Names of a model folder's files."""

    what: str
    config: str
    weights: tuple[str, ...]
    """Any one of them, the best first."""
    others: tuple[str, ...] = ()
    """Fetched from a repository where it has them."""

    def weights_in(self, folder: Path) -> Path:
        """The weights in `folder`; AbsError if there are none."""
        for name in self.weights:
            if (folder / name).is_file():
                return folder / name
        expected = ", ".join(self.weights)
        raise AbsError(f"weights of {self.what} not found in {folder}: expected one of {expected}")

    def complete(self, folder: Path) -> bool:
        """Whether `folder` holds configuration and weights."""
        found = [name for name in self.weights if (folder / name).is_file()]
        return bool(found) and (folder / self.config).is_file()


CLIP = Layout(
    "CLIP",
    "open_clip_config.json",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    (MERGES, *TOKENIZER),
)
VIT = Layout("the attention model", "config.json", ("model.safetensors", "pytorch_model.bin"))


def read_clip(folder: Path) -> Resolved:
    """The CLIP in `folder`, as open_clip lays it out; AbsError if part of it is missing."""
    path = folder / CLIP.config
    config = files.read_json(path, "model configuration")
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise AbsError(f"model configuration {path} has no model_cfg")
    architecture = {"model": config["model_cfg"], "preprocess": config.get("preprocess_cfg")}
    extra = tuple(_tokenizer_files(folder, config["model_cfg"]))
    return Resolved(f"{LOCAL}{folder}", architecture, CLIP.weights_in(folder), extra=extra)


def read_vit(folder: Path) -> Resolved:
    """The ViT in `folder`, as timm lays it out; AbsError if part of it is missing."""
    config = files.read_json(folder / VIT.config, "model configuration")
    if not isinstance(config, dict):
        raise AbsError(f"model configuration {folder / VIT.config} is not a mapping")
    return Resolved(f"{LOCAL}{folder}", config, VIT.weights_in(folder))


def _tokenizer_files(folder: Path, model: dict[str, Any]) -> list[Path]:
    text = model.get("text_cfg")
    name = text.get("hf_tokenizer_name") if isinstance(text, dict) else None
    found = [folder / each for each in TOKENIZER if (folder / each).is_file()] if name else []
    if name and not found:
        raise AbsError(f"{folder} has no files of the tokenizer {name} that its model needs")
    return found or [path for path in [folder / MERGES] if path.is_file()]
