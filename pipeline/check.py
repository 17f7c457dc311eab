"""Our row of ABS beside the paper's, and the settings that can explain a gap, the widest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.commands import Run
from pipeline.config import leaves
from pipeline.datasets.prompt_files import published
from pipeline.errors import ConfigError
from pipeline.paper import OTHER_TEXTS, backbone_of, reported
from pipeline.settings import Settings, differences

PAPER = {"scores.n": 60}
"""What the paper's rows were made with where no profile says so."""


@dataclass(frozen=True)
class Check:
    """One row, ours and theirs, in percent."""

    dataset: str
    backbone: str
    ours: float
    paper: float
    sigma: float | None
    """The paper's, where it states one."""
    within: bool
    reasons: list[tuple[str, str]]
    """What is otherwise than in the paper's row, and what it does."""


def check(run: Run, official: Settings) -> Check:
    """Compare the finished scores of `run`; `official` are its settings as the profile has them.

    Raises ConfigError where the paper has no such row, MissingInput where ours is not there yet.
    """
    backbone, dataset = backbone_of(run), run.store.dataset
    rows = [reported(table, dataset) for table in ("1", "2")]
    found = [
        row
        for table in rows
        for _, row in table.iterrows()
        if (row["backbone"], row["method"]) == (backbone, "ABS")
    ]
    if not found:
        raise ConfigError(f"the paper has no row of ABS for {dataset} with {backbone}")
    metrics = run.store.open(run.named("metrics")[0]).table("metrics").set_index("method")
    if "abs" not in metrics.index:
        raise ConfigError("scores.methods: abs is not among them")
    ours, paper = 100 * float(metrics["top1"]["abs"]), float(found[0]["paper"])
    sigma = float(found[0]["paper_sigma"])
    spread = None if sigma != sigma else sigma
    reasons = list(_reasons(run, official))
    within = abs(ours - paper) <= (spread or 0.1)
    return Check(dataset, backbone, ours, paper, spread, within, reasons)


def _reasons(run: Run, official: Settings) -> Iterator[tuple[str, str]]:
    """In the order of their known effect."""
    digests = [value for name, value in _outside(run) if name.endswith("file_sha256")]
    known = published(str(digests[0])) if digests else "none"
    if run.store.dataset in OTHER_TEXTS or known == "unknown":
        yield f"descriptions: {known}", "for CUB, DTD and Places365 ABS published its own"
    clip = run.settings.clip
    if clip.weights != "openai":
        yield f"clip.weights: {clip.weights}", "the paper's are OpenAI's"
    for name, (here, there) in differences(run.settings, official).items():
        if not name.startswith(("paths.", "runtime.", "layout.", "dataset.", "clip.", "methods.")):
            yield f"{name}: {here}", f"the official profile has {there}"
    for name, value in PAPER.items():
        section, field = name.split(".")
        if (here := getattr(getattr(run.settings, section), field)) != value:
            yield f"{name}: {here}", f"the paper has {value}"
    for section in ("clip", "attention"):
        precision = getattr(run.settings, section).precision
        if precision != "float32":
            yield f"{section}.precision: {precision}", "rounding; the paper's code used float16"
    index = run.store.open(run.named("index")[0])
    if skipped := len(index.table("skipped")):
        yield f"{skipped} images skipped", "the paper has all"
    published_images = run.settings.dataset.published.images
    images = len(index.table("images", columns=["label"]))
    if published_images and images != published_images:
        yield f"{images} images", f"the dataset was published with {published_images}"


def _outside(run: Run) -> Iterator[tuple[str, Any]]:
    """Digests of the files that the text set of ABS was made from."""
    for stage in run.named("descriptions-cupl"):
        yield from leaves(stage.identity()["outside"], stage.name)
