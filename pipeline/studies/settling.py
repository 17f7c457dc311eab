"""Comparison of a run whose images settle early with the run that embeds all crops of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.core.errors import ConfigError
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.samples import Samples
from pipeline.datasets.subset import evenly
from pipeline.kernels.statistics import Z, wilson
from pipeline.plan import build, read
from pipeline.settings import Settings
from pipeline.stage import Stage
from pipeline.views.readers import is_settled

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.run import Run


@dataclass(frozen=True)
class SampledDataset(Dataset):
    """Some images of a dataset, evenly from its classes; all classes stay."""

    size: int
    """Number of images, at most."""

    @cached_property
    def samples(self) -> Samples:
        """Path and label of each image."""
        everything = [(path, f"{label:09d}") for path, label in super().samples]
        return Samples((path, int(label)) for path, label in evenly(everything, self.size))

    def _look(self) -> str:
        """Return no memory: that of the whole dataset does not hold for a sample."""
        return ""


def on_sample(count: int) -> Callable[[Settings], list[Stage]]:
    """Return a plan over `count` images, evenly from the classes of the dataset."""

    def plan(settings: Settings) -> list[Stage]:
        digests, dataset = read(settings)
        sample = SampledDataset(dataset.config, dataset.paths, dataset.digests, count)
        return build(settings, (digests, sample))

    return plan


@dataclass(frozen=True)
class SettlingCheck:
    """Decisions of one method with settled images, beside those with all crops."""

    method: str
    images: int
    same: int
    """Images that are given the same class."""
    same_low: float
    """Lower bound of the 95 % interval of their share (Wilson)."""
    same_high: float
    p: float
    """Probability with which a decision may differ, as promised."""
    as_rare: float
    """Probability of as many differing decisions or more, if each differs with `p`."""
    top1: float
    top1_of_all: float
    """Top-1 with all crops."""
    crops: float
    """Mean number of crops of an image that settles or takes all."""
    crops_low: float
    """Lower bound of its 95 % interval, by normal approximation."""
    crops_high: float
    of: int
    """Crops of an image that takes all (N)."""

    @property
    def holds(self) -> bool:
        """Return whether the decisions that differ are compatible with the promise, at 1 %."""
        return self.as_rare >= 0.01


def refuse_without_effect(run: Run) -> None:
    """Raise ConfigError if no image of a run can settle; nothing has to be computed for that."""
    if run.settings.scores.settle is None:
        raise ConfigError(
            "scores.settle=null: there is nothing to compare with all crops; give a probability, "
            "such as --p 0.001"
        )
    if not any(is_settled(stage) for stage in run.stages if stage.kind == "embeddings"):
        *_, note = run.named("scores")[0].notes
        raise ConfigError(f"{note}; choose methods that all settle, such as scores.methods=[abs]")


def check_settling(settled: Run, whole: Run) -> list[SettlingCheck]:
    """Compare two finished runs, of which the first settles."""
    tables = [run.store.open(run.named("scores")[0]).table("scores") for run in (settled, whole)]
    ours = tables[0][tables[0]["crops_used"].notna()]
    p, count = settled.settings.scores.settle, settled.settings.scores.n
    assert p is not None
    return [
        _check(str(name), group, tables[1], p, count)
        for name, group in ours.groupby("method", sort=False)
    ]


def _check(
    method: str, settled: pd.DataFrame, whole: pd.DataFrame, p: float, count: int
) -> SettlingCheck:
    from scipy.stats import binom

    columns = ["image_id", "pred", "correct"]
    both = settled.merge(whole[whole["method"] == method][columns], on="image_id")
    images, same = len(both), int((both["pred_x"] == both["pred_y"]).sum())
    used = both["crops_used"].to_numpy()
    crops, error = float(used.mean()), float(used.std() / math.sqrt(images))
    return SettlingCheck(
        method,
        images,
        same,
        *wilson(same, images),
        p,
        float(binom.sf(images - same - 1, images, p)),
        float(both["correct_x"].mean()),
        float(both["correct_y"].mean()),
        crops,
        crops - Z * error,
        crops + Z * error,
        count,
    )
