"""Provenance of an artifact: recorded in its manifest to reproduce a number, never in a key."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from typing import Any

from pipeline.core.paths import PROJECT
from pipeline.core.section import Section
from pipeline.stage import Stage
from pipeline.store.store import Store

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "zarr",
    "numpy",
    "numba",
    "pandas",
    "pyarrow",
    "pillow",
)


def provenance(stage: Stage, store: Store, settings: Section) -> dict[str, Any]:
    """Return identity, upstream digests, settings, code, command line, versions and machine."""
    return {
        "identity": stage.identity(),
        "upstream": {
            up.name: {"key": up.key, "digest": store.open(up).digest(up.units(store))}
            for up in stage.upstream
        },
        "settings": settings.model_dump(mode="json"),
        "code": git_state(),
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"host": os.uname().nodename, "processor": platform.machine()},
    }


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


@cache
def git_state() -> dict[str, Any]:
    """Return commit and dirtiness of the code that ran; empty outside a git checkout."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", str(PROJECT), *words], capture_output=True, text=True)
        return run.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
    except OSError:
        return {}  # no git on this machine
    return {"commit": commit, "dirty": bool(git("status", "--porcelain"))} if commit else {}
