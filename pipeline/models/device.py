"""Where arithmetic runs; and libraries that warn of what has been checked already."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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


def name_of(device: torch.device) -> str:
    """`cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings from a library while it builds a model; its errors still come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
