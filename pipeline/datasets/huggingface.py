"""Datasets of the Hugging Face library, from local files; needs the extra `huggingface`.

Either what `save_to_disk` wrote, or a folder as a dataset's repository has it (Parquet below
`data/`), which the library copies once into its own cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.listing import Columns, Listing, NotThere, as_text, of_labels
from pipeline.errors import AbsError, ConfigError, MissingInput, closest
from pipeline.files import version_of
from pipeline.identity import digest

SAVED = (("dataset_dict.json",), ("state.json", "dataset_info.json"))
"""What `save_to_disk` leaves in a folder: of several splits, or of one table."""


@dataclass(frozen=True)
class InTable:
    """Images in a column of a table, by `<split>/<row>`."""

    root: Path
    column: Any
    """A datasets.Dataset of one column, whose images stay undecoded."""
    files: int
    """Digest of the versions of the files that the table is in."""

    def has(self, path: str) -> bool:
        """Whether the row exists."""
        return 0 <= _row(path) < len(self.column)

    def where(self, path: str) -> str:
        """The folder, and the row as if it were a file of it; several columns may have images."""
        (name,) = self.column.column_names
        return f"{self.root / path} ({name})"

    def read(self, path: str) -> bytes:
        """The bytes in the table; AbsError if it has only a file's name."""
        (value,) = self.column[_row(path)].values()
        content = (value or {}).get("bytes")
        if content is None:
            raise AbsError(
                f"{self.where(path)}: the table has no image bytes; save it with them, or list the "
                "files in a manifest"
            )
        return bytes(content)

    def version(self, path: str) -> list[int]:
        """The table's, and the row."""
        return [self.files, _row(path)]


def read_huggingface(root: Path, columns: Columns) -> Listing:
    """One split of the dataset in `root`, its only column of images and of labels if not chosen.

    Rows without a label (none, or -1) are skipped. ConfigError for what has to be chosen.
    """
    if not is_huggingface(root):
        raise NotThere(f"{root} has neither what save_to_disk writes nor Parquet files")
    split, table = _table(root, columns.split)
    image = _column(table, "image", columns.image)
    label = _column(table, "label", columns.label)
    values = [_plain(value, root, label) for value in table.select_columns([label])[label]]
    names = getattr(table.features[label], "names", None)
    known = [value for value in values if value is not None]
    if not known:
        raise AbsError(f"{root}: no row of {split!r} has a label; choose another dataset.split")
    classes, places = of_labels(known, names, str(root))
    rows = [(f"{split}/{row:07d}", value) for row, value in enumerate(values)]
    samples = [(path, places[value]) for path, value in rows if value is not None]
    skipped = [(path, "no label") for path, value in rows if value is None]
    held = InTable(root, _undecoded(table, image), _versions(table))
    layout = f"split {split!r}, columns {image!r} and {label!r}"
    return Listing(classes, samples, layout, skipped=skipped, contents=held)


def is_huggingface(root: Path) -> bool:
    """Whether a folder or Parquet file looks like a dataset with its images in it."""
    if _saved(root):
        return True
    files = [root] if root.is_file() else root.rglob("*.parquet")
    return any(_has_images(file) for file in files if file.suffix == ".parquet")


def _has_images(file: Path) -> bool:
    """Whether a Parquet file has a column of bytes with names, as the library stores images."""
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
    """The split's name, and its table."""
    library = _library()
    try:
        if _saved(root):
            found = library.load_from_disk(str(root))
        elif root.suffix == ".parquet":
            found = library.load_dataset("parquet", data_files=str(root))
        else:
            found = library.load_dataset(str(root))
    except Exception as error:  # whatever damaged files make the library raise
        raise AbsError(f"{root} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        name = str(found.split or "all")
        if split not in (None, name):
            raise ConfigError(f"dataset.split: {root} has no {split!r}, but only {name!r}")
        return name, found
    if split is None and len(found) > 1:
        raise ConfigError(f"dataset.split: {root} has several; choose of {', '.join(found)}")
    chosen = str(next(iter(found))) if split is None else split
    if chosen not in found:
        raise ConfigError(f"dataset.split: {root} has no {chosen!r}; {closest(chosen, found)}")
    return chosen, found[chosen]


def _column(table: Any, what: str, wanted: str | None) -> str:
    """The column of images or labels: the one wanted, the only one of its type, or so named."""
    library = _library()
    features: dict[str, Any] = table.features
    kind = library.Image if what == "image" else library.ClassLabel
    if wanted is not None:
        if wanted not in features:
            raise ConfigError(f"dataset.{what}: no column {wanted!r}; {closest(wanted, features)}")
        if what == "image" and not isinstance(features[wanted], kind):
            raise ConfigError(f"dataset.{what}: the column {wanted!r} has no images")
        return wanted
    found = [name for name, feature in features.items() if isinstance(feature, kind)]
    if what == "label" and what in features and what not in found:
        found = [*found, what]
    if len(found) == 1:
        return found[0]
    if what in found and isinstance(features[what], kind):
        return what
    raise ConfigError(f"dataset.{what}: choose one of the columns {', '.join(found or features)}")


def _plain(value: Any, root: Path, label: str) -> int | str | None:
    if value is None or value == -1 or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return as_text(value)
    raise ConfigError(f"dataset.label: column {label!r} of {root} has {value!r}, no name or number")


def _undecoded(table: Any, image: str) -> Any:
    chosen = table.select_columns([image])
    return chosen.cast_column(image, _library().Image(decode=False))


def _versions(table: Any) -> int:
    versions = [version_of(Path(each["filename"])) for each in table.cache_files]
    return int(digest(versions), 16)
