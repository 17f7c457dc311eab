"""Reader of a table of images: CSV, Parquet or JSON lines with the columns `path` and `label`.

Other columns can be chosen; `file_name` is read where there is no `path`, as in `metadata.csv` of
image folders of the Hugging Face library. Paths are relative to the table's folder and stay below
it. A column `split`, or else folders such as `train` and `test` that the paths begin with, part the
rows into splits, which are never mixed unasked.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.errors import AbsError, ConfigError, did_you_mean
from pipeline.datasets.labels import Label, classes_of_labels, parse_labels
from pipeline.datasets.listing import Columns, LayoutNotFound, Listing, require_utf8
from pipeline.datasets.readers.parts import splits_among

Stored = dict[str, Callable[[], list[Any]]]
"""Values of each column, read when called."""
NAMES = ("manifest", "metadata")
"""Names of tables that are looked for in a folder, with each suffix in order."""
PATHS, LABEL = ("path", "file_name"), "label"
"""Usual columns of paths, of which the first that is there is read, and of labels."""
SEPARATORS = {";", "\t", "|"}
"""Separators of cells in tables other than CSV."""
SPLIT, ALL = "split", "all"
"""Column of splits, and the choice of every row."""


def read_manifest(root: Path, columns: Columns) -> Listing:
    """Read the table `root`, or `manifest.*` or `metadata.*` in that folder.

    Rows without a path or a label are skipped. AbsError names the first row with a label that is
    none, a path outside the folder, or a repeated path; ConfigError the splits, if there are
    several and none is chosen.
    """
    table = _table(root)
    paths, values, splits = _columns(table, columns)
    numbers = _rows_of_split(table, splits, columns.split)
    paths, values = ([column[number - 1] for number in numbers] for column in (paths, values))
    labels = parse_labels(values, str(table), lambda i: f"{table}, row {numbers[i]}")
    samples: list[tuple[str, Label]] = []
    skipped: list[tuple[str, str]] = []
    seen: set[str] = set()
    for number, path, label in zip(numbers, paths, labels, strict=True):
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
    part = f" of split {columns.split!r}" if columns.split else ""
    return Listing(classes, listed, f"rows of {table.name}{part}", skipped=skipped)


def _rows_of_split(table: Path, splits: list[str], chosen: str | None) -> list[int]:
    """Return the numbers, from 1, of the rows to read; `splits` is the split of each row, empty
    where it cannot be told."""
    known = sorted(set(splits) - {""})
    if chosen is None and len(known) > 1:
        raise ConfigError(
            f"dataset.split: the rows of {table} are of several splits; choose one of "
            f"{', '.join(known)}, or {ALL} (abs init: --split)"
        )
    if chosen not in (None, ALL, *known):
        hint = did_you_mean(str(chosen), known) if known else "its rows have no split"
        raise ConfigError(f"dataset.split: {table} has no rows of {chosen!r}; {hint}")
    return [n for n, split in enumerate(splits, 1) if chosen in (None, ALL, split) or not split]


def _splits(stored: Stored, paths: list[str]) -> list[str]:
    """Return the split of each row: its cell in the column `split`, else the folder that its path
    begins with if these folders look like splits; empty without either."""
    if SPLIT in stored:
        cells = ["" if value is None else str(value).strip() for value in stored[SPLIT]()]
        return [cell or "(blank)" for cell in cells]
    folders = [path and (PurePosixPath(path).parts[:-1] or (".",))[0] for path in paths]
    found = splits_among(sorted(set(folders) - {"", "."}))
    return folders if len(found) > 1 else [""] * len(paths)


def table_at(root: Path) -> Path | None:
    """Return the table that `root` is or has; None without one."""
    names = [f"{name}{suffix}" for name in NAMES for suffix in READERS]
    places = [root] if root.is_file() else [root / name for name in names]
    return next((path for path in places if path.is_file() and is_table(path)), None)


def is_table(path: Path) -> bool:
    """Return whether a file's name has the suffix of a table, whatever its case."""
    return path.suffix.lower() in READERS


