"""What settling costs beside what it saves, in CPU seconds of `embeddings-raw` and `scores`.

    python -m pipeline.bench.settling [--images N] [--pairs N] [--dataset NAME] [--set KEY=VALUE]

A run that settles and one that embeds all crops take turns. All they read is stored, and neither
finds crops of the other. Units are computed one after the other in one thread, so that each second
of the processor belongs to one part; other programs disturb these less than the clock. What is not
decoding or encoding is overhead: the order of the crops, looks, reading of what earlier rounds have
stored, and tables. Loading models is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

from pipeline.bench.timing import machine
from pipeline.engine.base import Done, Job, Session
from pipeline.engine.inline import Inline, InlineSession
from pipeline.engine.work import UnitWork
from pipeline.run import Run
from pipeline.store.units import Unit
from pipeline.studies.settling import on_sample

STAGES = ("embeddings-raw", "scores")
TIMED = {
    "decoding": ("encoder", "pixels"),
    "encoding": ("encoder", "encode"),
    "order": ("decider", "order"),
    "looks": ("decider", "look"),
    "scores of crops": ("decider", "take"),
    "places": ("encoder", "drawn"),
}
"""Parts of the work, each a method of a part of the worker."""
ENCODING = ("decoding", "encoding")
ALL = "all"
REST = "the rest"

Seconds = defaultdict[str, float]
"""Seconds of the processor by part."""


class Timed(Inline):
    """Computes units one after the other, and counts the seconds of the processor by part."""

    def __init__(self) -> None:
        super().__init__()
        self.spent = Seconds(float)

    @contextmanager
    def open(self, job: Job) -> Iterator[Session]:
        """Load the stage, and time the parts of its worker."""
        with UnitWork.load(job.stage, job.store, self.sharing) as work:
            encoder = getattr(work.worker, "encoder", work.worker)
            owners = {"encoder": encoder, "decider": getattr(work.worker, "decider", None)}
            for part, (owner, name) in TIMED.items():
                if function := getattr(owners[owner], name, None):
                    setattr(owners[owner], name, self._timed(part, function))
            yield TimedSession(work, self)

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any) -> Any:
            with self.counted(part):
                return function(*args)

        return timed

    @contextmanager
    def counted(self, part: str) -> Iterator[None]:
        """Add the seconds of the processor that a block of code takes to a part."""
        started = time.process_time()
        yield
        self.spent[part] += time.process_time() - started


class TimedSession(InlineSession):
    """A loaded stage whose units are computed in one thread."""

    def __init__(self, work: UnitWork, engine: Timed) -> None:
        super().__init__(work)
        self._engine = engine

    def compute(self, todo: list[Unit]) -> Generator[Done, None, None]:
        """Compute the unclaimed units of `todo` in order; an error ends the run."""
        for unit in self._claimed(todo):
            with self._engine.counted(ALL):
                inputs, spent = self._read(unit)
                outputs = self.work.compute(unit, inputs, spent, self.under_way.tell)
                self._write((unit, outputs, spent))
            self.under_way.end(unit.name)
            yield Done(unit)


class Pair(NamedTuple):
    """Seconds of the processor by part."""

    settled: Seconds
    whole: Seconds
    """The same, where all crops are embedded."""

    def seconds(self, side: int, part: str) -> float:
        """Return the seconds of a part, or the rest, of the settled side (0) or the other (1)."""
        if part == REST:
            return self[side][ALL] - sum(self[side][each] for each in TIMED)
        return self[side][part]

    @property
    def overhead(self) -> float:
        """Seconds of the settled run that are neither decoding nor encoding."""
        return self.settled[ALL] - sum(self.settled[part] for part in ENCODING)

    @property
    def saved(self) -> float:
        """Seconds that the settled run takes less."""
        return self.whole[ALL] - self.settled[ALL]


def measure(settled: Run, whole: Run) -> Pair:
    """Compute both from the same inputs, which are made first where they are missing."""
    return Pair(*(_spent(run, (settled, whole)) for run in (settled, whole)))


def _spent(run: Run, runs: Sequence[Run]) -> Seconds:
    """Compute the stages of a run; what they share with other runs is taken out of the store."""
    computed = [run.named(name)[0] for name in STAGES]
    others = [stage for stage in run.stages if stage not in computed and stage.kind != "metrics"]
    run.execute(others, [], quiet=True)
    for each in runs:
        for name in STAGES:
            each.store.artifact(each.named(name)[0]).remove()
    engine = Timed()
    run.execute(computed, [], quiet=True, engine=engine)
    return engine.spent


def table(pairs: Sequence[Pair]) -> str:
    """Format the medians of all parts as Markdown, below the share of the overhead."""

    def cells(part: str) -> str:
        medians = (statistics.median(pair.seconds(side, part) for pair in pairs) for side in (0, 1))
        return " | ".join([f"| {part}", *(f"{median:.2f}" for median in medians), ""]).rstrip()

    overhead = statistics.median(pair.overhead for pair in pairs)
    saved = statistics.median(pair.saved for pair in pairs)
    faster = statistics.median(pair.whole[ALL] / pair.settled[ALL] for pair in pairs)
    share = statistics.median(pair.overhead / pair.saved for pair in pairs)
    head = (
        f"{saved:.1f} CPU seconds saved ({faster:.2f} times faster), {overhead:.2f} spent on what "
        f"is neither decoding nor encoding: {share:.1%} of what is saved\n\n"
    )
    rows = map(cells, (*TIMED, REST, ALL))
    return head + "\n".join(["| CPU seconds | settled | all crops |", "|---|---|---|", *rows])


def main() -> None:
    """Take turns, and print the medians of all pairs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--set", action="append", default=[], help="as of abs run")
    parser.add_argument("--images", type=int, default=480, help="evenly from the classes")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    settings = ["scores.methods=[abs]", "scores.n=60", "runtime.threads=1", *given.set]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ABS_ARTIFACTS"] = folder
        settled, whole = (
            Run.of(given.dataset, "official", each, plan=on_sample(given.images))
            for each in (["scores.settle=0.001", *settings], [*settings, "scores.settle=null"])
        )
        pairs = []
        for _ in range(given.pairs):
            pairs.append(measure(settled, whole))
            print(table(pairs[-1:]), flush=True)
    print(f"\nmedians of {given.pairs} pairs; torch {machine()['torch']}, {machine()['cpu']}\n")
    print(table(pairs))


if __name__ == "__main__":
    main()
