"""Import results of another system: check them against the images and classes of a dataset."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.core.files import write_atomic
from pipeline.core.words import counted
from pipeline.datasets.classes import Classes
from pipeline.datasets.labels import parse_label
from pipeline.methods.imported import FOLDER, METADATA, PREFIX, digest_of

if TYPE_CHECKING:
    import pandas as pd

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ID, PREDICTION = "image_id", "pred"
"""Columns of images and of predictions."""


def import_scores(
    file: Path, folder: Path, name: str, source: str, images: pd.Series[str], classes: Classes
) -> tuple[Path, str]:
    """Import the results of a file.

    Args:
        file: CSV or Parquet with `image_id` and either `pred`, a label or class name, or a column
            of scores for each competing class, under its name or label.
        folder: Folder of the dataset's artifacts.
        name: Name of the results.
        source: Where they come from, in words.
        images: Ids of the dataset's images.
        classes: Competing classes.

    Returns:
        The written file.
        What it holds, in words.

    Raises:
        ConfigError: For a name that is none.
        AbsError: For a file that does not fit the dataset.
    """
    import pandas as pd

    if not NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: use letters, digits, dots, dashes and underscores")
    table = _of_images(_read(file), file, images)
    labels = {name: label for label, name in reversed([*enumerate(classes.names)])}
    count = len(classes.names)
    if PREDICTION in table:
        values, what = _one_hot(table[PREDICTION], file, labels, count), "predictions"
    else:
        values, what = _scores(table, file, labels, count), "scores"
    columns = [str(label) for label in range(count)]
    scores = pd.DataFrame(values, index=pd.Index(images, name=ID), columns=columns)
    return _written(scores, folder / FOLDER / f"{name}.parquet", source), what


def _read(file: Path) -> pd.DataFrame:
    """Read a table with ids as texts."""
    import pandas as pd

    if not file.is_file():
        raise MissingInput(f"{file}: no such file")
    try:
        if file.suffix.lower() == ".parquet":
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file, dtype={ID: str, PREDICTION: str}, keep_default_na=False)
    except Exception as error:  # of many types, for files of another format
        reason = str(error).splitlines()[0]
        raise AbsError(f"{file}: neither CSV nor Parquet with a header: {reason}") from None
    if ID not in table:
        raise AbsError(f"{file}: no column {ID!r}; it has {', '.join(map(str, table.columns[:5]))}")
    return table.astype({ID: str})


def _of_images(table: pd.DataFrame, file: Path, images: pd.Series[str]) -> pd.DataFrame:
    """Return a row for each image of the dataset, in its order."""
    ids = table[ID]
    if ids.duplicated().any():
        raise AbsError(f"{file}: {ids[ids.duplicated()].iloc[0]!r} is there twice; keep one row")
    known, given = set(images), set(ids)
    for found, what in (
        ([i for i in images if i not in given], "without a row"),
        ([i for i in ids if i not in known], "that the dataset has not"),
    ):
        if found:
            raise AbsError(f"{file}: {counted(len(found), 'images')} {what}, such as {found[0]!r}")
    return table.set_index(ID).loc[list(images)]


def _one_hot(given: pd.Series[Any], file: Path, labels: dict[str, int], count: int) -> np.ndarray:
    """Score the predicted class of each image 1 and the others 0."""
    rows = [_label(value, f"{file}: pred of {i!r}", labels, count) for i, value in given.items()]
    return np.asarray(np.eye(count, dtype=np.float32)[rows])


def _scores(table: pd.DataFrame, file: Path, labels: dict[str, int], count: int) -> np.ndarray:
    """Return the scores of each class, by label."""
    columns = [str(column) for column in table.columns]
    places = {c: _label(c, f"{file}: column {c!r}", labels, count) for c in columns}
    if sorted(places.values()) != list(range(count)):
        raise AbsError(
            f"{file}: {len(places)} columns of scores for {count} classes; give each class one, "
            f"under its name or label, or the column {PREDICTION!r}"
        )
    ordered = table.set_axis(columns, axis=1)[
        sorted(columns, key=lambda column: places[str(column)])
    ]
    try:
        values = ordered.to_numpy(np.float64)
    except (TypeError, ValueError):
        values = np.full(ordered.shape, np.nan)
    if not np.isfinite(values).all():
        image = table.index[~np.isfinite(values).all(axis=1)][0]
        raise AbsError(f"{file}: scores of {image!r} are not all finite numbers")
    return values.astype(np.float32)


def _label(value: Any, where: str, labels: dict[str, int], count: int) -> int:
    """Return the label that a name or a number stands for; a name first."""
    parsed = labels.get(str(value))
    label = parse_label(value, where) if parsed is None else parsed
    if isinstance(label, str):
        label = labels.get(label)
    if label is None or not 0 <= label < count:
        raise AbsError(f"{where}: {value!r} is no class: neither a name nor 0 to {count - 1}")
    return label


def _written(scores: pd.DataFrame, path: Path, source: str) -> Path:
    """Write scores with their source and digest."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    about = json.dumps({"source": source, "digest": digest_of(scores)}).encode()
    table = pa.Table.from_pandas(scores.reset_index(), preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({METADATA: about}), buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return path


def method_name(name: str) -> str:
    """Return the name of the method that scores imported results."""
    return f"{PREFIX}{name}"
