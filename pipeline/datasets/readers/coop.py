"""Reader of CoOp's splits: `split_zhou_<dataset>.json`, lists of [path, label, class name].

Papers on learned prompts compare on these splits (Zhou et al., IJCV 2022). Paths are relative to
the file's folder, or to a folder beside the file whose name differs by dataset (`images`, `jpg`,
`2750`, ...).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pipeline.core import files
from pipeline.core.errors import AbsError, ConfigError, MissingInput, did_you_mean
from pipeline.datasets.labels import classes_of_labels, parse_label
from pipeline.datasets.listing import Columns, LayoutNotFound, Listing, require_utf8, subfolders

PATTERN = "split_zhou_*.json"
DEFAULT = "test"
"""Split that papers report."""

Row = tuple[str, int | None, str]
"""Path, label and class name of an image; no label if it is null or blank."""


def read_coop(root: Path, columns: Columns) -> Listing:
    """Read one split, by default `test`, of the file `root` or of the only one in that folder.

    Classes are those of all splits, so that each split has the same labels. Rows without a label
    are skipped. AbsError names a row
    that is no [path, label, class name], a label with two names, or a path listed twice;
    MissingInput if no image is found.
    """
    if columns.image or columns.label:
        raise ConfigError("dataset.image and label: a split of CoOp has no columns; remove them")
    file = _file(root)
    splits = _splits(file)
    chosen = columns.split or DEFAULT
    if not splits.get(chosen):
        filled = [name for name, rows in splits.items() if rows]
        raise ConfigError(
            f"dataset.split: {file} has no images in {chosen!r}; {did_you_mean(chosen, filled)}"
        )
    names = _names(file, [row for rows in splits.values() for row in rows])
    classes, _ = classes_of_labels(range(len(names)), names, str(file))
    folder = _folder_of_images(file, [path for path, _, _ in splits[chosen]])
    rows = sorted((str(folder / path), label) for path, label, _ in splits[chosen])
    samples = [(path, label) for path, label in rows if label is not None]
    skipped = [(path, "no label") for path, label in rows if label is None]
    layout = f"split {chosen!r} of {file.name}, images in {folder}/"
    return Listing(classes, samples, layout, skipped=skipped)


def split_files_at(root: Path) -> list[Path]:
    """Return the split files that `root` can mean: itself, or those in the folder."""
    if root.is_file():
        return [root] if root.suffix == ".json" else []
    return sorted(root.glob(PATTERN))


def _file(root: Path) -> Path:
    found = split_files_at(root)
    if not found:
        raise LayoutNotFound(f"{root} is not a JSON file and has no {PATTERN}")
    if len(found) > 1:
        raise ConfigError(
            f"dataset.root: {root} has {', '.join(path.name for path in found)}; choose one file"
        )
    return found[0]


def _splits(file: Path) -> dict[str, list[Row]]:
    content = files.read_json(file, "a split of CoOp")
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise AbsError(
            f"{file}: expected lists of [path, label, class name] by split, as in {PATTERN}"
        )
    return {split: _rows(rows, f"{file}, split {split!r}, row") for split, rows in content.items()}


def _rows(values: list[object], where: str) -> list[Row]:
    rows = [_row(value, f"{where} {number}") for number, value in enumerate(values, 1)]
    seen: set[str] = set()
    for number, (path, _, _) in enumerate(rows, 1):
        if path in seen:
            raise AbsError(f"{where} {number}: {path!r} is listed twice")
        seen.add(path)
    return rows


def _row(value: object, where: str) -> Row:
    if isinstance(value, list) and len(value) == 3:
        path, stored, name = value
        label = parse_label(stored, where)
        if isinstance(path, str) and not isinstance(label, str) and isinstance(name, str):
            return require_utf8(str(PurePosixPath(path))), label, name.strip()
    raise AbsError(f"{where}: expected [path, label, class name], found {str(value)[:60]}")


def _names(file: Path, rows: list[Row]) -> list[str]:
    """Return the class names in label order; labels are 0 to C - 1."""
    names: dict[int, str] = {}
    for _, label, name in rows:
        if label is not None and names.setdefault(label, name) != name:
            raise AbsError(f"{file}: label {label} is both {names[label]!r} and {name!r}")
    if sorted(names) != list(range(len(names))):
        raise AbsError(f"{file}: labels are not 0 to {len(names) - 1}, each with images")
    return [names[label] for label in sorted(names)]


def _folder_of_images(file: Path, paths: list[str]) -> PurePosixPath:
    """Return the folder, relative to the file's, to which the paths are relative."""
    places = [file.parent, *subfolders(file.parent)]
    for path in paths:
        if found := [place for place in places if (place / path).is_file()]:
            if len(found) > 1:
                raise AbsError(f"{file}: {path} lies in {found[0]} and in {found[1]}; remove one")
            return PurePosixPath(found[0].relative_to(file.parent).as_posix())
    raise MissingInput(
        f"{file}: none of its {len(paths)} images, such as {paths[0]}, is beside the file or in a "
        "folder beside it"
    )
