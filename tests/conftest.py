"""Fixtures: a small dataset of real files, a store of its own for every test, pictures."""

from __future__ import annotations

import atexit
import gc
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

from pipeline.core import files
from pipeline.core.files import write_json
from pipeline.datasets.contents import FolderContents
from pipeline.datasets.images import Images, decode
from pipeline.run import Run
from tests.helpers import shared
from tests.helpers.runs import DEMO, Runner, make_all, write_dataset

# What a machine takes is not what is tested. A change is judged by the same examples at every run;
# at a desk each run draws its own, so that new ones are found there.
settings.register_profile("plain", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("plain")


# Processes of pytest share the cores: threads that wait for each other take the time of the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A process for each core; with one more, cores are never idle, but the suite takes longer."""
    return os.cpu_count() or 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage among modules and tests, while they are loaded and after: they stay."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # or libraries in C++ report, as the process ends, what is left


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Files are not forced to the disk: no test cuts the power, and the disk is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _timestamps_that_tell() -> Iterator[None]:
    """Files are taken to be older than a step of timestamps: tests have only just made theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "TICK", 0)
        yield


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The YAML of a dataset of 2 classes x 4 images; the store lies beside it."""
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    return write_dataset(tmp_path)


@pytest.fixture
def run_of(tiny: Path) -> Runner:
    """Makes a Run over `tiny` with N = 4 and further changes."""

    def make(*changes: str) -> Run:
        return Run.of(str(tiny), "official", ["scores.n=4", *changes])

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every stage of a run like `run_of()` is finished."""

    return shared.once(tmp_path_factory, "finished", finish) / "store"


def finish(folder: Path, *changes: str) -> None:
    """Make all stages of a run over a small dataset."""
    dataset = write_dataset(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(folder / "store"))
        run = Run.of(str(dataset), "official", ["scores.n=4", *changes])
        write_json(folder / "digests.json", make_all(run))


@pytest.fixture(scope="session")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a run like `run_of("layout.images=1")`: a unit for each image."""

    def make(folder: Path) -> None:
        finish(folder, "layout.images=1")

    folder = shared.once(tmp_path_factory, "one-by-one", make)
    found: dict[str, str] = json.loads((folder / "digests.json").read_text())
    return found


@pytest.fixture
def made(run_of: Runner, finished: Path, tmp_path: Path) -> Run:
    """`run_of()` with every stage finished, in a store of its own."""
    shutil.copytree(finished, tmp_path / "store")
    return run_of()


@pytest.fixture(scope="session")
def pictured() -> pd.DataFrame:
    """An index of three of the demo's images: a square and both oblongs."""
    files = sorted((DEMO / "images").glob("*/*"))[:3]
    shas = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return pd.DataFrame({"path": [str(file) for file in files], "sha256": shas})


@pytest.fixture
def images(pictured: pd.DataFrame) -> Images:
    """The same, as stages read them."""
    return Images(FolderContents(Path("/")), pictured)


@pytest.fixture(scope="session")
def pictures(pictured: pd.DataFrame) -> list[Image.Image]:
    """The same, decoded."""
    return [decode(Path(path).read_bytes()) for path in pictured["path"]]
