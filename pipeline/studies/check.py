"""Comparison of ABS with the paper's row, and differences that can explain a gap, largest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.core.errors import ConfigError
from pipeline.core.section import flatten
from pipeline.run import Run
from pipeline.settings import Settings, differences
from pipeline.studies.paper import OTHER_TEXTS, WITHIN, backbone_of, reported
from pipeline.texts.published import published
from stages.descriptions import DescriptionsStage
from stages.index import Index, skipped_files

PAPER = {"scores.n": 60}
"""Settings of the paper's rows that no profile contains."""
IGNORED = ("paths.", "runtime.", "layout.", "dataset.", "clip.", "methods.", "scores.classes")
"""Prefixes of settings that do not affect ABS, or that another function of REASONS covers."""
Reasons = Iterator[tuple[str, str]]
"""Pairs of text: a difference from the paper's row, and its effect."""


@dataclass(frozen=True)
class Check:
    """Top-1 of ABS in percent: our result and the paper's."""

    dataset: str
    backbone: str
    ours: float
    paper: float
    sigma: float | None
    """Standard deviation in percent points that the paper states, or None."""
    within: bool
    reasons: list[tuple[str, str]]
    """Differences from the paper's row, and the effect of each; the largest first."""


def check(run: Run, official: Settings) -> Check:
    """Compare the finished metrics of `run` with the paper.

    `official` holds the settings of the profile, without overrides. Raises ConfigError if the paper
    has no row of ABS for this dataset and backbone, or if ABS is not among the methods. Raises
    MissingInput if the metrics are not finished.
    """
    backbone, dataset = backbone_of(run), run.store.dataset
    tables = [reported(table, dataset) for table in ("1", "2")]
    rows = [
        row
        for table in tables
        for _, row in table.iterrows()
        if (row["backbone"], row["method"]) == (backbone, "ABS")
    ]
    if not rows:
        raise ConfigError(f"the paper has no row of ABS for {dataset} with {backbone}")
    metrics = run.store.open(run.named("metrics")[0]).table("metrics").set_index("method")
    if "abs" not in metrics.index:
        raise ConfigError("scores.methods: add abs, which is compared with the paper")
    ours, paper = 100 * float(metrics["top1"]["abs"]), float(rows[0]["paper"])
    stated = float(rows[0]["paper_sigma"])
    sigma = None if stated != stated else stated
    reasons = [reason for reasons in REASONS for reason in reasons(run, official)]
    within = abs(ours - paper) <= (sigma or WITHIN)
    return Check(dataset, backbone, ours, paper, sigma, within, reasons)


def _texts(run: Run, official: Settings) -> Reasons:
    """Compare the file of descriptions with the published ones, by its digest."""
    inputs = [flatten(s.identity()["outside"], s.name) for s in run.named("descriptions-cupl")]
    digests = [value for part in inputs for name, value in part if name.endswith("file_sha256")]
    source = published(str(digests[0])) if digests else "none"
    if run.store.dataset in OTHER_TEXTS or source == "unknown":
        yield f"descriptions: {source}", "for CUB, DTD and Places365 ABS published its own"


def _weights(run: Run, official: Settings) -> Reasons:
    """Compare the weights of CLIP."""
    if (weights := run.settings.clip.weights) != "openai":
        yield f"clip.weights: {weights}", "the paper uses OpenAI's"


def _activation(run: Run, official: Settings) -> Reasons:
    """Compare the activation function of CLIP."""
    texts = [stage for stage in run.stages if isinstance(stage, DescriptionsStage)]
    if not texts[0].clip.resolved.architecture["model"].get("quick_gelu", False):
        yield "activation: GELU", "OpenAI's CLIP was trained with QuickGELU; GELU costs 4 points"


def _names(run: Run, official: Settings) -> Reasons:
    """Compare the class names in use with those that the dataset itself has."""
    index = _index(run)
    original, used = [one.name for one in index.dataset.listing.classes], index.dataset.classes
    if changed := sum(name not in used.names for name in original):
        yield (
            f"class names: {changed} of {len(original)} differ from the dataset's",
            "names are part of prompts and select descriptions; of equal names the first wins",
        )


def _competing(run: Run, official: Settings) -> Reasons:
    """Compare the number of classes in the softmax."""
    dataset = _index(run).dataset
    present, original = dataset.classes.present, len(dataset.listing.classes)
    used = len(present) if run.settings.scores.classes == "all" else sum(present)
    if used != original:
        yield f"softmax over {used} classes", f"the released code's is over all {original}"


def _profile(run: Run, official: Settings) -> Reasons:
    """Compare the settings with the official profile and with PAPER."""
    for name, (used, expected) in differences(run.settings, official).items():
        if not name.startswith(IGNORED) and not name.endswith(".precision"):
            yield f"{name}: {used}", f"the official profile has {expected}"
    for name, expected in PAPER.items():
        section, field = name.split(".")
        if (used := getattr(getattr(run.settings, section), field)) != expected:
            yield f"{name}: {used}", f"the paper has {expected}"


def _images(run: Run, official: Settings) -> Reasons:
    """Compare the number of images with that of the published dataset."""
    index = run.store.open(_index(run))
    if skipped := skipped_files(index):
        yield f"{skipped} images skipped", "the paper scored all images"
    stated = run.settings.dataset.published.images
    images = len(index.table("images", columns=["label"]))
    if stated and images != stated:
        yield f"{images} images", f"the dataset was published with {stated}"


def _precision(run: Run, official: Settings) -> Reasons:
    """Compare the floating-point precision of the models."""
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
"""Sources of differences, in the order of their known effect."""
