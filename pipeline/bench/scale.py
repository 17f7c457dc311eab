"""Measure overhead, speedup and limits of Dask workers: `python -m pipeline.bench.scale`.

Prints the result of each part. Wall-clock time depends on the other load of the machine, so CPU
time and load are printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from pipeline.bench.books import books
from pipeline.bench.small import digests, run_all_stages, write_dataset
from pipeline.bench.stub import Stub, rebuild_stubs, without_encoders
from pipeline.core.progress import Reporter
from pipeline.engine.base import Engine, Rebuild
from pipeline.engine.dask.driver import Cluster
from pipeline.engine.dask.local import workers_here
from pipeline.engine.inline import Inline
from pipeline.engine.runner import Outcome, run_stage
from pipeline.run import Run, rebuild
from pipeline.store.claims import living
from pipeline.store.store import Store

ROWS = 221_482
"""Number of images in the ten test sets of the paper."""


def local_workers(workers: int, rebuild: Rebuild = rebuild) -> Cluster:
    """Return the engine of `--workers`."""
    return Cluster(partial(workers_here, workers, Reporter()), rebuild, workers=workers)


# --- Killed workers -------------------------------------------------------------------------------


def kills(folder: Path, count: int) -> str:
    """Kill `count` workers while they compute, at random times; check the digests of each run."""
    run = _run(folder / "undisturbed")
    expected, rng = run_all_stages(run), random.Random(0)
    done = runs = wrong = 0
    while done < count:
        run, finished = _run(folder / f"killed-{runs}"), threading.Event()
        killed: list[int] = []
        arguments = run, rng, finished, killed, count - done
        killer = threading.Thread(target=_kill, args=arguments, daemon=True)
        killer.start()
        with local_workers(2) as engine:
            run.execute(run.stages, [], quiet=True, engine=engine)
        finished.set()
        killer.join()
        done, runs = done + len(killed), runs + 1
        wrong += digests(run) != expected
    return f"{done} workers killed in {runs} runs; runs with wrong digests: {wrong}"


def _run(store: Path) -> Run:
    os.environ["ABS_ARTIFACTS"] = str(store)
    dataset = store.parent / "tiny.yaml"
    if not dataset.exists():
        write_dataset(store.parent, classes=2, images=10)
    return Run.of(str(dataset), "official", ["scores.n=20 layout.images=2"])


def _kill(
    run: Run, rng: random.Random, finished: threading.Event, killed: list[int], most: int
) -> None:
    """Kill processes that hold claims, one every few seconds; append their ids to `killed`.

    Stops after `most` kills, or when `finished` is set.
    """
    while not finished.wait(rng.uniform(1.0, 6.0)) and len(killed) < most:
        folders = {path.parent for path in run.store.folder.glob("*/*/claims/0*.json")}
        claims = [claim for folder in folders for claim in living(folder)]
        if workers := [claim.pid for claim in claims if claim.pid not in (0, os.getpid())]:
            killed.append(rng.choice(workers))
            os.kill(killed[-1], signal.SIGKILL)


# --- Two workers against one process --------------------------------------------------------------


def overhead(folder: Path, turns: int) -> str:
    """Time encoders with two workers and in this process, alternately, one thread per process."""
    os.environ["ABS_ARTIFACTS"] = str(folder / "demo")
    overrides = ["runtime.threads=1 layout.images=16 scores.n=10 scores.methods=null"]
    run = Run.of("demo", "official", overrides)
    run_all_stages(run)
    lines = []
    with local_workers(2) as engine:
        for name in ("attention", "embeddings-raw"):
            _time_stage(run, name, engine)  # warm-up: workers import the modules of the stage
            pairs = [
                (_time_stage(run, name, None), _time_stage(run, name, engine)) for _ in range(turns)
            ]
            lines.append(f"{name}: {_compared(pairs)}")
    return "\n  ".join(["", *lines])


def scores(folder: Path, turns: int) -> str:
    """Time the scores stage like `overhead`, on random vectors of two sizes of dataset."""
    lines = []
    for name, dataset in (("forty demos", _forty_demos), ("like CUB", _like_cub)):
        os.environ["ABS_ARTIFACTS"] = str(folder / name / "store")
        run = Run.of(str(dataset(folder / name)), "official", ["runtime.threads=1"])
        with without_encoders():
            run.execute([stage for stage in run.stages if stage.kind != "metrics"], [], quiet=True)
        with local_workers(2) as engine:
            _time_stage(run, "scores", engine)
            pairs = [
                (_time_stage(run, "scores", None), _time_stage(run, "scores", engine))
                for _ in range(turns)
            ]
        lines.append(f"{name}: {_compared(pairs)}")
    return "\n  ".join(["", *lines])


def _forty_demos(folder: Path) -> Path:
    """Write a dataset of 24 classes and 19,200 images, N = 20: units take 40 ms."""
    path = write_dataset(folder, classes=24, images=20)
    for image in sorted((folder / "images").rglob("*.png")):
        for copy in range(39):
            os.link(image, image.with_stem(f"{image.stem}-{copy}"))
    return _rewritten(path, scores={"methods": None, "n": 20})


def _like_cub(folder: Path) -> Path:
    """Write a dataset of 200 classes with 30 descriptions and 2,000 images, N = 60.

    Its units take seconds.
    """
    path, names = write_dataset(folder, classes=1, images=1), [f"bird {i:03}" for i in range(200)]
    (image,) = (folder / "images").rglob("*.png")
    for name in names:
        (folder / "images" / name).mkdir()
        for copy in range(10):
            os.link(image, folder / "images" / name / f"{copy}.png")
    shutil.rmtree(image.parent)
    texts = {name: [f"a {name} with {i} spots" for i in range(30)] for name in names}
    (folder / "cupl.json").write_text(json.dumps(texts))
    return _rewritten(
        path,
        scores={"methods": ["clip", "cupl", "abs"]},
        clip={"model": "ViT-B-32", "weights": "random:0"},
        descriptions={"cupl": {"file": str(folder / "cupl.json")}},
    )


def _rewritten(path: Path, **sections: Any) -> Path:
    """Replace sections in the YAML of a dataset, and reset units to the default size."""
    config = yaml.safe_load(path.read_text()) | {"layout": {}, "methods": {}} | sections
    path.write_text(yaml.safe_dump(config))
    return path


def _time_stage(run: Run, name: str, engine: Engine | None) -> tuple[float, float, float]:
    """Remove a stage's artifact and run the stage; without an engine, in this process.

    Returns seconds of wall-clock time, of CPU time, and of reading, computing and writing units.
    """
    (stage,) = run.named(name)
    run.store.artifact(stage).remove()
    start, before = time.perf_counter(), _cpu_seconds()
    outcome = run_stage(stage, run.store, Reporter(True), run.settings, engine)
    elapsed = time.perf_counter() - start
    work = sum(outcome.seconds[part] for part in ("read", "compute", "write"))
    return elapsed, _cpu_seconds() - before, work


def _driver_cpu_seconds() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and its workers."""
    seconds = _driver_cpu_seconds()
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        seconds += times.user + times.system
    return seconds


