"""`python -m tests.scale`: what a cluster costs, what it brings, and where it ends.

Prints a line per part. Seconds are of this machine and of whatever else runs on it, so processor
time is told beside them; nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import yaml

from pipeline import cluster
from pipeline.claims import living
from pipeline.commands import Run
from pipeline.engine import Engine, Job
from pipeline.inline import Inline
from pipeline.progress import Reporter
from pipeline.runner import Outcome, run_stage
from pipeline.store import Store
from tests.clusters import here
from tests.conftest import digests, make_all, write_dataset
from tests.stub import Stub, StubRecipe, without_encoders

ROWS = 221_482
"""Images of the ten test sets of the paper together."""


# --- A worker is killed ---------------------------------------------------------------------------


def kills(folder: Path, count: int) -> str:
    """kill -9 of a worker that is at a unit, at random instants, until there were enough."""
    run = _run(folder / "calm")
    expected, rng = make_all(run), random.Random(0)
    done = runs = wrong = 0
    while done < count:
        run, over = _run(folder / f"killed-{runs}"), threading.Event()
        found: list[int] = []
        words = run, rng, over, found, count - done
        killer = threading.Thread(target=_kill, args=words, daemon=True)
        killer.start()
        with here(2) as engine:
            run.execute(run.stages, [], quiet=True, engine=engine)
        over.set()
        killer.join()
        done, runs = done + len(found), runs + 1
        wrong += digests(run) != expected
    return f"{done} workers killed in {runs} runs, {wrong} of which ended with other digests"


def _run(store: Path) -> Run:
    os.environ["ABS_ARTIFACTS"] = str(store)
    dataset = store.parent / "tiny.yaml"
    if not dataset.exists():
        write_dataset(store.parent, classes=2, images=10)
    return Run.of(str(dataset), "official", ["scores.n=20 layout.images=2"])


def _kill(run: Run, rng: random.Random, over: threading.Event, found: list[int], most: int) -> None:
    """A process that is at a unit, now and then."""
    while not over.wait(rng.uniform(1.0, 6.0)) and len(found) < most:
        folders = {path.parent for path in run.store.folder.glob("*/*/claims/0*.json")}
        claims = [claim for folder in folders for claim in living(folder)]
        if at_it := [each.pid for each in claims if each.pid not in (0, os.getpid())]:
            found.append(rng.choice(at_it))
            os.kill(found[-1], signal.SIGKILL)


# --- Against this process -------------------------------------------------------------------------


def overhead(folder: Path, turns: int) -> str:
    """Two workers of one thread against one process of one thread, taking turns."""
    os.environ["ABS_ARTIFACTS"] = str(folder / "demo")
    changes = ["runtime.threads=1 layout.images=16 scores.n=10 scores.methods=null"]
    run = Run.of("demo", "official", changes)
    make_all(run)
    lines = []
    with here(2) as engine:
        for name in ("attention", "embeddings-raw"):
            _again(run, name, engine)  # workers import what the stage needs
            pairs = [(_again(run, name, None), _again(run, name, engine)) for _ in range(turns)]
            lines.append(f"{name}: {_compared(pairs)}")
    return "\n  ".join(["", *lines])


def scores(folder: Path, turns: int) -> str:
    """The scores stage, over vectors drawn at random: forty demos, and one as large as CUB."""
    lines = []
    for name, dataset in (("forty demos", _forty_demos), ("like CUB", _like_cub)):
        os.environ["ABS_ARTIFACTS"] = str(folder / name / "store")
        run = Run.of(str(dataset(folder / name)), "official", ["runtime.threads=1"])
        with without_encoders():
            run.execute([stage for stage in run.stages if stage.kind != "metrics"], [], quiet=True)
        with here(2) as engine:
            _again(run, "scores", engine)
            pairs = [
                (_again(run, "scores", None), _again(run, "scores", engine)) for _ in range(turns)
            ]
        lines.append(f"{name}: {_compared(pairs)}")
    return "\n  ".join(["", *lines])


def _forty_demos(folder: Path) -> Path:
    """24 classes, 19,200 images, N = 20: units of 40 ms."""
    path = write_dataset(folder, classes=24, images=20)
    for image in sorted((folder / "images").rglob("*.png")):
        for copy in range(39):
            os.link(image, image.with_stem(f"{image.stem}-{copy}"))
    return _rewritten(path, scores={"methods": None, "n": 20, "logit_scale": 26.66})


def _like_cub(folder: Path) -> Path:
    """200 classes of 30 descriptions, 2,000 images, N = 60, a ViT-B/32: units of seconds."""
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
    """The YAML of a dataset with other sections, in units of the default size."""
    config = yaml.safe_load(path.read_text()) | {"layout": {}, "methods": {}} | sections
    path.write_text(yaml.safe_dump(config))
    return path


def _again(run: Run, name: str, engine: Engine | None) -> tuple[float, float, float]:
    """Seconds of one stage made once more: on the clock, of processors, of its own work."""
    (stage,) = run.named(name)
    run.store.artifact(stage).remove()
    start, before = time.perf_counter(), _processors()
    outcome = run_stage(stage, run.store, Reporter(True), run.settings, engine)
    took = time.perf_counter() - start
    work = sum(outcome.seconds[each] for each in ("read", "compute", "write"))
    return took, _processors() - before, work


def _own() -> float:
    """Seconds of processors that this process has had."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def _processors() -> float:
    """The same with its workers."""
    found = _own()
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        found += times.user + times.system
    return found


