"""A terminal of its own for a command, by the `pty` of the standard library."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path
from select import select

import pytest

from tests.helpers.forked import ended, start_abs

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SLOW = """
import time
from pipeline.models import batches

quick = batches._of_filled


def slow(*given):
    time.sleep(0.6)
    return quick(*given)


batches._of_filled = slow
"""
"""A program after which every batch of a model takes its time."""


def on_a_terminal(*words: str | Path, folder: Path, first: str = "") -> str:
    """What `abs` writes to a terminal of 80 columns, without codes for colours and the cursor.

    `folder` is empty; `first` is a program that is run before.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", os.environ.get("TERM", "xterm"))
        for name in ("COLUMNS", "NO_COLOR"):
            patch.delenv(name, raising=False)
        attached = f"import os\nit = os.open({os.ttyname(its)!r}, os.O_RDWR)\n"
        attached += "for standard in range(3):\n    os.dup2(it, standard)\nos.close(it)\n"
        started = start_abs(*words, output=folder / "output", first=attached + first)
    assert select([ours], [], [], 120)[0], "nothing was written"
    os.close(its)  # the command has opened it
    written = bytearray()
    try:
        while some := os.read(ours, 65536):
            written += some
    except OSError:  # the command has closed it
        pass
    os.close(ours)
    done = ended(started, folder / "output")
    assert done.returncode == 0, written.decode(errors="replace") + done.stderr
    return ANSI.sub("", written.decode())
