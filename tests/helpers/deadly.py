"""Preload for workers: one unit of the stage `attention` kills the process that computes it."""

from __future__ import annotations

import os
import signal
from typing import Any

from pipeline.store.units import Unit
from stages.attention import AttentionWorker

UNIT = "00001"

real = AttentionWorker.compute


def compute(self: AttentionWorker, unit: Unit, inputs: Any) -> Any:
    if unit.name == UNIT:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, unit, inputs)


AttentionWorker.compute = compute  # type: ignore[method-assign]
