"""How another build is run, and what its seconds are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench.builds import Build
from pipeline.core.errors import AbsError


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
