"""Choice of the engine by command line options: this process, local workers, a Dask cluster."""

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
    """Return the engine for these options. Raises ConfigError for wrong or conflicting ones."""
    share = Part.parse(part) if part is not None else None
    address = ADDRESS.fullmatch(scheduler) if scheduler is not None else None
    if scheduler is not None and not (address and 0 < int(address[3]) < 2**16):
        raise ConfigError(f"--scheduler {scheduler!r}: expected an address such as tcp://host:8786")
    if scheduler and (workers or part):
        raise ConfigError(
            "--scheduler cannot be combined with --workers or --part; its workers share all units"
        )
    if workers:
        return Cluster(partial(workers_here, workers, Reporter(quiet)), rebuild, share, workers)
    if scheduler:
        from pipeline.engine.dask.client import scheduler_at  # imports Dask

        return Cluster(partial(scheduler_at, scheduler, Reporter(quiet)), rebuild)
    return Inline(share)