def _compared(pairs: list[tuple[Any, Any]]) -> str:
    """Format the medians of pairs of `_time_stage`: in this process, with two workers."""
    alone, shared = (np.median([pair[i] for pair in pairs], axis=0) for i in (0, 1))
    return (
        f"{alone[0]:.1f} s in one process, {shared[0]:.1f} s with two workers: "
        f"{alone[0] / shared[0]:.2f} times as fast; CPU time {alone[1]:.1f} s and "
        f"{shared[1]:.1f} s: {100 * (shared[1] / alone[1] - 1):+.0f} % (medians of {len(pairs)})"
    )


# --- Units without an encoder ---------------------------------------------------------------------


def many(folder: Path, rows: int) -> str:
    """Measure engine and store alone: time per unit of a stage without an encoder."""
    stage, warmup, lines = Stub(rows, 128, 512), Stub(40 * 128, 128, 512), []
    workers = local_workers(4, partial(rebuild_stubs, [stage, warmup]))
    for name, engine in (("one process", Inline()), ("4 workers", workers)):
        store = Store(folder / name.replace(" ", "-"), "scale")
        with engine:
            _run_stub(warmup, store, engine)  # processes start and import their modules
            before, driver, start = _cpu_seconds(), _driver_cpu_seconds(), time.perf_counter()
            outcome = _run_stub(stage, store, engine)
            elapsed, cpu = time.perf_counter() - start, _cpu_seconds() - before
            driver = _driver_cpu_seconds() - driver
        units = outcome.computed
        lines.append(
            f"{name}: {units} units of 131 kB in {elapsed:.0f} s: {units / elapsed:,.0f} units/s, "
            f"{1000 * elapsed / units:.1f} ms per unit ({1000 * cpu / units:.1f} ms of CPU time, "
            f"{1000 * driver / units:.1f} of it in the driver and its scheduler)"
        )
    return "\n  ".join(["", *lines])


def _run_stub(stage: Stub, store: Store, engine: Engine) -> Outcome:
    os.environ["ABS_ARTIFACTS"] = str(store.root)  # workers read the store's folder from settings
    settings = Run.of("demo", "official", []).settings
    return run_stage(stage, store, Reporter(True), settings, engine)


PARTS: dict[str, tuple[Callable[..., str], int]] = {
    "kills": (kills, 20),
    "overhead": (overhead, 3),
    "scores": (scores, 3),
    "many": (many, ROWS),
    "books": (books, 20_000),
}


def main() -> None:
    """Run the parts named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--count", type=int, help="kills, repeats or rows, instead of the default")
    parser.add_argument(
        "--build", type=Path, action="append", default=[], help="checkout to measure books beside"
    )
    options = parser.parse_args()
    for name in options.parts or PARTS:
        part, count = PARTS[name]
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            more = {"builds": options.build} if part is books else {}
            result = part(Path(folder), options.count or count, **more)
        load = ", ".join(f"{average:.0f}" for average in os.getloadavg())
        print(f"{name}: {result} ({time.monotonic() - start:.0f} s; load {load})", flush=True)


if __name__ == "__main__":
    main()
