"""Write a report: two pages with their data in them, scripts, and thumbnails, in one folder.

    index.html     results
    crops.html     crops of chosen images
    assets/        style, scripts, and the library that draws
    thumbnails/    one file for each image that is shown
    report.json    what the folder is; a folder without it is never written to

Pages open from disk in any browser and request nothing from any host.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import AbsError, ConfigError, MissingInput, did_you_mean
from pipeline.core.files import write_atomic, write_json
from pipeline.core.hash_cache import HashCache
from pipeline.core.layers import plain
from pipeline.core.words import counted
from pipeline.datasets.contents import Contents
from pipeline.datasets.dataset import Dataset
from pipeline.explain.texts import ScoredTexts
from pipeline.report import facts, results
from pipeline.report.choice import GROUPS, Choice, choose
from pipeline.report.explorer import Explorer
from pipeline.report.pictures import Pictures
from pipeline.report.prefix import Rescored
from pipeline.report.seen import token_grid
from pipeline.report.settled import settled
from pipeline.report.stored import StoredRun
from pipeline.report.sweeps import sweep_lines

if TYPE_CHECKING:
    import pandas as pd

MARK = "report.json"
ASSETS = ("report.css", "common.js", "report.js", "crops.js")
PACKAGES = ("jinja2", "plotly")
"""Packages of the extra `report`."""


@dataclass(frozen=True)
class Subject:
    """Run that a report is about, with what both pages read of it."""

    run: StoredRun
    scores: dict[str, pd.DataFrame]
    """Scores by method, a row per image."""
    images: pd.DataFrame
    """The index."""
    sets: ScoredTexts
    """Text sets of the scores."""
    method: str
    """Method that is looked at."""
    against: str
    """Method that it is compared with."""

    @classmethod
    def of(cls, run: StoredRun, pair: tuple[str | None, str | None]) -> Subject:
        """Read scores and index; ConfigError for a method that is not scored."""
        scores = results.read_scores(run)
        images, sets = run.artifact("index").table("images"), ScoredTexts.of(run.artifact("scores"))
        return cls(run, scores, images, sets, *_pair(list(scores), pair))

    @property
    def names(self) -> list[str]:
        """Names of the classes, by label."""
        names: list[str] = self.sets.classes["name"].tolist()
        return names


def write_report(
    run: StoredRun,
    folder: Path,
    choice: Choice,
    pair: tuple[str | None, str | None] = (None, None),
    say: Callable[[str], None] = print,
) -> Path:
    """Write the report of a run and return its first page.

    Args:
        run: The run; its store is only read.
        folder: Where to write: a new or empty folder, or that of an earlier report.
        choice: Images whose crops are shown.
        pair: Method that is looked at, and the one it is compared with; None for the defaults.
        say: Takes a line of progress.

    Raises:
        ConfigError: For a folder that holds anything else, an unknown method, image or class.
        MissingInput: Without the packages of the extra `report`.
    """
    check_packages()
    check_folder(folder)
    subject = Subject.of(run, pair)
    scores, images = subject.scores, subject.images
    chosen = choose(
        choice,
        images["image_id"].tolist(),
        scores[subject.method],
        scores[subject.against],
        subject.names,
    )
    shown = sorted(set(images["label"].iloc[list(chosen)].tolist()))
    say(f"results of {counted(len(scores), 'methods')} on {counted(len(images), 'images')}")
    with _one_thread():
        pages = {"index.html": _results(subject, shown)}
        say("crops of the chosen images")
        pages["crops.html"] = _crops(subject, folder, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARK, {"what": "a report of abs-pipeline", "options": run.record.options})
    _write_assets(folder / "assets")
    for name, page in pages.items():
        write_atomic(folder / name, _rendered(name, run, page))
    return folder / "index.html"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread: where others are busy too, more only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_packages() -> None:
    """Raise MissingInput, saying what to install, if a package of the extra is not there."""
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise MissingInput(
                f"a report needs the package {name}; run: pip install 'abs-pipeline[report]'"
            ) from None


def check_folder(folder: Path) -> None:
    """Raise ConfigError for a folder that holds anything but a report, or cannot be one."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ConfigError(f"--out {folder}: holds other files; give a new folder")


def _pair(methods: Sequence[str], pair: tuple[str | None, str | None]) -> tuple[str, str]:
    """Return the two methods to look at; ConfigError for one that is not scored."""
    for name in pair:
        if name is not None and name not in methods:
            raise ConfigError(f"method {name!r} is not scored; {did_you_mean(name, methods)}")
    method, against = results.default_pair(list(methods))
    method = pair[0] or method
    others = [name for name in (against, *methods) if name != method] or [method]
    return method, pair[1] or others[0]


# --- Pages ----------------------------------------------------------------------------------------


