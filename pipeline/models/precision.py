"""Floating-point precision of a model; part of the model's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch


Precision = Literal["float32", "bfloat16", "float16"]
"""dtype of a model's weights and products."""
Choice = Literal["auto", "float32", "bfloat16", "float16"]
"""Values of the setting `precision`."""


def best(device: str) -> tuple[Precision, str]:
    """Return the fastest precision that suits CLIP and ViTs on a device, and the reason.

    Args:
        device: The setting `runtime.device`.
    """
    import torch

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        return _on_cuda(device if device.startswith("cuda") else "cuda")
    if device not in ("auto", "cpu"):
        return "float32", f"other precisions are untested on {device}"
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512")):
        if flag in _flags():
            return "bfloat16", f"this CPU has {name} instructions for it"
    return "float32", "this CPU has no bfloat16 instructions"


def dtype_of(precision: Choice) -> torch.dtype:
    """Return torch's dtype of a precision."""
    import torch

    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _on_cuda(device: str) -> tuple[Precision, str]:
    """Choose by the GPU's compute capability."""
    import torch

    if not torch.cuda.is_available():
        return "float32", "no CUDA device is available"
    name = torch.cuda.get_device_name(device)
    major, _ = torch.cuda.get_device_capability(device)
    if major >= 8:
        return "bfloat16", f"{name} has tensor cores for it"
    return "float16", f"{name} has no tensor cores for bfloat16"


def _flags() -> set[str]:
    """Read the CPU's feature flags on Linux; empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return set()
    return set(line.split())
