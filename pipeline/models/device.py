"""Device that models run on, and silence for warnings of libraries about checked conditions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.core.errors import AbsError
from pipeline.core.runtime import Runtime


def device_of(runtime: Runtime) -> torch.device:
    """Return the device that `runtime.device` names, and set the number of threads.

    Raises:
        AbsError: If torch cannot use the device.
    """
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(runtime.device)
        if device.type == "meta":
            raise RuntimeError("it computes no values")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].partition(": ")[0]
        reason = "no device of torch" if reason.startswith("Expected one of") else reason
        raise AbsError(
            f"runtime.device: cannot use {runtime.device!r} ({reason}); this machine has "
            f"{', '.join(devices_here())}"
        ) from None
    return device


def devices_here() -> list[str]:
    """List the values of `runtime.device` that this machine has."""
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["auto", "cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]


def device_name(device: torch.device) -> str:
    """Return `cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings of a library while it builds a model; errors still propagate."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
