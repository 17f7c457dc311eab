"""To be loaded by a worker as it starts: one unit of `attention` ends the process it is done in."""

from __future__ import annotations

import os
import signal
from typing import Any

from pipeline.stage import Unit
from stages.attention import AttentionWorker

UNIT = "00001"

real = AttentionWorker.compute


def compute(self: AttentionWorker, unit: Unit, inputs: Any) -> Any:
    if unit.name == UNIT:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, unit, inputs)


AttentionWorker.compute = compute  # type: ignore[method-assign]
