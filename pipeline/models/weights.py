"""Load tensors from weights files without running any code of theirs.

safetensors files hold only tensors. Pickles are read by torch's restricted reader, and archives
that hold other objects too by one that replaces these objects (`inert_pickle`). TorchScript
archives, the format of OpenAI's CLIPs, are opened by torch's own reader.
"""

from __future__ import annotations

import pickle
import re
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.core.errors import AbsError
from pipeline.models import inert_pickle
from pipeline.models.device import quiet

WRAPPERS = (
    *("teacher", "state_dict_ema", "model_ema", "ema", "ema_state_dict"),
    *("state_dict", "model", "module", "network", "student"),
)
"""Keys of a training checkpoint that may hold the weights, the preferred first."""

PREFIXES = ("_orig_mod.", "module.", "teacher.", "student.", "model.", "network.", "backbone.")
"""Prefixes that training wrappers add to the names of parameters, the preferred first."""

CHUNKED = re.compile(r"blocks\.[0-9]+\.([0-9]+)\.")
"""Names of DINOv2's blocks where they are trained in chunks: `blocks.<chunk>.<block>.`"""

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
    TorchScript archives, by their content. Wrappers of training are taken off.

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
    tensors = _tensors(content)
    if not tensors:
        raise _unloadable(file, "it is not a mapping of names to tensors")
    return plain_names(tensors)


def short_reason(error: Exception) -> str:
    """Shorten a library's error, which may fill a screen, to one line."""
    words = str(error).split() or [type(error).__name__]
    return textwrap.shorten(" ".join(words), 240, placeholder=" ...")


def _unloadable(file: Path, reason: str) -> AbsError:
    """Return the error for a file that cannot be loaded."""
    return AbsError(f"weights {file} cannot be loaded: {reason}")


def _content(file: Path) -> Any:
    """Load a file by its format."""
    if file.suffix == ".safetensors" or _is_safetensors(file):
        return dict(load_file(file))
    if is_torchscript(file):
        return _openai(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not zipfile.is_zipfile(file):
            raise
    return torch.load(file, map_location="cpu", weights_only=False, pickle_module=inert_pickle)


def _is_safetensors(file: Path) -> bool:
    """Return whether a file begins with the header of safetensors, whatever its suffix."""
    with file.open("rb") as opened:
        start = opened.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a mapping, or of one that a checkpoint wraps; none otherwise."""
    if not isinstance(content, dict):
        return {}
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    inner = (_tensors(content[name]) for name in WRAPPERS if name in content)
    return tensors or next(filter(None, inner), {})


def _openai(file: Path) -> dict[str, Any]:
    """Load one of OpenAI's archives."""
    tensors = torch.jit.load(str(file), map_location="cpu").state_dict()
    if not all(name in tensors for name in OPENAI):
        raise ValueError("a TorchScript archive, but not one of OpenAI's; save its state_dict")
    return {name: value for name, value in tensors.items() if name not in OPENAI}


def plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefixes of training wrappers, and with them what is not wrapped, such as heads."""
    for prefix in (*PREFIXES, *PREFIXES):
        wrapped = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        if wrapped and (prefix == "teacher." or 2 * len(wrapped) > len(tensors)):
            tensors = wrapped
    if all(CHUNKED.match(name) for name in tensors if name.startswith("blocks.")):
        tensors = {CHUNKED.sub(r"blocks.\1.", name): value for name, value in tensors.items()}
    return tensors