def _results(subject: Subject, shown: list[int]) -> dict[str, Any]:
    """Collect the data of the page of results; `shown` are labels of images on the other page."""
    run, scores, names = subject.run, subject.scores, subject.names
    metrics, methods = run.artifact("metrics"), list(scores)
    sweeps, unreadable = sweep_lines(run)
    curves, uncurved = _curves(subject)
    notes = [{"text": text, "files": []} for text in (*unreadable, *uncurved)]
    return {
        "method": subject.method,
        "against": subject.against,
        "methods": {name: results.title(name) for name in methods},
        "imports": results.imports(run, scores),
        "shown": shown,
        "images": len(subject.images),
        "accuracies": results.accuracies(metrics.table("metrics")),
        "tests": results.paired_tests(scores),
        "classes": results.per_class(metrics.table("per_class"), methods),
        "names": names,
        "calibration": results.calibration(scores),
        "confusions": results.confusions(metrics.table("confusion"), names, methods),
        "curves": curves,
        "settled": settled(run, scores),
        "sweeps": sweeps,
        "seconds": facts.seconds(run),
        "reproduction": facts.reproduction(run),
        "remarks": [*facts.remarks(run, subject.images), *notes],
        "differences": run.differences,
        "others": run.others,
    }


def _curves(subject: Subject) -> tuple[list[dict[str, Any]], list[str]]:
    """Compute the accuracy over N of each method that allows it, and remarks on others."""
    rescored = Rescored(subject.sets)
    curves, remarks = [], []
    for name, method in rescored.growing().items():
        try:
            curves.append(rescored.curve(name, method, subject.scores[name]))
        except AbsError as error:
            remarks.append(f"accuracy over N of {name} is not shown: {error}")
    return curves, remarks


def _crops(subject: Subject, folder: Path, chosen: dict[int, list[str]]) -> dict[str, Any]:
    """Collect the data of the page of crops, and write thumbnails."""
    run, names = subject.run, subject.names
    pictures = Pictures(folder / "thumbnails", *_contents(run))
    _make_folder(pictures.folder, folder, run)
    grid = token_grid(run.settings)
    explorer = Explorer(
        run, subject.method, subject.scores, subject.images, pictures, subject.sets, grid
    )
    entries = [explorer.entry(row, groups) for row, groups in chosen.items()]
    _remove_unused(pictures.folder, {e["picture"].get("file", "") for e in entries})
    shown = {label for e in entries for label in _labels(e)} | {t[0] for t in explorer.texts}
    return {
        "method": subject.method,
        "against": subject.against,
        "methods": {name: results.title(name) for name in subject.scores},
        "groups": {group: GROUPS[group] for group in GROUPS if _has(chosen, group)},
        "names": {label: names[label] for label in sorted(shown)},
        "texts": [[label, text] for label, text in explorer.texts],
        "tokens": grid.tokens if grid else None,
        "mode": grid.mode if grid else "shortest",
        "prompts": {"raw": run.settings.raw.prompt, "feature": run.settings.feature.prompt},
        "layer": run.settings.crops.layer,
        "attention": run.settings.attention.model,
        "entries": entries,
    }


def _labels(entry: dict[str, Any]) -> list[int]:
    """Return the labels that a page names for an image."""
    return [*entry["classes"], entry["label"], *(m["pred"] for m in entry["methods"].values())]


def _has(chosen: dict[int, list[str]], group: str) -> bool:
    return any(group in groups for groups in chosen.values())


def _contents(run: StoredRun) -> tuple[Contents | None, str]:
    """Open the images of a run; None with the reason where they are not to be had."""
    digests = HashCache(Path(os.devnull))
    try:
        return Dataset(run.settings.dataset, run.settings.paths, digests).contents, ""
    except AbsError as error:
        return None, str(error)


# --- Files ----------------------------------------------------------------------------------------


def _make_folder(thumbnails: Path, folder: Path, run: StoredRun) -> None:
    """Make the folders, and mark the outer one before anything is written to it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARK, {"what": "a report of abs-pipeline", "options": run.record.options})
    thumbnails.mkdir(exist_ok=True)


def _remove_unused(thumbnails: Path, used: set[str]) -> None:
    """Remove thumbnails of an earlier report that this one does not show."""
    for path in thumbnails.glob("*.jpg"):
        if f"{thumbnails.name}/{path.name}" not in used:
            with suppress(OSError):
                path.unlink()


def _write_assets(folder: Path) -> None:
    """Write style and scripts, and the library that draws."""
    from plotly.offline import get_plotlyjs

    folder.mkdir(exist_ok=True)
    own = resources.files("pipeline.report") / "assets"
    for name in ASSETS:
        write_atomic(folder / name, (own / name).read_bytes())
    write_atomic(folder / "plotly.min.js", get_plotlyjs().encode())


def _rendered(name: str, run: StoredRun, page: dict[str, Any]) -> bytes:
    """Render a page; all text is escaped, and the data is JSON that no text can break out of."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {"title": results.title, "plain": plain}
    text = environment.get_template(f"{name}.j2").render(
        page=page,
        run=run,
        model=run.settings.clip.model,
        weights=run.settings.clip.weights,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=metadata.version("abs-pipeline"),
    )
    return text.encode("utf-8", errors="replace")
