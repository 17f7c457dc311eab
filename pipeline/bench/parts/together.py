"""Comparison of whole runs, in float32 and in the precision that suits the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from pipeline.bench.case import TEXTS, Case
from pipeline.bench.timing import Row, seconds_of
from pipeline.models.precision import best


def rows(case: Case, pairs: int) -> Iterator[Row]:
    """Compare the whole pipeline, including its store but not the loading of models."""
    counts = iter(range(10**6))

    def pipeline(precision: str) -> float:
        overrides = [f"{section}.precision={precision}" for section in ("clip", "attention")]
        run = case.run(f"all-{next(counts)}", *overrides)
        _ = [stage.key for stage in run.stages]  # resolves the models, which is part of loading
        start = time.perf_counter()
        outcomes = run.execute(run.stages, [], quiet=True)
        return time.perf_counter() - start - sum(o.seconds.get("load", 0.0) for o in outcomes)

    def plain_pipeline() -> float:
        parts = [lambda: case.plain.texts(TEXTS), *case.plain_stages.values()]
        return sum(map(seconds_of, parts))

    auto = best("auto")[0]
    times = [(pipeline("float32"), pipeline(auto), plain_pipeline()) for _ in range(pairs + 1)][1:]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    for column, name in enumerate(("float32", auto)):
        ratio = statistics.median(row[2] / row[column] for row in times)
        note = f"{len(case.files) / medians[column]:.3f} images/s"
        what = f"all stages, {name}, against the plain implementation"
        yield Row(what, medians[column], medians[2], ratio, note)
    ratio = statistics.median(single / half for single, half, _ in times)
    yield Row(f"all stages, {auto} against float32", medians[1], medians[0], ratio)
