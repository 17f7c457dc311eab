"""Weights of a folder divided into several files with an index, as transformers divides them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

COUNT = 3
SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
"""Names of weights in one file, by format."""


def divide(folder: Path, kind: str) -> None:
    """Put the weights of a folder into several files with an index."""
    tensors = load_file(folder / SAFE)
    (folder / SAFE).unlink()
    stem, suffix = kind.split(".")
    names, places = sorted(tensors), {}
    for number in range(COUNT):
        some, file = names[number::COUNT], f"{stem}-{number + 1:05d}-of-{COUNT:05d}.{suffix}"
        save({name: tensors[name] for name in some}, folder / file)
        places |= dict.fromkeys(some, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / f"{kind}.index.json").write_text(json.dumps(index))


def save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Write tensors in the format of a file's suffix."""
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save(tensors, file)


def files_of(folder: Path) -> list[Path]:
    """Return the files of a divided model, in order."""
    return sorted(folder.glob("*-of-*"))
