"""Folders that are filled once per test run and shared by its processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name`; the first process that requests it fills it with `make`."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # xdist gives each of its processes a folder below a common one
    folder, done = base / "shared" / name, base / "shared" / f".{name}.done"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.parent / f".{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
