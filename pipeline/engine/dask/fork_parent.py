"""Quick imports and a quick end, for the process that workers are forked from.

Modules stay, so that garbage is looked for among them less often; and once torch is imported,
Python takes a second to free what the system frees. Importing this module does both.
"""

from __future__ import annotations

import atexit
import gc
import os

gc.set_threshold(10_000)
_parent = os.getpid()


@atexit.register
def _leave() -> None:
    if os.getpid() == _parent:  # what is forked from it ends in its own way
        os._exit(0)
