"""The logit scale that a checkpoint has learned, read without the rest of its weights."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pipeline.models import shards, weights


def read_scale(file: Path, name: str) -> float | None:
    """Read the logit scale S of a checkpoint, whose logits are S times a cosine.

    Args:
        file: Weights file.
        name: Name of the tensor: `logit_scale`, the logarithm of S, or `temperature`, 1 / S.

    Returns:
        S to five digits, so that the 100 that most CLIPs are clipped at is 100; not finite or 0 if
            the tensor is none of a trained model. None if the file has no such tensor.

    Raises:
        AbsError: If the file cannot be read.
    """
    value = _scalar(file, name)
    if value is None:
        return None
    scale = value.double().reciprocal() if name == "temperature" else value.double().exp()
    return float(f"{float(scale):.5g}")


def _scalar(file: Path, name: str) -> Tensor | None:
    """Read a tensor of one number; None if there is none of this name."""
    from safetensors import SafetensorError, safe_open

    parts = shards.read_index(file) if shards.is_index(file) else {file: {name}}
    holder = next((path for path, names in parts.items() if name in names), file)
    if holder.suffix == ".safetensors":
        try:
            with safe_open(holder, framework="pt") as opened:
                if name in opened.keys():  # noqa: SIM118
                    return _of_one(opened.get_tensor(name))
        except (SafetensorError, OSError):
            pass  # not that format, whatever its suffix
    found = weights.read(file).tensors.get(name)
    return None if found is None else _of_one(found)


def _of_one(tensor: Tensor) -> Tensor | None:
    """Return a tensor if it holds one number; else None."""
    return tensor if tensor.numel() == 1 else None
