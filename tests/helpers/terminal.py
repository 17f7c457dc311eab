"""A terminal of its own for a command, by the `pty` of the standard library."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

from tests.helpers.runs import ABS, ROOT

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SLOW = """
import time
from pipeline.models.batches import Batches

quick = Batches._try


def slow(function, batch):
    time.sleep(0.6)
    return quick(function, batch)


Batches._try = staticmethod(slow)
"""


def slowed(folder: Path) -> dict[str, str]:
    """An environment in which every batch of a model takes its time, in workers too."""
    (folder / "sitecustomize.py").write_text(SLOW)
    return {"PYTHONPATH": str(folder)}


def on_a_terminal(*words: str | Path, **environment: str) -> str:
    """What `abs` writes to a terminal of 80 columns, without codes for colours and the cursor."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    told = {"TERM": "xterm", **os.environ, **environment}
    told = {name: value for name, value in told.items() if name not in ("COLUMNS", "NO_COLOR")}
    started = subprocess.Popen(
        [str(ABS), *map(str, words)], stdin=its, stdout=its, stderr=its, cwd=ROOT, env=told
    )
    os.close(its)
    written = bytearray()
    try:
        while some := os.read(ours, 65536):
            written += some
    except OSError:  # the command has closed it
        pass
    os.close(ours)
    assert started.wait(60) == 0, written.decode(errors="replace")
    return ANSI.sub("", written.decode())
