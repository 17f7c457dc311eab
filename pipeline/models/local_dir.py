"""Folders that hold a model in its library's own layout, read without importing the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.models import shards
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
    sharded: bool = False
    """True if weights may be in several files with an index (`pipeline.models.shards`)."""

    def weights_in(self, folder: Path) -> Path:
        """Return the weights file in a folder, or the index of several.

        Raises:
            AbsError: If there is none, or the files are not those of the index.
        """
        for name in self.files:
            if (folder / name).is_file():
                if shards.is_index(folder / name):
                    shards.check(folder / name)
                return folder / name
        expected = ", ".join(self.weights)
        raise AbsError(f"weights of {self.what} not found in {folder}: expected one of {expected}")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the weights, in one file or as an index of several; the preferred first."""
        indices = [f"{name}{shards.INDEX}" for name in self.weights if self.sharded]
        return (*self.weights, *indices)

    def complete(self, folder: Path) -> bool:
        """Return whether a folder holds configuration and weights, all of several files."""
        present = [folder / name for name in self.files if (folder / name).is_file()]
        if not present or not (folder / self.config).is_file():
            return False
        try:
            return bool(shards.files_of(present[0]))
        except AbsError:
            return False


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
    sharded=True,
)
"""Layout of transformers."""
TOKENIZER_OF_TRANSFORMERS = FolderLayout(
    "the tokenizer",
    "tokenizer_config.json",
    ("tokenizer.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt"),
    TOKENIZER,
)
"""Layout of a tokenizer of transformers; its vocabulary takes the place of weights."""
VIT = FolderLayout(
    "the attention model",
    "config.json",
    ("model.safetensors", "pytorch_model.bin"),
    sharded=True,
)
"""Layout of timm."""


def read_vit(folder: Path) -> Resolved:
    """Read a ViT from a folder in timm's layout; AbsError if part of it is missing."""
    config = files.read_json(folder / VIT.config, "model configuration")
    if not isinstance(config, dict):
        raise AbsError(f"model configuration {folder / VIT.config} is not a mapping")
    return Resolved(f"{LOCAL}{folder}", config, VIT.weights_in(folder))