def _compared(pairs: list[tuple[Any, Any]]) -> str:
    alone, shared = (np.median([pair[i] for pair in pairs], axis=0) for i in (0, 1))
    return (
        f"{alone[0]:.1f} s alone, {shared[0]:.1f} s with two workers: {alone[0] / shared[0]:.2f} "
        f"times as fast; processor seconds {alone[1]:.1f} and {shared[1]:.1f}: "
        f"{100 * (shared[1] / alone[1] - 1):+.0f} % (medians of {len(pairs)})"
    )


# --- Many units of nothing ------------------------------------------------------------------------


def many(folder: Path, rows: int) -> str:
    """Units without an encoder: what the engine and the store take for each."""
    stage, lines = Stub(rows, 128, 512), []
    for name, engine in (("alone", Inline()), ("4 workers", here(4))):
        store = Store(folder / name.replace(" ", "-"), "scale")
        cluster.recipe_of = _recipe_of  # type: ignore[assignment]
        with engine:
            _warm(stage, store, engine)
            before, own, start = _processors(), _own(), time.perf_counter()
            outcome = _made(stage, store, engine)
            took, spent = time.perf_counter() - start, _processors() - before
            own = _own() - own
        units = outcome.computed
        lines.append(
            f"{name}: {units} units of 131 kB in {took:.0f} s: {units / took:,.0f} a second, "
            f"{1000 * took / units:.1f} ms each ({1000 * spent / units:.1f} ms of processors, "
            f"{1000 * own / units:.1f} of them in the process that asks, with the scheduler)"
        )
    return "\n  ".join(["", *lines])


def _recipe_of(job: Job, run: str) -> StubRecipe:
    settings = job.settings.model_dump_json()
    return StubRecipe(cast(Stub, job.stage), str(job.store.root), settings, run)


def _made(stage: Stub, store: Store, engine: Engine) -> Outcome:
    settings: Any = Run.of("demo", "official", []).settings
    return run_stage(stage, store, Reporter(True), settings, engine)


def _warm(stage: Stub, store: Store, engine: Engine) -> None:
    """So that processes have started and imported what they need."""
    _made(Stub(40 * stage.block, stage.block, stage.dim), store, engine)


PARTS: dict[str, tuple[Callable[[Path, int], str], int]] = {
    "kills": (kills, 20),
    "overhead": (overhead, 3),
    "scores": (scores, 3),
    "many": (many, ROWS),
}


def main() -> None:
    """All parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--count", type=int, help="instead of the usual")
    given = parser.parse_args()
    for name in given.parts or PARTS:
        part, count = PARTS[name]
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            told = part(Path(folder), given.count or count)
        load = ", ".join(f"{each:.0f}" for each in os.getloadavg())
        print(f"{name}: {told} ({time.monotonic() - start:.0f} s; load {load})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
