"""A report of the small store, written once, and the same with texts that try to be markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.report.choice import Choice
from pipeline.report.stored import StoredRun, find_run
from pipeline.report.write import write_report
from tests.helpers import shared

HOSTILE = (
    "</script><script>window.broken=1</script>",
    "\"'><img src=x onerror=window.broken=1>",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "long " + "x" * 300,
    "{{ 7 * 7 }} & <b>bold</b> \u2028 \\u003c",
)
"""Names that a page must show as they are."""


@pytest.fixture(scope="session")
def run(finished: Path) -> StoredRun:
    """The run of the small store."""
    return find_run(str(finished.parent / "tiny.yaml"), overrides=["scores.n=4"], place=finished)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory, run: StoredRun) -> Path:
    """The folder of its report."""

    def make(folder: Path) -> None:
        write_report(run, folder / "report", Choice(), say=lambda line: None)

    return shared.once(tmp_path_factory, "report", make) / "report"
