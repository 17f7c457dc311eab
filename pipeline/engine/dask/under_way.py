"""Progress of units, sent by Dask workers as events to the command that submitted them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from pipeline.engine.work import Told

TOPIC = "abs-under-way"
"""Topic of the events on the scheduler, which forgets old ones."""

EVERY = 0.5
"""Least seconds between two events of one step, so that quick units cost none of their own."""


@lru_cache(maxsize=4)
def teller(worker: Any, run: str, stage: str) -> Told:
    """Return the function by which a worker reports progress of a stage's units."""
    last: dict[str, float] = {}

    def told(unit: str, step: str, share: float) -> None:
        now = time.monotonic()
        if now - last.get(step, -EVERY) >= EVERY:
            last[step] = now
            with suppress(Exception):  # progress is no reason to fail
                worker.log_event(TOPIC, [run, stage, unit, step, share])

    return told


def listener(run: str, stage: str, told: Told) -> Callable[[Any], None]:
    """Return the handler of the scheduler's events that passes on those of a stage of a run."""

    def hear(event: Any) -> None:
        of_run, of_stage, unit, step, share = event[1]
        if (of_run, of_stage) == (run, stage):
            told(unit, step, share)

    return hear
