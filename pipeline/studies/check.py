"""Our row of ABS beside the paper's, and the settings that can explain a gap, the widest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.core.errors import ConfigError
from pipeline.core.section import flatten
from pipeline.run import Run
from pipeline.settings import Settings, differences
from pipeline.studies.paper import OTHER_TEXTS, backbone_of, reported
from pipeline.texts.published import published
from stages.descriptions import DescriptionsStage
from stages.index import Index

PAPER = {"scores.n": 60}
"""What the paper's rows were made with where no profile says so."""
APART = ("paths.", "runtime.", "layout.", "dataset.", "clip.", "methods.", "scores.classes")
"""Settings that have no effect on ABS, or a line of their own."""
Reasons = Iterator[tuple[str, str]]
"""What is otherwise here, and what it does."""


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
    """What is otherwise than in the paper's row, and what it does; the widest effect first."""


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
    reasons = [reason for reasons in REASONS for reason in reasons(run, official)]
    within = abs(ours - paper) <= (spread or 0.1)
    return Check(dataset, backbone, ours, paper, spread, within, reasons)


def _texts(run: Run, official: Settings) -> Reasons:
    found = [flatten(s.identity()["outside"], s.name) for s in run.named("descriptions-cupl")]
    digests = [value for each in found for name, value in each if name.endswith("file_sha256")]
    known = published(str(digests[0])) if digests else "none"
    if run.store.dataset in OTHER_TEXTS or known == "unknown":
        yield f"descriptions: {known}", "for CUB, DTD and Places365 ABS published its own"


def _weights(run: Run, official: Settings) -> Reasons:
    if (weights := run.settings.clip.weights) != "openai":
        yield f"clip.weights: {weights}", "the paper's are OpenAI's"


def _activation(run: Run, official: Settings) -> Reasons:
    texts = [stage for stage in run.stages if isinstance(stage, DescriptionsStage)]
    if not texts[0].clip.resolved.architecture["model"].get("quick_gelu", False):
        yield "activation: GELU", "OpenAI's CLIP has QuickGELU; without, it loses 4 points"


def _names(run: Run, official: Settings) -> Reasons:
    """Of the classes that the dataset itself names."""
    index = _index(run)
    theirs, ours = [one.name for one in index.dataset.listing.classes], index.dataset.classes
    if others := sum(name not in ours.names for name in theirs):
        yield (
            f"class names: {others} of {len(theirs)} are others",
            "texts are made of names and joined by them; equal ones tie, and the first wins",
        )


def _competing(run: Run, official: Settings) -> Reasons:
    """How many classes the softmax is over."""
    dataset = _index(run).dataset
    present, theirs = dataset.classes.present, len(dataset.listing.classes)
    ours = len(present) if run.settings.scores.classes == "all" else sum(present)
    if ours != theirs:
        yield f"softmax over {ours} classes", f"the released code's is over all {theirs}"


def _profile(run: Run, official: Settings) -> Reasons:
    for name, (here, there) in differences(run.settings, official).items():
        if not name.startswith(APART) and not name.endswith(".precision"):
            yield f"{name}: {here}", f"the official profile has {there}"
    for name, value in PAPER.items():
        section, field = name.split(".")
        if (here := getattr(getattr(run.settings, section), field)) != value:
            yield f"{name}: {here}", f"the paper has {value}"


def _images(run: Run, official: Settings) -> Reasons:
    index = run.store.open(_index(run))
    if skipped := len(index.table("skipped")):
        yield f"{skipped} images skipped", "the paper has all"
    stated = run.settings.dataset.published.images
    images = len(index.table("images", columns=["label"]))
    if stated and images != stated:
        yield f"{images} images", f"the dataset was published with {stated}"


def _precision(run: Run, official: Settings) -> Reasons:
    for section in ("clip", "attention"):
        precision = getattr(run.settings, section).precision
        if precision != "float32":
            yield f"{section}.precision: {precision}", "rounding; the paper's code used float16"


def _index(run: Run) -> Index:
    (index,) = run.named("index")
    assert isinstance(index, Index)
    return index


REASONS: tuple[Callable[[Run, Settings], Reasons], ...] = (
    _texts,
    _weights,
    _activation,
    _names,
    _competing,
    _profile,
    _images,
    _precision,
)
"""In the order of their known effect."""
