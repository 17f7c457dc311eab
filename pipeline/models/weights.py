"""Load tensors from weights files without running any code of theirs.

safetensors files hold only tensors. Pickles are read by torch's restricted reader, which accepts
tensors only. TorchScript archives, the format of OpenAI's CLIPs, are opened by torch's own reader.
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

from pipeline.core.errors import AbsError
from pipeline.models.device import quiet

NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys of a training checkpoint that may hold the weights, the preferred first."""

OPENAI = ("input_resolution", "context_length", "vocab_size")
"""Entries of OpenAI's archives that are not weights."""


def is_torchscript(file: Path) -> bool:
    """Return whether a file is a TorchScript archive; False if it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read(file: Path) -> dict[str, Tensor]:
    """Load the tensors of a weights file by name, on the CPU.

    Reads safetensors, files of torch.save with tensors or with a checkpoint of them, and OpenAI's
    TorchScript archives.

    Raises:
        AbsError: For any other file.
    """
    try:
        with quiet():
            content = _content(file)
    except pickle.UnpicklingError:
        raise _unloadable(file, "it holds more than tensors; convert it to safetensors") from None
    except Exception as error:  # of many types, for a damaged file
        raise _unloadable(file, short_reason(error)) from None
    tensors = {_plain_name(name): value for name, value in content.items()}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise _unloadable(file, "it is not a mapping of names to tensors")
    return tensors


def short_reason(error: Exception) -> str:
    """Shorten a library's error, which may fill a screen, to one line."""
    words = str(error).split() or [type(error).__name__]
    return textwrap.shorten(" ".join(words), 240, placeholder=" ...")


def _unloadable(file: Path, reason: str) -> AbsError:
    """Return the error for a file that cannot be loaded."""
    return AbsError(f"weights {file} cannot be loaded: {reason}")


def _content(file: Path) -> dict[str, Any]:
    """Load a file by its format."""
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
    """Load one of OpenAI's archives."""
    tensors = torch.jit.load(str(file), map_location="cpu").state_dict()
    if not all(name in tensors for name in OPENAI):
        raise ValueError("a TorchScript archive, but not one of OpenAI's; save its state_dict")
    return {name: value for name, value in tensors.items() if name not in OPENAI}


def _plain_name(name: str) -> str:
    """Strip prefixes that training wrappers add to names."""
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name
