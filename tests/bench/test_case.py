"""The benchmark's dataset: images in two classes that a run can index."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench.case import Case
from pipeline.bench.small import IMAGES


def test_the_case_is_a_dataset_that_can_be_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABS_ARTIFACTS", "")
    case = Case.of(tmp_path, IMAGES, 3)
    run = case.run("store")
    run.execute(run.named("index"), [], quiet=True)
    images = run.store.open(run.named("index")[0]).table("images")
    assert sorted(images["label"]) == [0, 0, 1]
    assert len(case.files) == 3
