"""Tensors out of weights files, none of which may run code.

safetensors holds nothing but tensors; of a pickle only tensors are taken, by torch's restricted
reader; a TorchScript archive, in which OpenAI gave out its CLIPs, is opened by torch's own reader.
"""

from __future__ import annotations

import pickle
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import AbsError
from pipeline.models.device import quiet

NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where a checkpoint of training keeps the weights, the better first."""

OPENAI = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's archives hold beside the weights."""


def is_torchscript(file: Path) -> bool:
    """Whether `file` is a TorchScript archive; False if it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, on the CPU.

    Reads safetensors, what torch.save makes of tensors or of a checkpoint with them, and OpenAI's
    TorchScript archives. Raises AbsError for anything else.
    """
    try:
        with quiet():
            found = _content(file)
    except pickle.UnpicklingError:
        raise _unloadable(file, "it holds more than tensors; convert it to safetensors") from None
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise _unloadable(file, in_one_line(error)) from None
    tensors = {_plain_name(name): value for name, value in found.items()}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise _unloadable(file, "it is no mapping of names to tensors")
    return tensors


def in_one_line(error: Exception) -> str:
    """What a library says is wrong, which may fill a screen."""
    words = str(error).split() or [type(error).__name__]
    return textwrap.shorten(" ".join(words), 240, placeholder=" ...")


def _unloadable(file: Path, reason: str) -> AbsError:
    return AbsError(f"weights {file} cannot be loaded: {reason}")


def _content(file: Path) -> dict[str, Any]:
    if file.suffix == ".safetensors":
        return dict(load_file(file))
    if is_torchscript(file):
        return _openai(file)
    content = torch.load(file, map_location="cpu", weights_only=True)
    for name in NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            return dict(content[name])
    return dict(content)


def _openai(file: Path) -> dict[str, Any]:
    tensors = torch.jit.load(str(file), map_location="cpu").state_dict()
    if not all(name in tensors for name in OPENAI):
        raise ValueError("a TorchScript archive, but not one of OpenAI's; save its state_dict")
    return {name: value for name, value in tensors.items() if name not in OPENAI}


def _plain_name(name: str) -> str:
    """Without the prefixes of wrappers that training puts around a model."""
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name
