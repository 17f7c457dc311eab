"""Reader of datasets of the Hugging Face library in local files; needs the extra `huggingface`.

It reads the output of `save_to_disk`, or a copy of a dataset's repository (Parquet below `data/`),
which the library converts once into its own cache.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import AbsError, ConfigError, MissingInput, did_you_mean
from pipeline.core.files import version_of
from pipeline.core.hashing import digest
from pipeline.datasets.labels import classes_of_labels, parse_labels
from pipeline.datasets.listing import (
    Columns,
    LayoutNotFound,
    Listing,
    refuse_missing_parts,
)
from pipeline.datasets.samples import Samples

SAVED = (("dataset_dict.json",), ("state.json", "dataset_info.json"))
"""Files that `save_to_disk` writes: for several splits, or for one table."""


ROWS = 5000
"""Rows whose sha256 are kept together."""

NO_LABEL = -1
"""Label that the library gives rows without one."""


@dataclass(frozen=True)
class TableContents:
    """Images in a column of a table; their paths are `<split>/<row>`."""

    root: Path
    column: Any
    """A datasets.Dataset of one column with undecoded images."""
    files: int
    """Digest of the versions of the table's files."""

    def has(self, path: str) -> bool:
        """Return whether the row exists."""
        return 0 <= _row(path) < len(self.column)

    def group(self, path: str) -> str:
        """Return the split, and the number of a block of rows in it."""
        return f"{path.rpartition('/')[0]}/{_row(path) // ROWS}"

    def where(self, path: str) -> str:
        """Return folder, row and column: `<root>/<split>/<row> (<column>)`."""
        (name,) = self.column.column_names
        return f"{self.root / path} ({name})"

    def read(self, path: str) -> bytes:
        """Return the bytes in the table; AbsError if it holds only a file name."""
        (value,) = self.column[_row(path)].values()
        content = (value or {}).get("bytes")
        if content is None:
            raise AbsError(
                f"{self.where(path)}: the table has no image bytes; save it with them, or list the "
                "files in a manifest"
            )
        return bytes(content)

    def version(self, path: str) -> list[int]:
        """Return the digest of the table's files, and the row."""
        return [self.files, _row(path)]


def read_huggingface(root: Path, columns: Columns) -> Listing:
    """Read one split of the dataset in `root`.

    Columns default to the only one of images and the only one of labels. Rows without a label
    (null, empty or -1) are skipped. ConfigError if split or column must be chosen.
    """
    if not is_huggingface(root):
        raise LayoutNotFound(f"{root} has neither the output of save_to_disk nor Parquet files")
    split, table = _table(root, columns.split)
    refuse_missing_parts(_parts(root, split))
    image = _column(table, "image", columns.image)
    label = _column(table, "label", columns.label)
    if hasattr(table.features[label], "decode"):
        raise ConfigError(
            f"dataset.label: column {label!r} of {root} is {type(table.features[label]).__name__}; "
            "expected a name or a number"
        )
    stored = table.select_columns([label])[label]
    found = parse_labels(list(stored), str(root), lambda i: f"{root}, row {i} of {label!r}")
    values = [None if value == NO_LABEL else value for value in found]
    missing = _missing_images(table, image)
    names = getattr(table.features[label], "names", None)
    labels = {value for value in values if value is not None}
    if not labels:
        raise AbsError(f"{root}: no row of {split!r} has a label; choose another dataset.split")
    classes, indices = classes_of_labels(labels, names, str(root))
    samples, skipped = Samples(), list[tuple[str, str]]()
    for row, value in enumerate(values):
        path = f"{split}/{row:07d}"
        if value is None:
            skipped.append((path, "no label"))
        elif row in missing:
            skipped.append((path, missing[row]))
        else:
            samples.extend([(path, indices[value])])
    if not samples:
        raise AbsError(
            f"{root}: no row of {split!r} has a label and image bytes: {skipped[0][1]}; "
            "save the table with its images, or list files in a manifest"
        )
    contents = TableContents(root, _undecoded(table, image), _versions(table))
    layout = f"split {split!r}, columns {image!r} and {label!r}"
    return Listing(classes, samples, layout, skipped=skipped, contents=contents)


def is_huggingface(root: Path) -> bool:
    """Return whether a folder or Parquet file looks like a dataset that contains its images."""
    if _saved(root):
        return True
    files = [root] if root.is_file() else root.rglob("*.parquet")
    return any(_has_images(file) for file in files if file.suffix == ".parquet")


