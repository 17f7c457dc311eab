"""Entry point of `abs`, and of `python -m pipeline`.

Signals are caught before anything else is imported, so that an interrupted command ends in one
line however early it is hit.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Leave at once, without what libraries still have under way; the unit at hand is dropped."""
    if claims := sys.modules.get("pipeline.store.claims"):
        claims.drop_all()
    message = "abs: stopped; finished units are kept, the same command goes on from there\n"
    screen = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""  # clear the bar, show the cursor
    os.write(2, f"{screen}{message}".encode())
    os._exit(128 + number)


def _leave(code: int) -> None:
    """End at once: once torch is imported, Python takes a second to free what the system frees."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # Python says so as it ends, with a code of its own
        return
    os._exit(code)


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    gc.set_threshold(10_000)  # modules stay; looking for garbage among them takes half a second
    code = 1
    atexit.register(lambda: _leave(code))  # the first to be registered is called last
    from pipeline.cli.app import run_app

    code = run_app()
    sys.exit(code)


if __name__ == "__main__":
    main()
