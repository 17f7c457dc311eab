"""Load results by their settings instead of by key: pandas frames and lazy Zarr arrays.

    from pipeline import load

    load.metrics("demo")                                  # a row per finished run and method
    load.scores("demo", method="abs", **{"crops.k": 20})  # a row per image
    load.image("demo", 7)                                 # the image of row 7
    load.embeddings("demo", "raw", **{"crops.k": 20})     # (image, view, dim)
    load.explain("demo", image=7, by="view")              # what each crop added

A filter is a setting and its value. Runs are those on record in the store, which `store` names, or
ABS_ARTIFACTS, or else `artifacts/` of the project: a folder, or the address of a copy in any place
that fsspec can read, such as `s3://bucket/artifacts`. Raises ConfigError for a setting, dataset or
place that is not there, MissingInput where nothing that fits is finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.core.addresses import opened
from pipeline.core.errors import AbsError, ConfigError, MissingInput, did_you_mean
from pipeline.core.hash_cache import HashCache
from pipeline.core.layers import layered, merge, paths_of
from pipeline.core.section import flatten
from pipeline.datasets.image_ids import find_image
from pipeline.store.arrays import StoredArray
from pipeline.store.artifact import Artifact
from pipeline.store.runs import Record, records
from pipeline.store.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from pipeline.explain.explainer import Explainer

APART = ("runtime", "paths")
"""Sections of settings that results do not depend on."""


def runs(
    dataset: str | None = None, store: str | Path | None = None, **filters: Any
) -> pd.DataFrame:
    """A row per run on record, the last used first: dataset, options, and every setting."""
    import pandas as pd

    found = _matching(dataset, store, filters)
    return pd.DataFrame(
        [{"dataset": s.dataset, "options": r.options, **_settings(r)} for s, r in found]
    )


def metrics(
    dataset: str | None = None,
    store: str | Path | None = None,
    all_settings: bool = False,
    **filters: Any,
) -> pd.DataFrame:
    """A row per finished run and method: the settings in which the runs differ, and the figures.

    With `all_settings`, also every setting and file digest behind the row, by stage, as in
    `crops-raw.k` and `descriptions-cupl.prompts.file_sha256`.
    """
    table = _tables("metrics", dataset, store, filters)
    if all_settings:
        return table
    differing = _varied([run for run, _ in _some("metrics", dataset, store, filters)])
    figures = [name for name in map(str, table) if "." not in name]
    stored = [name for name in map(str, table) if name not in {*figures, *differing}]
    run = ["dataset", "method", *differing]
    if table[run].astype(str).duplicated().any():  # equal settings of other files or other code
        apart = [name for name in stored if table[name].astype(str).nunique() > 1]
        run += [name for name in apart if not name.endswith(".key")] or apart
    return table[[*run, *(name for name in figures if name not in run)]]


def per_class(
    dataset: str | None = None, store: str | Path | None = None, **filters: Any
) -> pd.DataFrame:
    """A row per finished run, method and class."""
    return _tables("metrics", dataset, store, filters, table="per_class")


def confusion(
    dataset: str | None = None, store: str | Path | None = None, **filters: Any
) -> pd.DataFrame:
    """A row per finished run, method, class and predicted class: how many images there are of it.

    Pairs without an image have no row. `classes` has the names of labels.
    """
    return _tables("metrics", dataset, store, filters, table="confusion")


def scores(
    dataset: str,
    method: str | None = None,
    store: str | Path | None = None,
    **filters: Any,
) -> pd.DataFrame:
    """A row per image and method of each run: prediction, rank of the label, margin, confidence."""
    found = _tables("scores", dataset, store, filters)
    if method is None:
        return found
    if method not in set(found["method"]):
        raise ConfigError(
            f"method {method!r} is not scored; {did_you_mean(method, set(found['method']))}"
        )
    return found[found["method"] == method].reset_index(drop=True)


def classes(dataset: str, store: str | Path | None = None, **filters: Any) -> pd.DataFrame:
    """Label, name, and whether the dataset has the class or it only competes; row i is label i."""
    found = _some("scores", dataset, store, filters)
    table, *others = (artifact.table("classes") for _, artifact in found)
    if not all(table.equals(other) for other in others):
        raise ConfigError(_ambiguous("other classes", dataset, found))
    return table


def sweep(dataset: str, name: str | None = None, store: str | Path | None = None) -> pd.DataFrame:
    """The table of a sweep, by its name: a row per setting and method; without a name the only one.

    Columns: the settings that vary, the means of the figures over seeds, sigma and seeds.
    """
    import pandas as pd

    root = _root(store)
    found = {path.stem: path for path in sorted((root / dataset / "sweeps").glob("*.parquet"))}
    if not found:
        raise MissingInput(f"no sweep of dataset {dataset!r} in {root}; run: abs sweep")
    if name is None and len(found) > 1:
        raise ConfigError(f"{len(found)} sweeps of {dataset!r}; choose by name: {', '.join(found)}")
    if name is not None and name not in found:
        raise ConfigError(f"no sweep {name!r} of {dataset!r}; {did_you_mean(name, found)}")
    with (next(iter(found.values())) if name is None else found[name]).open("rb") as file:
        return pd.read_parquet(file)


def images(dataset: str, store: str | Path | None = None, **filters: Any) -> pd.DataFrame:
    """The index: row i is row i of every array over images."""
    return _one("index", dataset, store, filters).table("images")


def image(dataset: str, which: Any, store: str | Path | None = None, **filters: Any) -> Image:
    """One image, decoded to RGB as every stage sees it, whatever the dataset's reader.

    Args:
        dataset: Name of the dataset.
        which: Row of the index, from 0; or a path, or the end of one, as in its column `image_id`;
            or a row of `scores` or `images`.
        store: Folder or address of the store.
        **filters: Settings that choose among indexes, by dotted name.

    Raises:
        ConfigError: If no image, or several, fit.
        AbsError: If the file has changed since it was indexed.
    """
    from pipeline.datasets.images import decode, read_verified

    (record, artifact), *others = _some("index", dataset, store, filters)
    if others:
        raise ConfigError(_ambiguous("index", dataset, [(record, artifact), *others]))
    index = artifact.table("images")
    row = index.iloc[find_image(index["image_id"].tolist(), which)]
    contents = _contents(record, _root(store))
    return decode(read_verified(contents, row["path"], row["sha256"]))


def crops(dataset: str, view: str = "raw", store: str | Path | None = None, **filters: Any) -> Any:
    """A row per image and crop of a view set, such as `raw`, `feature` or `squares`."""
    return _one(f"crops-{view}", dataset, store, filters).table("crops")


def embeddings(
    dataset: str,
    view: str = "raw",
    store: str | Path | None = None,
    dtype: str | None = None,
    **filters: Any,
) -> StoredArray:
    """Vectors (image, view, dim) of a view set, or of `image`, read lazily and verified.

    Stored in float16: give dtype="float32" to compute with them. Images that settle early have no
    such array, see `settled`.
    """
    artifact = _one(f"embeddings-{view}", dataset, store, filters)
    if "settled" in (artifact.identity or {}):
        raise ConfigError(
            f"{artifact.stage}: images settled early (scores.settle) and have no array; "
            f'read load.settled({dataset!r}, "{view}"), or choose a run by '
            '**{"scores.settle": None}'
        )
    return artifact.array("embeddings", dtype)


def settled(
    dataset: str, view: str = "raw", store: str | Path | None = None, **filters: Any
) -> pd.DataFrame:
    """A row per crop of images that settled early: image, crop, place, vector."""
    table = _one(f"embeddings-{view}", dataset, store, filters).table("crops")
    return table.sort_values(["image", "crop"], ignore_index=True)


def texts(
    dataset: str, name: str = "cupl", store: str | Path | None = None, **filters: Any
) -> pd.DataFrame:
    """The texts of a text set: label, position among those of its class, text."""
    return _one(f"descriptions-{name}", dataset, store, filters).table("texts")


def text_embeddings(
    dataset: str,
    name: str = "cupl",
    store: str | Path | None = None,
    dtype: str | None = None,
    **filters: Any,
) -> StoredArray:
    """Vectors (text, dim) of a text set, float32, a row for each of its texts."""
    return _one(f"descriptions-{name}", dataset, store, filters).array("embeddings", dtype)


def attention(
    dataset: str, store: str | Path | None = None, dtype: str | None = None, **filters: Any
) -> StoredArray:
    """Attention maps (image, layer, row, col), float32."""
    return _one("attention", dataset, store, filters).array("attention", dtype)


def explainer(
    dataset: str, method: str = "abs", store: str | Path | None = None, **filters: Any
) -> Explainer:
    """The explainer of a method's scores, which reads what it needs once for many images."""
    from pipeline.explain.explainer import Explainer

    return Explainer.of(_one("scores", dataset, store, filters), method)


