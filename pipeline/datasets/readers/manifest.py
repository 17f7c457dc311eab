"""Reader of a table of images: CSV or Parquet with the columns `path` and `label`.

Other columns can be chosen. Paths are relative to the table's folder and stay below it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.errors import AbsError, ConfigError
from pipeline.datasets.labels import Label, classes_of_labels, parse_labels
from pipeline.datasets.listing import Columns, LayoutNotFound, Listing, require_utf8


def read_manifest(root: Path, columns: Columns) -> Listing:
    """Read the table `root`, or `manifest.csv` or `manifest.parquet` in it.

    Rows without a path or a label are skipped. AbsError names the first row with a label that is
    none, a path outside the folder, or a repeated path.
    """
    if columns.split is not None:
        raise ConfigError("dataset.split: a manifest has no splits; write one table per split")
    table = _table(root)
    paths, values = _columns(table, columns)
    labels = parse_labels(values, str(table), lambda i: f"{table}, row {i + 1}")
    samples: list[tuple[str, Label]] = []
    skipped: list[tuple[str, str]] = []
    seen: set[str] = set()
    for number, (path, label) in enumerate(zip(paths, labels, strict=True), 1):
        if not path:
            skipped.append((f"row {number}", "no path"))
        elif label is None:
            skipped.append((path, "no label"))
        else:
            _check(table, number, path, seen)
            samples.append((path, label))
    if not samples:
        raise AbsError(f"{table}: no row has a path and a label")
    classes, indices = classes_of_labels({label for _, label in samples}, None, str(table))
    listed = sorted((path, indices[label]) for path, label in samples)
    return Listing(classes, listed, f"rows of {table.name}", skipped=skipped)


def tables_at(root: Path) -> list[Path]:
    """Return the tables that `root` can mean; the first is read."""
    places = (root, root / "manifest.csv", root / "manifest.parquet")
    return [path for path in places if path.is_file() and path.suffix in (".csv", ".parquet")]


def _table(root: Path) -> Path:
    if tables := tables_at(root):
        return tables[0]
    raise LayoutNotFound(f"{root} is not a table and has no manifest.csv or manifest.parquet")


def _columns(table: Path, columns: Columns) -> tuple[list[str], list[Any]]:
    """Return paths, empty where missing, and labels as they are stored; AbsError without them."""
    wanted = [columns.image or "path", columns.label or "label"]
    try:
        stored = _read_csv(table) if table.suffix == ".csv" else _read_parquet(table)
    except Exception as error:  # whatever a damaged table makes the libraries raise
        raise AbsError(f"{table} cannot be read: {str(error).splitlines()[0]}") from None
    if missing := [name for name in wanted if name not in stored]:
        raise AbsError(f"{table}: no column {missing[0]!r}; it has {', '.join(map(str, stored))}")
    paths, labels = (stored[name]() for name in wanted)
    if not paths:
        raise AbsError(f"{table} has no rows; expected one for each image")
    for number, path in enumerate(paths, 1):
        if not isinstance(path, str | None):
            raise AbsError(f"{table}, row {number}: expected a path, found {path!r}")
    return [require_utf8(path or "") for path in paths], labels


def _read_csv(table: Path) -> dict[str, Callable[[], list[Any]]]:
    import pandas as pd

    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    return {str(name): frame[name].tolist for name in frame}


def _read_parquet(table: Path) -> dict[str, Callable[[], list[Any]]]:
    """Read columns without pandas, which turns nulls among whole numbers into floats."""
    from pyarrow import parquet

    stored = parquet.read_table(table)
    return {name: stored[name].to_pylist for name in stored.column_names}


def _check(table: Path, number: int, path: str, seen: set[str]) -> None:
    where = f"{table}, row {number}"
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise AbsError(f"{where}: {path!r} is outside the table's folder")
    if (plain := str(PurePosixPath(path))) in seen:
        raise AbsError(f"{where}: {path!r} is listed twice")
    seen.add(plain)
