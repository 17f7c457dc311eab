"""Where arithmetic runs, and the settings that keep it the same from run to run."""

from __future__ import annotations

import torch

from pipeline.errors import AbsError
from pipeline.runtime import Runtime


def device_of(runtime: Runtime) -> torch.device:
    """The device that `runtime.device` means; AbsError if torch cannot use it."""
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(runtime.device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise AbsError(f"runtime.device: cannot use {runtime.device!r} ({reason})") from None
    return device
