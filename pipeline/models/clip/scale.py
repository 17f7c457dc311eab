"""The logit scale that a checkpoint has learned, read without the rest of its weights."""

from __future__ import annotations

import math
from pathlib import Path

from pipeline.models import weights


def read_scale(file: Path, name: str) -> float | None:
    """Read the logit scale S of a checkpoint, whose logits are S times a cosine.

    Args:
        file: Weights file.
        name: Name of the tensor: `logit_scale`, the logarithm of S, or `temperature`, 1 / S.

    Returns:
        S to five digits, so that the 100 that most CLIPs are clipped at is 100; None if the file
            has no such tensor.

    Raises:
        AbsError: If the file cannot be read.
    """
    value = _scalar(file, name)
    if value is None:
        return None
    return float(f"{1 / value if name == 'temperature' else math.exp(value):.5g}")


def _scalar(file: Path, name: str) -> float | None:
    """Read a tensor of one number; None if there is none of this name."""
    from safetensors import SafetensorError, safe_open

    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="pt") as opened:
                if name in opened.keys():  # noqa: SIM118
                    return float(opened.get_tensor(name))
        except (SafetensorError, OSError):
            pass  # not that format, whatever its suffix
    found = weights.read(file).tensors.get(name)
    return None if found is None else float(found)
