"""Folders that hold a model in its library's own layout, read without importing the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
        if parts := [name for name in self.weights if (folder / f"{name}.index.json").exists()]:
            raise AbsError(
                f"weights of {self.what} in {folder} are in several files; load the model with its "
                f"library and save it again as one file {parts[0]}"
            )
        raise AbsError(f"weights of {self.what} not found in {folder}: expected one of {expected}")

    def complete(self, folder: Path) -> bool:
        """Return whether a folder holds configuration and weights."""
        present = [name for name in self.weights if (folder / name).is_file()]
        return bool(present) and (folder / self.config).is_file()


OPEN_CLIP = FolderLayout(
    "CLIP",
    "open_clip_config.json",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    (MERGES, *TOKENIZER),
)
"""Layout of open_clip."""
TRANSFORMERS = FolderLayout(
    "CLIP",
    "config.json",
    ("model.safetensors", "pytorch_model.bin"),
    ("preprocessor_config.json", "processor_config.json", *TOKENIZER),
)
"""Layout of transformers."""
TOKENIZER_OF_TRANSFORMERS = FolderLayout(
    "the tokenizer",
    "tokenizer_config.json",
    ("tokenizer.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt"),
    TOKENIZER,
)
"""Layout of a tokenizer of transformers; its vocabulary takes the place of weights."""
VIT = FolderLayout("the attention model", "config.json", ("model.safetensors", "pytorch_model.bin"))
"""Layout of timm."""


def read_vit(folder: Path) -> Resolved:
    """Read a ViT from a folder in timm's layout; AbsError if part of it is missing."""
    config = files.read_json(folder / VIT.config, "model configuration")
    if not isinstance(config, dict):
        raise AbsError(f"model configuration {folder / VIT.config} is not a mapping")
    return Resolved(f"{LOCAL}{folder}", config, VIT.weights_in(folder))
