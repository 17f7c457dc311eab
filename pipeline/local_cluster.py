"""A Dask cluster of this machine: so many processes, of several GPUs one each.

What Dask is told to leave alone is told here.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.progress import Reporter

if TYPE_CHECKING:
    from distributed import LocalCluster

    from pipeline.link import Link
    from pipeline.runtime import Runtime

MOST = 8
"""Workers for a core, beyond which a number is a slip."""

CONFIG = {
    # A unit is small beside its model, which cannot be spilled: a worker that waited for memory
    # would wait for ever, one that has none left is replaced.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # A unit that kills its process is asked for again, and takes others with it until it is alone.
    "distributed.scheduler.allowed-failures": 1,
    "distributed.worker.profile.enabled": False,  # a hundred looks a second at every thread
    # A nanny starts its worker again however long that takes; it is not to be closed meanwhile.
    "distributed.deploy.lost-worker-timeout": "1 day",
    # Nothing of Dask's own: memory that every free gives back, and threads that are one whatever is
    # asked for. These are as many as in a process of its own, for the same bytes; idle ones sleep.
    "distributed.nanny.pre-spawn-environ": {
        "OMP_WAIT_POLICY": "PASSIVE",
        "TTY_COMPATIBLE": "0",
    },
}
"""Of workers that are started here."""


@contextmanager
def workers_here(count: int, reporter: Reporter, runtime: Runtime) -> Iterator[Link]:
    """The link to so many workers of this machine. ConfigError for a number that cannot be."""
    from pipeline.link import linked

    with (
        _started(count, _gpus(count, runtime.device)) as cluster,
        linked(cluster, "--workers", "the scheduler of these workers", reporter) as link,
    ):
        yield link


def _gpus(count: int, device: str) -> list[str]:
    """Of several GPUs the one of each worker, as CUDA_VISIBLE_DEVICES names them; else none."""
    import torch

    if count > MOST * (cores := os.cpu_count() or 1):
        raise ConfigError(f"--workers {count}: this machine has {cores} cores")
    found = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if found < 2 or count < 2:
        return []
    if count > found:
        raise ConfigError(f"--workers {count}: there are {found} GPUs, and one worker for each")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (visible.split(",") if visible else [str(i) for i in range(found)])[:count]


@contextmanager
def _started(count: int, gpus: list[str]) -> Iterator[LocalCluster]:
    """A scheduler in this process, and workers in processes of their own, until the block ends."""
    import dask
    from distributed import LocalCluster
    from distributed.system import MEMORY_LIMIT

    from pipeline.cluster_worker import THREADS
    from pipeline.link import SILENT

    class OneEach(LocalCluster):
        """Workers that see one GPU each, where there are several."""

        def new_worker_spec(self) -> dict[int, Any]:
            """Of the worker to be started next, by its number."""
            usual: Any = super()
            ((number, spec),) = usual.new_worker_spec().items()
            only = {"CUDA_VISIBLE_DEVICES": gpus[number]} if gpus else {}
            return {number: {**spec, "options": {**spec["options"], "env": only}}}

    # If this process is stopped at once, what it leaves is tidied up, and not worth a warning.
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    with dask.config.set(CONFIG):
        with warnings.catch_warnings(action="ignore"):  # that the usual port is taken
            kind: Any = OneEach
            cluster = kind(
                n_workers=0,
                threads_per_worker=THREADS,
                memory_limit=MEMORY_LIMIT // count,
                dashboard_address="localhost:8787",
                silence_logs=SILENT,
            )
        with cluster:
            cluster.scale(count)
            yield cluster
