"""Sweeps: the runs of an experiment, the artifacts they share, and one table of their results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.core.errors import AbsError, ConfigError, MissingInput, Unreachable
from pipeline.core.hash_cache import HashCache
from pipeline.core.layers import short
from pipeline.datasets.dataset import Dataset
from pipeline.plan import build, read
from pipeline.run import Run
from pipeline.settings import Settings
from pipeline.stage import Stage
from pipeline.store.store import Store
from pipeline.studies import sharing
from pipeline.studies.against import beside
from pipeline.studies.experiments import Experiment, Grid, Point, load_experiment
from pipeline.studies.receipts import scoring_seconds
from pipeline.studies.stored import FIGURES, REMARK, SCORING, SETTLED, StoredSweep
from stages.scores import Scores

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.core.progress import Reporter
    from pipeline.engine.base import Engine

BEFORE_EMBEDDING = ("index", "attention", "crops")
"""Stages that decide which crops exist; cheap compared with encoding the crops."""
Runs = list[tuple[Point, Run]]


@dataclass
class Sweep:
    """An experiment on a dataset: one run per point."""

    name: str
    dataset: str
    experiment: Experiment
    runs: Runs
    failed: list[tuple[Point, str]] = field(default_factory=list)
    """Points without a result, each with its error message."""

    @classmethod
    def load(
        cls,
        name: str | None,
        dataset: str,
        overrides: Iterable[str] = (),
        *,
        profile: str | None = None,
        grid: Grid | None = None,
        seeds: int | None = None,
        weights_dir: str | None = None,
    ) -> Sweep:
        """Plan an experiment, by its name or YAML file, with what is given in place of its own.

        Without a name, the settings of `grid` are varied alone.
        """
        experiment = load_experiment(name, dataset) if name else Experiment()
        changed = experiment.changed(overrides, profile=profile, grid=grid, seeds=seeds)
        title = short(name).rpartition("/")[2] if name else "sweep"
        return cls.of(title, dataset, changed, weights_dir)

    @classmethod
    def of(
        cls, name: str, dataset: str, experiment: Experiment, weights_dir: str | None = None
    ) -> Sweep:
        """Plan the run of every point. Raises ConfigError if no point can be planned.

        The dataset is read once for all points with the same dataset and paths.
        """
        datasets: dict[str, tuple[HashCache, Dataset]] = {}

        def plan(s: Settings) -> list[Stage]:
            key = s.dataset.model_dump_json() + s.paths.model_dump_json()
            if key not in datasets:
                datasets[key] = read(s)
            return build(s, datasets[key])

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
        """Raise ConfigError with the error that all points share, or else with the first one."""
        point, error = self.failed[0]
        if len({message for _, message in self.failed}) == 1:
            raise ConfigError(error)
        raise ConfigError(f"no setting of {self.name} can be run; first, {point.title}: {error}")

    @property
    def store(self) -> Store:
        """Store of the dataset."""
        return self.runs[0][1].store

    def plan(self) -> dict[str, Any]:
        """Summarise the artifacts that the runs share, and the work left to do.

        crops_asked: crops that the runs use, counted per run. crops_to_embed: distinct crops that
        no artifact holds yet. crops_at_most: crops of all unfinished units. A count is None until
        the stages that it depends on have run.
        """
        by_name = sharing.distinct_stages(run for _, run in self.runs)
        rows = [_shared(name, stages) for name, stages in by_name.items()]
        return {
            "experiment": self.name,
            "runs": len(self.runs),
            "stages": rows,
            "crops_asked": sum(sharing.crops_used(run) for _, run in self.runs),
            "crops_to_embed": _sum(row["crops"] for row in rows),
            "crops_at_most": _sum(row["crops_at_most"] for row in rows),
            "failed": self.failures(),
        }

    def failures(self) -> list[dict[str, str]]:
        """Return the settings without a result, each with its error message."""
        return [{"setting": point.title, "why": error} for point, error in self.failed]

    def execute(self, reporter: Reporter, engine: Engine | None = None) -> None:
        """Run every point; a point that fails is reported, and the others go on.

        All points first run as far as crops, to report how many crops are left to embed. The
        largest N runs first, because smaller N read its embeddings.
        """
        largest = sorted(self.runs, key=lambda pair: -pair[1].settings.scores.n)
        title = f"{self.name}: crops"
        passed = self._run_all(largest, title, BEFORE_EMBEDDING, reporter, engine)
        by_name = sharing.distinct_stages(run for _, run in passed)
        stages = [stage for pairs in by_name.values() for _, stage in pairs]
        embed = sharing.crops_to_embed(self.store, stages)
        if embed:
            used = sum(sharing.crops_used(run) for _, run in passed)
            reporter.say(sharing.crop_summary(used, embed, None))
        self._run_all(passed, self.name, (), reporter, engine)

    def _run_all(
        self,
        runs: Runs,
        title: str,
        kinds: tuple[str, ...],
        reporter: Reporter,
        engine: Engine | None,
    ) -> Runs:
        """Run the stages of some kinds, or all stages, of each run; return the runs that passed."""
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
        """Return one row per finished run and method: setting, seed, figures and key."""
        import pandas as pd

        frames = []
        for point, run, table in self._finished():
            settled = [SETTLED] if SETTLED in table else []
            rows = table[["dataset", "method", *FIGURES, *settled, "images", "classes"]].copy()
            if self.experiment.seconds:
                rows[SCORING] = rows["method"].map(scoring_seconds(run))
            (scores,) = (stage for stage in run.stages if isinstance(stage, Scores))
            if scores.remark_of:
                rows[REMARK] = rows["method"].map(scores.remark_of).fillna("")
            for name, value in point.values.items():
                rows[name] = repr(value) if isinstance(value, list | dict) else value
            rows["row"] = point.grid.named(point.values)
            grid = self.experiment.grids.index(point.grid)
            frames.append(rows.assign(grid=grid, seed=point.seed, run=run.stages[-1].key))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def table(self) -> pd.DataFrame:
        """Return one row per setting and method: mean and, for several seeds, sigma."""
        results = self.results()
        if results.empty:
            return results
        fields = [name for grid in self.experiment.grids for name in grid.over]
        by = ["grid", *dict.fromkeys(fields), "row", "dataset", "method", "images", "classes"]
        groups = results.groupby(by, sort=False, dropna=False)
        table = groups.agg(
            **{name: (name, "mean") for name in (*FIGURES, SETTLED, SCORING) if name in results},
            **{name: (name, "first") for name in (REMARK,) if name in results},
            sigma=("top1", "std"),
            seeds=("seed", "nunique"),
        )
        return self._compared(table.reset_index())

    def _compared(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add columns that compare all methods with `Experiment.against`, if it names one."""
        import pandas as pd

        if not self.experiment.against:
            return table
        groups: dict[tuple[int, str], list[Run]] = {}
        for point, run, _ in self._finished():
            grid = self.experiment.grids.index(point.grid)
            groups.setdefault((grid, json.dumps(point.values)), []).append(run)
        rows = [
            {"method": method, **each._asdict()}
            for runs in groups.values()
            for method, each in beside(runs, self.experiment.against).items()
        ]
        compared = pd.DataFrame(rows)
        assert compared["method"].tolist() == table["method"].tolist()
        return table.join(compared.drop(columns="method"))

    def _finished(self) -> Iterator[tuple[Point, Run, pd.DataFrame]]:
        """Yield each finished point and run, with its table of metrics."""
        for point, run in self.runs:
            try:
                yield point, run, run.store.open(run.stages[-1]).table("metrics")
            except MissingInput:
                continue

    @property
    def selection(self) -> str:
        """Profile, and the settings in which all runs depart from it."""
        chosen = [run.selection for _, run in self.runs if run.selection]
        common = set.intersection(*({str(d) for d in each.departures} for each in chosen))
        first = chosen[0]
        shared = tuple(d for d in first.departures if str(d) in common)
        return str(replace(first, departures=shared))

    @property
    def stored(self) -> StoredSweep:
        """Place of the sweep in the store, by a name that follows from its content."""
        return StoredSweep.of(self.store, self.name, self._record)

    @property
    def _record(self) -> dict[str, Any]:
        runs = {point.title: run.stages[-1].key for point, run in self.runs}
        experiment = self.experiment.model_dump(mode="json")
        return {"selection": self.selection, "experiment": experiment, "runs": runs}

    def write(self) -> Path:
        """Write the table to the store, and return its path."""
        self.stored.write(self.table(), self._record)
        return self.stored.path


def _sum(counts: Iterable[int | None]) -> int | None:
    """Sum the counts; None if one of them is unknown."""
    values = list(counts)
    return None if None in values else sum(count or 0 for count in values)


def _shared(name: str, stages: list[tuple[Run, Stage]]) -> dict[str, Any]:
    """Count the artifacts of a stage that the runs need, the finished ones, and the work left."""
    finished: list[Stage] = []
    units, writes, known = 0, 0, True
    for run, stage in stages:
        try:
            all_units = stage.units(run.store)
            artifact = run.store.artifact(stage)
            if artifact.missing(all_units) is None:
                finished.append(stage)
                continue
            missing = len(artifact.unfinished(all_units))
            units += missing
            writes += missing * (stage.footprint(run.store).written or 0)
        except AbsError:  # a missing input, or a wrong setting that the run will report
            known = False
    left = [stage for _, stage in stages if stage not in finished]
    return {
        "stage": name,
        "artifacts": len(stages),
        "there": len(finished),
        "units": units if known else None,
        "crops": sharing.crops_to_embed(run.store, left),
        "crops_at_most": sharing.crops_at_most(run.store, left),
        "writes": writes if known else None,
    }