def explain(
    dataset: str,
    image: int | str,
    method: str = "abs",
    by: Literal["text", "class", "view"] = "text",
    store: str | Path | None = None,
    **filters: Any,
) -> pd.DataFrame:
    """Return what each view and description adds to the scores of an image.

    Contributions add up to the stored score of each class, but for its rounding to float32. The
    columns are those of `pipeline.explain.explanation.Explanation.by_text`, `by_class` or
    `by_view`.

    Args:
        dataset: Name of the dataset.
        image: Number of the image in the index, its path, or the end of its path.
        method: Name of the method.
        by: `text`, a row for every view and description; `class`, for every view and class; `view`,
            for every view: what it adds to the predicted class and to its rival.
        store: Folder or address of the store.
        filters: Settings of the run by dotted name.
    """
    return explainer(dataset, method, store, **filters).explain(image).table(by)


# --- Images --------------------------------------------------------------------------------------


_OPENED: dict[str, Any] = {}
"""The contents of the dataset that was read last, by its settings: listing one may take seconds."""


def _contents(record: Record, root: Path) -> Any:
    """Open the images of a recorded run where this machine has them."""
    from pipeline.datasets.config import DatasetConfig
    from pipeline.datasets.dataset import Dataset

    own = {name: place for name, place in layered(None)["paths"].items() if place is not None}
    paths = paths_of({"paths": merge(record.settings["paths"], own)})
    config = DatasetConfig.model_validate(record.settings["dataset"])
    key = config.model_dump_json() + paths.model_dump_json()
    if key not in _OPENED:
        contents = Dataset(config, paths, HashCache(root / "none")).contents
        _OPENED.clear()
        _OPENED[key] = contents
    return _OPENED[key]


