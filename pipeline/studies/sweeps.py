"""Sweeps: the runs of an experiment, what they share, and one table of what came of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.core.errors import AbsError, ConfigError, MissingInput, Unreachable
from pipeline.core.hash_cache import HashCache
from pipeline.datasets.dataset import Dataset
from pipeline.plan import build, read
from pipeline.run import Run
from pipeline.settings import Settings
from pipeline.stage import Stage
from pipeline.store.store import Store
from pipeline.studies import sharing
from pipeline.studies.experiments import Experiment, Point

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.core.progress import Reporter
    from pipeline.engine.base import Engine

CHEAP = ("index", "attention", "crops")
"""Stages that say which crops there are; next to nothing beside encoding them."""
Runs = list[tuple[Point, Run]]

FIGURES = ("top1", "top5", "mean_per_class_recall", "ece")


@dataclass
class Sweep:
    """An experiment over a dataset: one run per point."""

    name: str
    dataset: str
    experiment: Experiment
    runs: Runs
    failed: list[tuple[Point, str]] = field(default_factory=list)
    """Points that have no result, and why."""

    @classmethod
    def of(
        cls, name: str, dataset: str, experiment: Experiment, weights_dir: str | None = None
    ) -> Sweep:
        """Plan every point; ConfigError if none of them can be run.

        The dataset is looked at once for all.
        """
        opened: dict[str, tuple[HashCache, Dataset]] = {}

        def plan(s: Settings) -> list[Stage]:
            key = s.dataset.model_dump_json() + s.paths.model_dump_json()
            if key not in opened:
                opened[key] = read(s)
            return build(s, opened[key])

        sweep = cls(name, dataset, experiment, [])
        for point in experiment.points():
            try:
                run = Run.of(dataset, experiment.profile, point.overrides, weights_dir, plan)
                _ = [stage.key for stage in run.stages]
                sweep.runs.append((point, run))
            except AbsError as error:
                sweep.failed.append((point, str(error)))
        if not sweep.runs:
            sweep._refuse()
        return sweep

    def _refuse(self) -> NoReturn:
        """What keeps all points from being run: one reason, or the first of several."""
        point, why = self.failed[0]
        if len({each for _, each in self.failed}) == 1:
            raise ConfigError(why)
        raise ConfigError(f"no setting of {self.name} can be run; the first, {point.title}: {why}")

    @property
    def store(self) -> Store:
        """Where everything of the dataset lies."""
        return self.runs[0][1].store

    def plan(self) -> dict[str, Any]:
        """What the runs share, and how much of it is still to do.

        Crops asked for count every crop of every run; those to embed, every distinct crop that is
        in no artifact yet, and at most, all of them. None where a stage before has to be run to
        know.
        """
        stages = sharing.distinct_stages(run for _, run in self.runs)
        rows = [_shared(name, each) for name, each in stages.items()]
        return {
            "experiment": self.name,
            "runs": len(self.runs),
            "stages": rows,
            "crops_asked": sum(sharing.crops_asked(run) for _, run in self.runs),
            "crops_to_embed": _sum(row["crops"] for row in rows),
            "crops_at_most": _sum(row["crops_at_most"] for row in rows),
            "failed": self.failures(),
        }

    def failures(self) -> list[dict[str, str]]:
        """The settings without a result, and why."""
        return [{"setting": point.title, "why": why} for point, why in self.failed]

    def execute(self, reporter: Reporter, engine: Engine | None = None) -> None:
        """Run every point; one that fails is named, and the others go on.

        First as far as crops, so that it can be said how many there are to embed. The largest N
        comes first: what it embeds, the others read.
        """
        largest = sorted(self.runs, key=lambda pair: -pair[1].settings.scores.n)
        left = self._each(largest, f"{self.name}: crops", CHEAP, reporter, engine)
        stages = sharing.distinct_stages(run for _, run in left).values()
        embed = sharing.crops_to_embed(self.store, [stage for each in stages for _, stage in each])
        if embed:
            asked = sum(sharing.crops_asked(run) for _, run in left)
            reporter.say(sharing.told(asked, embed, None))
        self._each(left, self.name, (), reporter, engine)

    def _each(
        self,
        runs: Runs,
        title: str,
        kinds: tuple[str, ...],
        reporter: Reporter,
        engine: Engine | None,
    ) -> Runs:
        """Run the stages of some kinds, or all, of each; those that did not fail."""
        passed = []
        with reporter.stage(title, len(runs), "settings") as advance:
            for point, run in runs:
                stages = [stage for stage in run.stages if not kinds or stage.kind in kinds]
                try:
                    run.execute(stages, [], quiet=True, engine=engine)
                    passed.append((point, run))
                except Unreachable:
                    raise
                except AbsError as error:
                    self.failed.append((point, str(error)))
                    reporter.say(f"{point.title}: {error}")
                advance(1)
        return passed

    def results(self) -> pd.DataFrame:
        """A row per run that is finished and method: its setting, seed, figures and keys."""
        import pandas as pd

        frames = []
        for point, run in self.runs:
            metrics = run.stages[-1]
            try:
                table = run.store.open(metrics).table("metrics")
            except MissingInput:
                continue
            shown = table[["dataset", "method", *FIGURES, "images", "classes"]].copy()
            for name, value in point.values.items():
                shown[name] = repr(value) if isinstance(value, list | dict) else value
            shown["row"] = point.grid.named(point.values)
            frames.append(shown.assign(grid=_number(self, point), seed=point.seed, run=metrics.key))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def table(self) -> pd.DataFrame:
        """A row per setting and method: mean over seeds, and sigma where there are several."""
        results = self.results()
        if results.empty:
            return results
        fields = [name for grid in self.experiment.grids for name in grid.over]
        by = ["grid", *dict.fromkeys(fields), "row", "dataset", "method", "images", "classes"]
        groups = results.groupby(by, sort=False, dropna=False)
        table = groups.agg(
            **{name: (name, "mean") for name in FIGURES},
            sigma=("top1", "std"),
            seeds=("seed", "nunique"),
        )
        return table.reset_index()

    def write(self) -> Path:
        """Store the table; where it lies."""
        path = self.store.folder / "sweeps" / f"{self.name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")  # parts end together
        self.table().to_parquet(temporary, index=False)
        temporary.replace(path)
        return path


def _number(sweep: Sweep, point: Point) -> int:
    return sweep.experiment.grids.index(point.grid)


def _sum(counts: Iterable[int | None]) -> int | None:
    found = list(counts)
    return None if None in found else sum(count or 0 for count in found)


def _shared(name: str, stages: list[tuple[Run, Stage]]) -> dict[str, Any]:
    """How many artifacts of a stage the runs need, how many are there, and what is to do."""
    there: list[Stage] = []
    units, writes, known = 0, 0, True
    for run, stage in stages:
        try:
            all_units = stage.units(run.store)
            artifact = run.store.artifact(stage)
            if artifact.missing(all_units) is None:
                there.append(stage)
                continue
            missing = len(artifact.unfinished(all_units))
            units += missing
            writes += missing * (stage.footprint(run.store).written or 0)
        except AbsError:  # an input is not there yet, or the setting fails: the run will say so
            known = False
    left = [stage for _, stage in stages if stage not in there]
    return {
        "stage": name,
        "artifacts": len(stages),
        "there": len(there),
        "units": units if known else None,
        "crops": sharing.crops_to_embed(run.store, left),
        "crops_at_most": sharing.crops_at_most(run.store, left),
        "writes": writes if known else None,
    }
