"""Write claims as other processes would leave them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline.store import claims

HERE = os.uname().nodename


def claim_of(folder: Path, unit: str, host: str, pid: int, age: float = 0.0) -> Path:
    """Write the claim of another process on a unit, last renewed `age` seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{unit}.json"
    system = claims._system() if host == HERE else "another kernel"
    told = {"unit": unit, "host": host, "pid": pid, "system": system}
    path.write_text(json.dumps(told))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def gone() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
