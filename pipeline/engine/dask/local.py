"""Local Dask cluster: a number of worker processes, with one GPU each if there are several.

Also holds the configuration that switches off features of Dask.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import ConfigError
from pipeline.core.progress import Reporter

if TYPE_CHECKING:
    from distributed import LocalCluster

    from pipeline.core.runtime import Runtime
    from pipeline.engine.dask.client import Connection

MAX_PER_CORE = 8
"""Workers per CPU core; a larger `--workers` is taken for a typing error."""

CONFIG = {
    # A unit is small beside its model, which cannot be spilled: a paused worker would never go on.
    # The nanny restarts a worker that exceeds its memory limit.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # A unit that kills its worker also loses the units that ran beside it. The scheduler
    # reschedules each once; further attempts are the driver's, the last with no other pending.
    "distributed.scheduler.allowed-failures": 1,
    "distributed.worker.profile.enabled": False,  # samples every thread 100 times a second
    # Restarting a worker may take long; the cluster must not close it meanwhile.
    "distributed.deploy.lost-worker-timeout": "1 day",
    # Replaces Dask's defaults, which trim memory on every free and limit OpenMP and BLAS to one
    # thread. Workers use as many threads as a single process, for the same bytes; idle ones sleep.
    # It is set in this process, and stays.
    "distributed.nanny.pre-spawn-environ": {"OMP_WAIT_POLICY": "PASSIVE"},
    # Set in workers alone: their standard error is this terminal, which shows this process's line.
    "distributed.nanny.environ": {"TTY_COMPATIBLE": "0"},
}
"""Configuration of Dask while local workers are running."""

IMPORTED = ["distributed", "distributed.nanny", "open_clip", "timm", "pandas", "pyarrow", "zarr"]
"""Modules that workers find imported; none of them starts a thread or touches a GPU by that."""

PRELOADED = ["pipeline.engine.dask.fork_parent", *IMPORTED]
"""Modules that the process imports from which workers are forked."""


@contextmanager
def workers_here(count: int, reporter: Reporter, runtime: Runtime) -> Iterator[Connection]:
    """Start local workers and connect to them (`--workers`). Raises ConfigError if too many."""
    from pipeline.engine.dask.client import connected

    with (
        _started(count, _gpus(count, runtime.device)) as cluster,
        connected(cluster, "--workers", "the local scheduler", reporter) as connection,
    ):
        yield connection


def _gpus(count: int, device: str) -> list[str]:
    """Return CUDA_VISIBLE_DEVICES for each worker; empty without several workers and GPUs."""
    import torch

    if count > MAX_PER_CORE * (cores := os.cpu_count() or 1):
        limit = MAX_PER_CORE * cores
        raise ConfigError(f"--workers {count}: this machine has {cores} cores; at most {limit}")
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if gpus < 2 or count < 2:
        return []
    if count > gpus:
        raise ConfigError(f"--workers {count}: this machine has {gpus} GPUs, for one worker each")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (visible.split(",") if visible else [str(i) for i in range(gpus)])[:count]


@contextmanager
def _forked_after_imports() -> Iterator[None]:
    """Fork workers from a process that has imported what they need, so that it is imported once.

    On Linux only: elsewhere libraries of the system need not survive a fork.
    """
    import dask
    from distributed.utils import get_mp_context

    if sys.platform != "linux":
        yield
        return
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(PRELOADED)  # after Dask has set its own
        yield


@contextmanager
def _started(count: int, gpus: list[str]) -> Iterator[LocalCluster]:
    """Run a scheduler in this process, and workers in their own processes, inside the block."""
    import dask
    from distributed import LocalCluster
    from distributed.system import MEMORY_LIMIT

    from pipeline.engine.dask.client import SILENT
    from pipeline.engine.dask.worker import THREADS

    class OneGpuEach(LocalCluster):
        """Cluster whose workers see one GPU each, if `gpus` names them."""

        def new_worker_spec(self) -> dict[int, Any]:
            """Return the specification of the next worker, by its number."""
            base: Any = super()
            ((number, spec),) = base.new_worker_spec().items()
            env = {"CUDA_VISIBLE_DEVICES": gpus[number]} if gpus else {}
            return {number: {**spec, "options": {**spec["options"], "env": env}}}

    # After a kill the resource tracker cleans up semaphores, which needs no warning.
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    with dask.config.set(CONFIG), _forked_after_imports():
        with warnings.catch_warnings(action="ignore"):  # the usual dashboard port may be taken
            kind: Any = OneGpuEach
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
