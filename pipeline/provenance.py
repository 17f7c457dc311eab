"""What a reader needs to reproduce a number: recorded in every manifest, never in a key."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.config import Section
from pipeline.stage import Stage
from pipeline.store import Store

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "zarr",
    "pandas",
    "pyarrow",
    "pillow",
)
ROOT = Path(__file__).resolve().parent.parent


def provenance(stage: Stage, store: Store, settings: Section) -> dict[str, Any]:
    """Identity, upstream digests, settings, code, command line, versions and machine."""
    return {
        "identity": stage.identity(),
        "upstream": {
            up.name: {"key": up.key, "digest": store.open(up).manifest["digest"]}
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
    """Commit and dirtiness of the code that ran; empty outside a git checkout."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return run.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except OSError:
        return {}