# --- By settings --------------------------------------------------------------------------------


def _root(store: str | Path | None) -> Path:
    return opened(paths_of(layered(None)).place if store is None else store)


def _matching(
    dataset: str | None, store: str | Path | None, filters: dict[str, Any]
) -> list[tuple[Store, Record]]:
    """Return the recorded runs whose settings match `filters`."""
    root = _root(store)
    folders = [path for path in root.iterdir() if path.name[:1] != "."] if root.is_dir() else []
    known = sorted(path.name for path in folders if (path / "runs").is_dir())
    if dataset is not None and dataset not in known:
        raise ConfigError(
            f"no run of dataset {dataset!r} in {root}; {did_you_mean(dataset, known)}"
        )
    stores = [Store(root, name) for name in known if dataset in (None, name)]
    found = [(store, record) for store in stores for record in records(store)]
    for name in filters:
        names = {other for _, record in found for other in _settings(record)}
        if name not in names:
            raise ConfigError(f"unknown setting {name!r}; {did_you_mean(name, names)}")
    return [
        (each, record)
        for each, record in found
        if all(_settings(record).get(name) == value for name, value in filters.items())
    ]


def _settings(record: Record) -> dict[str, Any]:
    """Return a run's settings by dotted name."""
    chosen = {name: value for name, value in record.settings.items() if name not in APART}
    return dict(flatten(chosen, ""))


def _tables(
    stage: str,
    dataset: str | None,
    store: str | Path | None,
    filters: dict[str, Any],
    table: str | None = None,
) -> pd.DataFrame:
    """A table of every finished artifact of a stage, with the settings in which they differ."""
    import pandas as pd

    found = _some(stage, dataset, store, filters)
    varied = _varied([record for record, _ in found])
    frames = []
    for record, artifact in found:
        frame = artifact.table(table or stage)
        own = {name: _settings(record).get(name) for name in varied}
        columns = {n: repr(v) if isinstance(v, list) else v for n, v in own.items()}
        frames.append(frame.assign(**columns))
    return pd.concat(frames, ignore_index=True)


def _one(stage: str, dataset: str, store: str | Path | None, filters: dict[str, Any]) -> Artifact:
    """The artifact of a stage, if the filters leave one."""
    found = _some(stage, dataset, store, filters)
    if len(found) > 1:
        raise ConfigError(_ambiguous(stage, dataset, found))
    return found[0][1]


def _some(
    stage: str, dataset: str | None, store: str | Path | None, filters: dict[str, Any]
) -> list[tuple[Record, Artifact]]:
    """Return the artifacts that `_finished` finds; MissingInput if there are none."""
    found = _finished(stage, dataset, store, filters)
    if not found:
        of = "" if dataset is None else f" of {dataset!r}"
        raise MissingInput(f"no finished run{of} has {stage} with {filters or 'any settings'}")
    return found


def _ambiguous(what: str, dataset: str, found: list[tuple[Record, Artifact]]) -> str:
    varied = ", ".join(_varied([record for record, _ in found]))
    return f"{len(found)} runs of {dataset!r} have {what}; choose by {varied}"


def _finished(
    stage: str, dataset: str | None, store: str | Path | None, filters: dict[str, Any]
) -> list[tuple[Record, Artifact]]:
    """Yield each finished artifact of a stage once, with the run that used it last."""
    found: dict[Path, tuple[Record, Artifact]] = {}
    for each, record in _matching(dataset, store, filters):
        key = record.artifacts.get(stage)
        artifact = Artifact(each.folder / stage / str(key), stage, record.options)
        if key is not None and artifact.path not in found and _is_finished(artifact):
            found[artifact.path] = record, artifact
    return list(found.values())


def _is_finished(artifact: Artifact) -> bool:
    try:
        return bool(artifact.manifest)
    except AbsError:
        return False


def _varied(found: list[Record]) -> list[str]:
    """The settings in which runs differ."""
    rows = [_settings(record) for record in found]
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({repr(row.get(name)) for row in rows}) > 1]
