"""A table of images: CSV or Parquet with the columns `path` and `label`.

The label is a class name. Paths are relative to the table's folder and stay below it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pipeline.datasets.listing import Class, Listing, NotThere, as_text
from pipeline.errors import AbsError

COLUMNS = ("path", "label")


def read_manifest(root: Path) -> Listing:
    """The table `root`, or the `manifest.csv` or `manifest.parquet` in it; classes in sorted order.

    AbsError names the first row that has no path or label, leaves the folder, or repeats a path.
    """
    table = _table(root)
    rows = [(as_text(path), str(label)) for path, label in _rows(table)]
    seen: set[str] = set()
    for number, (path, label) in enumerate(rows, 1):
        _check(table, number, path, label, seen)
    names = sorted({label for _, label in rows})
    place = {name: label for label, name in enumerate(names)}
    samples = [(path, place[label]) for path, label in rows]
    return Listing([Class(name, name) for name in names], sorted(samples), f"rows of {table.name}")


def _table(root: Path) -> Path:
    for path in (root, root / "manifest.csv", root / "manifest.parquet"):
        if path.is_file() and path.suffix in (".csv", ".parquet"):
            return path
    raise NotThere(f"{root} is no table and has no manifest.csv or manifest.parquet")


def _rows(table: Path) -> list[tuple[str, str]]:
    import pandas as pd

    try:
        if table.suffix == ".csv":
            frame = pd.read_csv(table, dtype=str, keep_default_na=False)
        else:
            frame = pd.read_parquet(table)
    except Exception as error:  # whatever a damaged table makes pandas raise
        raise AbsError(f"{table} cannot be read: {str(error).splitlines()[0]}") from None
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise AbsError(f"{table}: no column {missing[0]!r}; it has {', '.join(frame.columns)}")
    if not len(frame):
        raise AbsError(f"{table} has no rows; expected one for each image")
    chosen = frame[list(COLUMNS)].astype(object)
    return list(chosen.where(chosen.notna(), "").astype(str).itertuples(index=False, name=None))


def _check(table: Path, number: int, path: str, label: str, seen: set[str]) -> None:
    where = f"{table}, row {number}"
    if not path or not label.strip():
        raise AbsError(f"{where}: needs a path and a label")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise AbsError(f"{where}: {path!r} leaves the table's folder")
    if (plain := str(PurePosixPath(path))) in seen:
        raise AbsError(f"{where}: {path!r} stands there twice")
    seen.add(plain)
