"""A Dask cluster of this machine: so many processes, of several GPUs one each.

What Dask is told to leave alone is told here.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import ConfigError

MOST = 8
"""Workers for a core, beyond which a number is a slip."""

SILENT = logging.CRITICAL + 1

CONFIG = {
    # A unit is small beside its model, which cannot be spilled: a worker that waited for memory
    # would wait for ever, one that has none left is replaced.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
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
def started(workers: int, device: str) -> Iterator[Any]:
    """A cluster, until the block ends. ConfigError for a number that cannot be."""
    import dask

    from pipeline.cluster_worker import THREADS

    kind = _kind(workers, device)
    # If this process is stopped at once, what it leaves is tidied up, and not worth a warning.
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    with dask.config.set(CONFIG):
        with warnings.catch_warnings(action="ignore"):  # that the usual port is taken
            cluster = kind(
                n_workers=workers,
                threads_per_worker=THREADS,
                dashboard_address="localhost:8787",
                silence_logs=SILENT,
            )
        with cluster:
            yield cluster


def _kind(workers: int, device: str) -> Any:
    """What starts workers here: where there are several GPUs, one for each."""
    import torch
    from distributed import LocalCluster

    if workers > MOST * (cores := os.cpu_count() or 1):
        raise ConfigError(f"--workers {workers}: this machine has {cores} cores")
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if gpus < 2 or workers < 2:
        return LocalCluster
    if workers > gpus:
        raise ConfigError(f"--workers {workers}: there are {gpus} GPUs, and one worker for each")
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError:
        raise ConfigError(
            f"--workers {workers} on {gpus} GPUs needs dask-cuda: pip install 'abs-pipeline[cuda]'"
        ) from None
    return LocalCUDACluster
