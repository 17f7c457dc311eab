"""A store with a run whose images settle early, and one with all crops of each."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.run import Run
from tests.helpers import shared
from tests.helpers.runs import make_all, write_dataset

N, P = 20, 1e-5
SETTLED = (f"scores.n={N}", "scores.expectation=true", f"scores.settle={P}")
"""Settings under which some images of the small dataset settle at once, others late or never."""


def run_in(folder: Path, store: str, *changes: str) -> Run:
    os.environ["ABS_ARTIFACTS"] = str(folder / store)
    return Run.of(str(folder / "tiny.yaml"), "official", ["scores.methods=[clip,abs]", *changes])


def run_of_both(folder: Path, name: str) -> Run:
    return run_in(folder, name, *(SETTLED if name == "settled" else SETTLED[:-1]))


def settled_and_whole(factory: pytest.TempPathFactory) -> Path:
    """A folder with a store `settled`, which has settled views, and `whole`, which has all."""

    def make(folder: Path) -> None:
        write_dataset(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ABS_ARTIFACTS", "")
            found = {name: make_all(run_of_both(folder, name)) for name in ("settled", "whole")}
        (folder / "digests.json").write_text(json.dumps(found))

    return shared.once(factory, "settled", make)
