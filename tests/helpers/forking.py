"""A module that nannies of Dask load: they fork workers from a process that has imported torch.

A worker that is started or replaced is ready at once; otherwise each imports for five seconds.
"""

from __future__ import annotations

from distributed import Nanny
from distributed.utils import get_mp_context

from pipeline.engine.dask.local import PRELOADED


async def dask_setup(nanny: Nanny) -> None:
    get_mp_context().set_forkserver_preload(PRELOADED)
