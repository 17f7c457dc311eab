"""The benchmark's dataset, its ratios, and how another build is run; nothing is timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench.builds import Build
from pipeline.bench.case import Case
from pipeline.bench.small import IMAGES
from pipeline.bench.timing import in_turns
from pipeline.core.errors import AbsError


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


def test_a_ratio_is_the_median_of_pairs_and_the_first_pair_warms_up() -> None:
    ours, against = iter([90.0, 1.0, 2.0, 4.0]), iter([1.0, 3.0, 4.0, 4.0])
    row = in_turns("", lambda: next(ours), lambda: next(against), 3)
    assert (row.ours, row.against, row.ratio) == (2.0, 4.0, 2.0)


def write_build(folder: Path, body: str) -> Build:
    """A build whose command line is `body`."""
    (folder / "pipeline").mkdir(parents=True)
    (folder / "pipeline" / "__init__.py").touch()
    (folder / "pipeline" / "__main__.py").write_text("import os, sys, pathlib\n" + body)
    return Build(folder, folder / "data.yaml", "float32", folder / "store")


@pytest.mark.subprocess
def test_a_builds_seconds_are_those_of_its_manifest(tmp_path: Path) -> None:
    build = write_build(
        tmp_path,
        """
assert sys.argv[1:4] == ["embeddings", "raw", "--force"]
assert "clip.precision=float32" in sys.argv
folder = pathlib.Path(os.environ["ABS_ARTIFACTS"], "bench", "embeddings-raw", "k")
folder.mkdir(parents=True)
(folder / "manifest.json").write_text('{"seconds": {"read": 3, "compute": 8}}')
""",
    )
    assert build.seconds() == 11


@pytest.mark.subprocess
def test_a_build_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    build = write_build(tmp_path, "sys.exit('abs: no such option')")
    with pytest.raises(AbsError, match="abs index failed: abs: no such option"):
        build.prepare()
