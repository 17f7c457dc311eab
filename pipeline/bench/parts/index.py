"""Comparisons of the index stage: with decoding alone, and of unchanged files with new ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

from pipeline.bench.case import Case
from pipeline.bench.timing import Row, compare
from pipeline.datasets.images import decode

FILES = 200
"""Number of files that are indexed."""


def rows(case: Case, pairs: int) -> Iterator[Row]:
    """Compare the index stage with decoding alone, and a second index with the first."""
    class_folder = case.folder / "many" / "any"
    class_folder.mkdir(parents=True)
    for i in range(FILES):
        source = case.files[i % len(case.files)]
        (class_folder / f"{i:04d}{source.suffix}").symlink_to(source.resolve())
    links = sorted(class_folder.iterdir())

    def index(delete_store: bool) -> None:
        one_class = f"dataset.root={class_folder.parent}", "dataset.single_class=true"
        run = case.run("index", *one_class, "index.max_skipped=1")
        if delete_store:
            shutil.rmtree(case.folder / "index", ignore_errors=True)
        run.execute(run.named("index"), [], quiet=True)

    row = compare(
        f"index of {FILES} files, against decoding them",
        lambda: index(True),
        lambda: [decode(file.read_bytes()) for file in links],
        pairs,
    )
    yield replace(row, note=f"{FILES / row.ours:,.0f} images/s")
    row = compare(
        "index of unchanged files, against their first index",
        lambda: index(False),
        lambda: index(True),
        pairs,
    )
    yield replace(row, note=f"{FILES / row.ours:,.0f} images/s")
