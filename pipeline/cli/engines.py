"""Which engine the options of a command choose: this process, local workers, or a Dask cluster."""

from __future__ import annotations

import re
from functools import partial

from pipeline.core.errors import ConfigError
from pipeline.core.progress import Reporter
from pipeline.engine.base import Engine, Part
from pipeline.engine.dask.driver import Cluster
from pipeline.engine.dask.local import workers_here
from pipeline.engine.inline import Inline
from pipeline.run import rebuild

ADDRESS = re.compile(r"(tcp|tls|wss?|ucxx?)://([\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", re.ASCII)


def engine_of(workers: int | None, scheduler: str | None, part: str | None, quiet: bool) -> Engine:
    """The engine that computes units; ConfigError for options that exclude each other."""
    share = Part.parse(part) if part is not None else None
    address = ADDRESS.fullmatch(scheduler) if scheduler is not None else None
    if scheduler is not None and not (address and 0 < int(address[3]) < 2**16):
        raise ConfigError(f"--scheduler {scheduler!r}: write an address: tcp://host:8786")
    if scheduler and (workers or part):
        raise ConfigError("--scheduler: its workers share all units; leave --workers and --part")
    if workers:
        return Cluster(partial(workers_here, workers, Reporter(quiet)), rebuild, share)
    if scheduler:
        from pipeline.engine.dask.client import scheduler_at  # imports Dask

        return Cluster(partial(scheduler_at, scheduler, Reporter(quiet)), rebuild)
    return Inline(share)