def _has_images(file: Path) -> bool:
    """Return whether a Parquet file has a struct column (bytes, path): the library's images."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        kinds = parquet.read_schema(file).types
    except (OSError, pa.ArrowInvalid):
        return False
    structs = [kind for kind in kinds if pa.types.is_struct(kind)]
    return any({"bytes", "path"} <= {field.name for field in kind} for kind in structs)


def _row(path: str) -> int:
    return int(path.rpartition("/")[2])


def _saved(root: Path) -> bool:
    return any(all((root / name).is_file() for name in names) for names in SAVED)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingInput(
            "the reader huggingface needs the library datasets: pip install 'abs-pipeline"
            "[huggingface]'"
        ) from None
    return datasets


def _table(root: Path, split: str | None) -> tuple[str, Any]:
    """Return the split's name and its table."""
    library = _library()
    try:
        if _saved(root):
            loaded = library.load_from_disk(str(root))
        elif root.suffix == ".parquet":
            loaded = library.load_dataset("parquet", data_files=str(root))
        else:
            loaded = library.load_dataset(str(root))
    except Exception as error:  # whatever damaged files make the library raise
        if str(error).startswith("Config name is missing"):
            raise ConfigError(
                f"dataset.root: {root} holds several configurations; give the folder or the "
                "Parquet file of one"
            ) from None
        raise AbsError(f"{root} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(loaded, dict):
        name = str(loaded.split or "all")
        if split not in (None, name):
            raise ConfigError(f"dataset.split: {root} has no {split!r}, but only {name!r}")
        return name, loaded
    if split is None and len(loaded) > 1:
        splits = ", ".join(loaded)
        raise ConfigError(
            f"dataset.split: {root} has several splits; choose one of {splits} (abs init: --split)"
        )
    chosen = str(next(iter(loaded))) if split is None else split
    if chosen not in loaded:
        hint = did_you_mean(chosen, loaded)
        raise ConfigError(f"dataset.split: {root} has no {chosen!r}; {hint}")
    return chosen, loaded[chosen]


def _parts(root: Path, split: str) -> list[Path]:
    """Return the Parquet files of one split: those named after it, or all if none is."""
    files = [] if _saved(root) else [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    named = [file for file in files if split in re.split("[-_.]", file.stem)]
    return named or files


def _column(table: Any, what: str, wanted: str | None) -> str:
    """Return the column of images or labels: the chosen one, the only one of its type, or the one
    called `what`."""
    library = _library()
    features: dict[str, Any] = table.features
    kind = library.Image if what == "image" else library.ClassLabel
    if wanted is not None:
        if wanted not in features:
            raise ConfigError(
                f"dataset.{what}: no column {wanted!r}; {did_you_mean(wanted, features)}"
            )
        if what == "image" and not isinstance(features[wanted], kind):
            raise ConfigError(f"dataset.{what}: the column {wanted!r} has no images")
        return wanted
    candidates = [name for name, feature in features.items() if isinstance(feature, kind)]
    if what == "label" and what in features and what not in candidates:
        candidates = [*candidates, what]
    if len(candidates) == 1:
        return candidates[0]
    if what in candidates and isinstance(features[what], kind):
        return what
    if what == "image" and not candidates:
        raise AbsError(
            f"no column of the type Image among {', '.join(features)}; cast the column of images "
            "with cast_column and save the table again"
        )
    others = [name for name, feature in features.items() if not isinstance(feature, library.Image)]
    names = ", ".join(candidates or others)
    raise ConfigError(
        f"dataset.{what}: choose one of the columns {names} (abs init: --{what}-column)"
    )


def _missing_images(table: Any, image: str) -> dict[int, str]:
    """Return the rows without image bytes, each with the reason; no image is read."""
    import pyarrow.compute as pc

    # Arrow's own columns: reading rows through the library would load every image.
    column = table.data.column(image)
    empty = pc.is_null(pc.struct_field(column, "bytes")).to_pylist()
    unnamed = pc.is_null(pc.struct_field(column, "path")).to_pylist()
    rows = range(len(empty)) if table._indices is None else table._indices.column(0).to_pylist()
    reasons = {True: "no image", False: "no image bytes, only the path of a file"}
    return {row: reasons[unnamed[place]] for row, place in enumerate(rows) if empty[place]}


def _undecoded(table: Any, image: str) -> Any:
    chosen = table.select_columns([image])
    return chosen.cast_column(image, _library().Image(decode=False))


def _versions(table: Any) -> int:
    versions = [version_of(Path(file["filename"])) for file in table.cache_files]
    return int(digest(versions), 16)