def labels_images(table: Path) -> bool:
    """Return whether a table has the usual columns of paths and labels; AbsError if damaged."""
    stored = _read(table)
    return LABEL in stored and any(name in stored for name in PATHS)


def _table(root: Path) -> Path:
    if table := table_at(root):
        return table
    raise LayoutNotFound(
        f"{root} is not a table and has no {' or '.join(NAMES)} ({', '.join(READERS)})"
    )


def _columns(table: Path, columns: Columns) -> tuple[list[str], list[Any], list[str]]:
    """Return paths, empty where missing, labels as they are stored, and splits; AbsError without
    paths or labels."""
    stored = _read(table)
    usual = next((name for name in PATHS if name in stored), PATHS[0])
    wanted = {"image": columns.image or usual, "label": columns.label or LABEL}
    for field, name in wanted.items():
        if name not in stored:
            raise AbsError(
                f"{table}: no column {name!r}; it has {', '.join(map(str, stored))}; "
                f"choose one by dataset.{field} (abs init: --{field}-column)"
            )
    paths, labels = (stored[name]() for name in wanted.values())
    if not paths:
        raise AbsError(f"{table} has no rows; expected one for each image")
    for number, path in enumerate(paths, 1):
        if not isinstance(path, str | None):
            raise AbsError(f"{table}, row {number}: expected a path, found {path!r}")
    known = [require_utf8(path or "") for path in paths]
    return known, labels, _splits(stored, known)


def _read(table: Path) -> Stored:
    try:
        return READERS[table.suffix.lower()](table)
    except UnicodeDecodeError:
        raise AbsError(f"{table} cannot be read: it is not UTF-8; save it as UTF-8") from None
    except Exception as error:  # whatever a damaged table makes the libraries raise
        raise AbsError(f"{table} cannot be read: {str(error).splitlines()[0]}") from None


def _read_csv(table: Path) -> Stored:
    """Read cells as text. ValueError for columns of one name, a row of another length, or cells
    that are not parted by commas."""
    with open(table, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        header = [name.strip() for name in next(rows, [])]
        if len(header) == 1 and (found := SEPARATORS & set(header[0])):
            raise ValueError(f"its cells are parted by {found.pop()!r}; save it with commas")
        if twice := [name for name in header if header.count(name) > 1]:
            raise ValueError(f"two columns are called {twice[0]!r}")
        cells = []
        for row in rows:
            if row and len(row) != len(header):
                raise ValueError(f"line {rows.line_num} has {len(row)} cells, not {len(header)}")
            cells += [row] if row else []
    columns = zip(*cells, strict=True) if cells else ((),) * len(header)
    return {name: partial(list, column) for name, column in zip(header, columns, strict=True)}


def _read_parquet(table: Path) -> Stored:
    """Read columns without pandas, which turns nulls among whole numbers into floats."""
    from pyarrow import parquet

    stored = parquet.read_table(table)
    return {name: stored[name].to_pylist for name in stored.column_names}


def _read_json_lines(table: Path) -> Stored:
    """Read one object a line; a field that a line does not have is null."""
    lines = table.read_text(encoding="utf-8-sig").split("\n")
    rows = [_object(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: partial(list, [row.get(name) for row in rows]) for name in names}


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is not a JSON object")
    return row


READERS = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_json_lines}
"""Readers of tables by suffix."""


def _check(table: Path, number: int, path: str, seen: set[str]) -> None:
    where = f"{table}, row {number}"
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise AbsError(
            f"{where}: {path!r} is not below the table's folder and relative to it; write it so, "
            "or move the table to a folder above the images"
        )
    if (plain := str(PurePosixPath(path))) in seen:
        raise AbsError(f"{where}: {path!r} is listed twice")
    seen.add(plain)
