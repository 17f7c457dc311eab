"""Reader of a table of images: CSV or Parquet with the columns `path` and `label`.

Other columns can be chosen. The label is a class name. Paths are relative to the table's folder and
stay below it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pipeline.core.errors import AbsError, ConfigError
from pipeline.datasets.listing import Class, Columns, LayoutNotFound, Listing, require_utf8


def read_manifest(root: Path, columns: Columns) -> Listing:
    """Read the table `root`, or `manifest.csv` or `manifest.parquet` in it; classes sorted by name.

    AbsError names the first row without a path or label, with a path outside the folder, or with a
    repeated path.
    """
    if columns.split is not None:
        raise ConfigError("dataset.split: a manifest has no splits; write one table per split")
    table = _table(root)
    rows = [(require_utf8(path), str(label)) for path, label in _rows(table, columns)]
    seen: set[str] = set()
    for number, (path, label) in enumerate(rows, 1):
        _check(table, number, path, label, seen)
    names = sorted({label for _, label in rows})
    labels = {name: label for label, name in enumerate(names)}
    samples = [(path, labels[label]) for path, label in rows]
    return Listing([Class(name, name) for name in names], sorted(samples), f"rows of {table.name}")


def tables_at(root: Path) -> list[Path]:
    """Return the tables that `root` can mean; the first is read."""
    places = (root, root / "manifest.csv", root / "manifest.parquet")
    return [path for path in places if path.is_file() and path.suffix in (".csv", ".parquet")]


def _table(root: Path) -> Path:
    if tables := tables_at(root):
        return tables[0]
    raise LayoutNotFound(f"{root} is not a table and has no manifest.csv or manifest.parquet")


def _rows(table: Path, columns: Columns) -> list[tuple[str, str]]:
    import pandas as pd

    try:
        if table.suffix == ".csv":
            frame = pd.read_csv(table, dtype=str, keep_default_na=False)
        else:
            frame = pd.read_parquet(table)
    except Exception as error:  # whatever a damaged table makes pandas raise
        raise AbsError(f"{table} cannot be read: {str(error).splitlines()[0]}") from None
    wanted = [columns.image or "path", columns.label or "label"]
    if missing := [name for name in wanted if name not in frame.columns]:
        raise AbsError(f"{table}: no column {missing[0]!r}; it has {', '.join(frame.columns)}")
    if not len(frame):
        raise AbsError(f"{table} has no rows; expected one for each image")
    chosen = frame[wanted].astype(object)
    return list(chosen.where(chosen.notna(), "").astype(str).itertuples(index=False, name=None))


def _check(table: Path, number: int, path: str, label: str, seen: set[str]) -> None:
    where = f"{table}, row {number}"
    if not path or not label.strip():
        raise AbsError(f"{where}: needs a path and a label")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise AbsError(f"{where}: {path!r} is outside the table's folder")
    if (plain := str(PurePosixPath(path))) in seen:
        raise AbsError(f"{where}: {path!r} is listed twice")
    seen.add(plain)
