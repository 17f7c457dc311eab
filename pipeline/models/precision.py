"""In which floating point a model works: a choice that is part of what it yields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from pipeline.settings import Settings

Precision = Literal["float32", "bfloat16", "float16"]
Choice = Literal["auto", "float32", "bfloat16", "float16"]


def settle(settings: Settings) -> tuple[Settings, list[str]]:
    """The settings with `auto` replaced by what serves this device best, and what was chosen."""
    sections = [name for name in ("clip", "attention") if _of(settings, name) == "auto"]
    if not sections:
        return settings, []
    chosen, reason = best(settings.runtime.device)
    update = {
        name: getattr(settings, name).model_copy(update={"precision": chosen}) for name in sections
    }
    notes = [f"{name}.precision: {chosen}, since {reason}" for name in sections]
    return settings.model_copy(update=update), notes


def best(device: str) -> tuple[Precision, str]:
    """The fastest precision that models of this kind bear on `runtime.device`, and why."""
    import torch

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        return _on_cuda(device if device.startswith("cuda") else "cuda")
    if device not in ("auto", "cpu"):
        return "float32", f"nothing is known of {device}"
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512")):
        if flag in _flags():
            return "bfloat16", f"this CPU multiplies it with {name}"
    return "float32", "this CPU has no instructions for shorter ones"


def dtype_of(precision: Choice) -> torch.dtype:
    """torch's name for it."""
    import torch

    found: torch.dtype = getattr(torch, precision)
    return found


def _of(settings: Settings, section: str) -> Choice:
    found: Choice = getattr(settings, section).precision
    return found


def _on_cuda(device: str) -> tuple[Precision, str]:
    import torch

    if not torch.cuda.is_available():
        return "float32", "there is no CUDA device"
    name = torch.cuda.get_device_name(device)
    major, _ = torch.cuda.get_device_capability(device)
    if major >= 8:
        return "bfloat16", f"{name} has tensor cores for it"
    return "float16", f"{name} has none for bfloat16"


def _flags() -> set[str]:
    try:
        with open("/proc/cpuinfo") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return set()
    return set(line.split())
