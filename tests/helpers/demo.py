"""A finished run of the demo on a few of its images, computed once for all tests that read it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.runs import DEMO, ROOT, said
from tests.helpers.shared import once

EACH = 1
"""Number of images of each class."""


def finished_demo(factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return environment variables with which the run is finished.

    Tests share its store; a test that changes the store must copy it first.
    """
    folder = once(factory, "finished-demo", _make)
    return _environment(folder)


def _make(folder: Path) -> None:
    write_images(folder / "data")
    done = said("run", "--dataset", "demo", **_environment(folder))
    assert done.returncode == 0, done.stderr


def _environment(folder: Path) -> dict[str, str]:
    places = {"ABS_ARTIFACTS": folder / "artifacts", "ABS_DATA": folder / "data"}
    return {**{name: str(place) for name, place in places.items()}, "OMP_NUM_THREADS": "1"}


def write_images(folder: Path) -> Path:
    """Copy the first images of each class of the demo below `folder`, as a folder of datasets."""
    for source in sorted((DEMO / "images").iterdir()):
        target = folder / (DEMO / "images").relative_to(ROOT) / source.name
        target.mkdir(parents=True)
        for image in sorted(source.iterdir())[:EACH]:
            shutil.copy(image, target)
    return folder
