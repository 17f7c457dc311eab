"""Make a figure by its name from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import ConfigError, MissingInput
from pipeline.figures.crops import draw_crops, read_subjects
from pipeline.figures.guided import draw_guided, read_source
from pipeline.figures.in_view import draw_in_view, find_votes, read_boxes
from pipeline.figures.lines import draw_lines
from pipeline.figures.pictures import Picture, Pictures
from pipeline.run import Run
from pipeline.settings import Settings
from pipeline.store.store import Store
from pipeline.studies import paper
from pipeline.studies.experiments import is_experiment
from pipeline.studies.stored import stored_sweep
from pipeline.studies.sweeps import Sweep

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

GUIDED = ("fig5", "fig7")
"""Experiments, or files of that name, whose settings are sources of attention."""
IN_VIEW = "fig6"
"""Figure of images with several classes in view; an experiment has no part in it."""
CROPS = "crops"
"""Figure of how the crops of an image are made."""
STAGES = {
    "guided": ("attention", "crops-raw"),
    "in view": ("scores", "embeddings-raw", "crops-raw"),
    CROPS: ("attention", "crops-raw", "crops-feature"),
}
"""Stages that figures on images are drawn from."""


@dataclass(frozen=True)
class Wanted:
    """Content of a figure that is asked for."""

    name: str
    """`fig4` to `fig7`, `crops`, another experiment, or a stored sweep."""
    dataset: str
    images: Sequence[str] = ()
    """Images by number, path or the end of the path; none for those of the figure's own choice."""
    count: int = 3
    """Images that the figure chooses."""
    method: str = "abs"
    """Method whose errors `fig6` looks through."""
    profile: str | None = None
    """Profile in place of an experiment's own."""
    overrides: Sequence[str] = ()
    weights_dir: str | None = None


@dataclass(frozen=True)
class Made:
    """A figure, and what it was drawn from."""

    figure: Figure
    title: str
    source: dict[str, Any] = field(default_factory=dict)
    """Dataset, settings, and keys of artifacts or runs."""


def make_figure(wanted: Wanted) -> Made:
    """Draw a figure from what is stored, within `pipeline.figures.style.drawing`."""
    if Path(wanted.name).stem in GUIDED:
        return _guided(wanted)
    if wanted.name == IN_VIEW:
        return _in_view(wanted)
    if wanted.name == CROPS:
        return _crops(wanted)
    return _lines(wanted)


def _lines(wanted: Wanted) -> Made:
    """Draw accuracy over the settings of an experiment, or of a stored sweep."""
    if not is_experiment(wanted.name):
        values = _settings(wanted)
        store = Store(values.paths.store, values.dataset.name)
        stored = stored_sweep(store, wanted.name)
        about = {"dataset": store.dataset, "sweep": stored.name, "settings": stored.selection}
        return Made(draw_lines(stored.table()), f"{store.dataset}: {stored.name}", about)
    sweep = _sweep(wanted)
    table = sweep.table()
    if table.empty:
        raise MissingInput(
            f"no result of {wanted.name} is stored; run: abs sweep {wanted.name} {wanted.dataset}"
        )
    runs = sorted({run.stages[-1].key for _, run in sweep.runs})
    source: dict[str, Any] = {"dataset": sweep.store.dataset, "settings": sweep.selection}
    figure = draw_lines(table, _reported(sweep, table))
    return Made(figure, f"{sweep.store.dataset}: {wanted.name}", source | {"metrics": runs})


def _settings(wanted: Wanted) -> Settings:
    from pipeline.settings import load

    profile = wanted.profile or "official"
    return load(wanted.dataset, profile, wanted.overrides, wanted.weights_dir)


def _sweep(wanted: Wanted) -> Sweep:
    return Sweep.load(
        wanted.name,
        wanted.dataset,
        wanted.overrides,
        profile=wanted.profile,
        weights_dir=wanted.weights_dir,
    )


def _reported(sweep: Sweep, table: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's main results of the scored methods, where it has some for the backbone."""
    import pandas as pd

    backbone = paper.backbone_of(sweep.runs[0][1])
    ours = {name: method for method, name in paper.METHODS.items()}
    for number in ("1", "2"):
        found = paper.reported(number, sweep.store.dataset)
        found = found.assign(method=found["method"].map(ours), table=number)
        found = found[(found["backbone"] == backbone) & found["method"].isin(table["method"])]
        if len(found):
            return found
    return pd.DataFrame(columns=["method", "paper", "table"])


def _guided(wanted: Wanted) -> Made:
    """Draw the attention of each source of an experiment, and the crops that it guides."""
    sweep = _sweep(wanted)
    first = sweep.runs[0][1]
    keys: dict[str, Any] = {}
    try:
        pictures = Pictures.of(first)
        rows = pictures.rows(wanted.images, wanted.count)
        sources = []
        for point, run in sweep.runs:
            name = ", ".join(str(value).rpartition("/")[2] for value in point.values.values())
            sources.append(read_source(name, run, rows))
            keys[name] = _keys(run, STAGES["guided"])
    except MissingInput as error:
        raise MissingInput(
            f"{error}; or all at once: abs sweep {wanted.name} {wanted.dataset}"
        ) from None
    shown = [pictures.read(row) for row in rows]
    source = {
        "dataset": sweep.store.dataset,
        "settings": sweep.selection,
        "images": {one.image_id: one.sha256 for one in shown},
        "artifacts": keys,
    }
    return Made(draw_guided(shown, sources), f"{sweep.store.dataset}: {wanted.name}", source)


def _in_view(wanted: Wanted) -> Made:
    """Draw images whose crops agree on a class that is not the label."""
    run = Run.of(wanted.dataset, wanted.profile or "official", wanted.overrides, wanted.weights_dir)
    if "raw" not in run.settings.views:
        raise ConfigError("fig6 shows the votes of raw crops; score a method that reads them")
    pictures = Pictures.of(run)
    rows = pictures.rows(wanted.images, wanted.count) if wanted.images else None
    votes = find_votes(run, wanted.method, rows, len(rows or ()) or wanted.count)
    shown = [pictures.read(vote.row) for vote in votes]
    boxes = read_boxes(run, [vote.row for vote in votes])
    figure = draw_in_view(shown, votes, boxes, pictures.names)
    about = _about(run, shown, STAGES["in view"])
    return Made(figure, f"{run.store.dataset}: {wanted.name}", about)


def _crops(wanted: Wanted) -> Made:
    """Draw how the crops of images are made."""
    run = Run.of(wanted.dataset, wanted.profile or "official", wanted.overrides, wanted.weights_dir)
    pictures = Pictures.of(run)
    shown = [pictures.read(row) for row in pictures.rows(wanted.images, wanted.count)]
    figure = draw_crops(read_subjects(run, shown))
    return Made(figure, f"{run.store.dataset}: {wanted.name}", _about(run, shown, STAGES[CROPS]))


def _about(run: Run, shown: Sequence[Picture], stages: Sequence[str]) -> dict[str, Any]:
    """Say what a figure on images was drawn from."""
    return {
        "dataset": run.store.dataset,
        "settings": str(run.selection),
        "images": {one.image_id: one.sha256 for one in shown},
        "artifacts": _keys(run, stages),
    }


def _keys(run: Run, stages: Sequence[str]) -> dict[str, str]:
    return {name: run.named(name)[0].key for name in stages}
