"""Stress tests: kills at random times, concurrent processes, damaged files, random commands.

Run with `make torture`. Prints the result of each part; the exit code is 1 if a part failed. The
dataset is a part of the demo, divided into many small units.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.bench.damage import cut, delete, find_damage, flip
from pipeline.bench.fuzz import command_line, fault
from pipeline.bench.small import digests, run_all_stages, write_dataset
from pipeline.core.paths import PROJECT
from pipeline.inspect.verify import mark
from pipeline.run import Run
from pipeline.store.artifact import MANIFEST
from pipeline.store.ledger import Receipt
from pipeline.store.writer import ArtifactWriter

OVERRIDES = ["scores.methods=null", "scores.n=6"]
SETTLED = ["scores.methods=[abs]", "scores.n=20", "scores.expectation=true", "scores.settle=1e-5"]
"""Settings under which some images settle at once, others late or never."""


WAYS: dict[str, list[list[str]]] = {
    "2 processes": [[]] * 2,
    "4 processes": [[]] * 4,
    "3 parts": [["--part", f"{number}/3"] for number in (1, 2, 3)],
    "1 worker": [["--workers", "1"]],
    "2 workers": [["--workers", "2"]],
    "4 workers": [["--workers", "4"]],
}
"""Ways to run on one store at once: the options of each process, by name."""


@dataclass
class Case:
    """A dataset, and the digests of an undisturbed run of it."""

    folder: Path
    dataset: Path
    overrides: list[str]
    expected: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, overrides: list[str]) -> Case:
        """Write the dataset, and run all stages on it."""
        case = cls(folder, write_dataset(folder, classes=4, images=10), overrides)
        run = case.run("undisturbed")
        case.expected = run_all_stages(run)
        return case

    def run(self, store: str) -> Run:
        """Return a run with the store `store` below the folder of the case."""
        os.environ["ABS_ARTIFACTS"] = str(self.folder / store)
        return Run.of(str(self.dataset), "official", self.overrides)

    def start(self, store: str, *options: str) -> subprocess.Popen[bytes]:
        """Start the run in another process, with further options of `abs run`."""
        words = ["-m", "pipeline", "run", "--dataset", str(self.dataset), *options]
        words += [word for override in self.overrides for word in ("--set", override)]
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=PROJECT,
            env={**os.environ, "ABS_ARTIFACTS": str(self.folder / store)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def receipts(run: Run) -> dict[tuple[Path, str], Receipt]:
    """Return all receipts of a store, sealed or not; one that is written again differs."""
    ledgers = [(artifact.path, artifact.ledger) for artifact in run.store.artifacts()]
    return {(path, unit): one for path, ledger in ledgers for unit, one in ledger.stored().items()}


def kills(case: Case, count: int, rng: random.Random) -> str:
    """Kill runs at random times, restart them until one finishes, and compare digests.

    Also counts receipts that a restarted run wrote again: finished units must not be recomputed.
    """
    done = rerun = redone = wrong = 0
    duration = _run_seconds(case)
    while done < count:
        run = case.run("killed")
        shutil.rmtree(run.store.root, ignore_errors=True)
        while done < count:
            before = receipts(run)
            process = case.start("killed")
            kill_time = time.monotonic() + rng.uniform(0.2, duration / 2)
            while process.poll() is None and time.monotonic() < kill_time:
                time.sleep(0.005)
            killed = process.poll() is None
            process.kill()
            process.communicate()
            after = receipts(run)
            redone += sum(after.get(unit) != receipt for unit, receipt in before.items())
            if not killed:
                rerun += 1
                wrong += process.returncode != 0 or digests(case.run("killed")) != case.expected
                break
            done += 1
    run = case.run("killed")
    run_all_stages(run)
    wrong += digests(run) != case.expected or bool(find_damage(run))
    return _result(
        wrong + redone,
        f"{done} kills, {rerun + 1} runs finished; runs with wrong digests: {wrong}; finished "
        f"units computed again: {redone}",
    )


def seals(case: Case, count: int, rng: random.Random) -> str:
    """Kill processes at a random step of sealing receipts; nothing may be lost or computed again.

    Half of the artifacts are sealed for the first time, the others once more.
    """
    run = case.run("sealed")
    shutil.copytree(case.folder / "undisturbed", run.store.root, dirs_exist_ok=True)
    killed = wrong = 0
    for _ in range(count):
        stage = rng.choice(run.stages)
        artifact, units = run.store.artifact(stage), stage.units(run.store)
        provenance = artifact.manifest
        for receipt in artifact.ledger.stored().values():
            artifact.ledger.write(receipt)
        if rng.random() < 0.5:
            for path in [*artifact.ledger.copies, artifact.path / MANIFEST]:
                path.unlink()
        step = rng.randrange(12 + len(units))
        killed += _killed_at(step, partial(ArtifactWriter(artifact).finalise, units, provenance))
        wrong += bool(find_damage(run))
        again = case.run("sealed")
        computed = sum(each.computed for each in again.execute(again.stages, [], quiet=True))
        loose = run.store.artifact(stage).ledger.loose()
        wrong += bool(computed or loose or digests(again) != case.expected or find_damage(again))
    return _result(wrong, f"{killed} of {count} were killed while they sealed; {wrong} went wrong")


def _killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do some work in a process that is killed before its change number `step` to the disk.

    Returns whether it came that far.
    """
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    left = iter(range(step))

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*words: Any, **named: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*words, **named)

        return instead

    for name in ("replace", "unlink", "fsync"):
        setattr(os, name, counted(getattr(os, name)))
    try:
        work()
    finally:
        os._exit(0)


def _run_seconds(case: Case) -> float:
    """Measure the seconds of an undisturbed run in another process."""
    start = time.monotonic()
    process = case.start("timed")
    process.communicate()
    return time.monotonic() - start


def together(case: Case, count: int, rng: random.Random) -> str:
    """Run all stages in several processes at once, in each of `WAYS`, on the same store."""
    parts, wrong = [], 0
    for way, each in WAYS.items():
        for turn in range(count):
            store = f"together-{way}-{turn}".replace(" ", "-")
            run = case.run(store)
            processes = [case.start(store, *options) for options in each]
            errors = [process.communicate()[1].decode() for process in processes]
            failed = any(process.returncode for process in processes)
            wrong += failed or digests(run) != case.expected or bool(find_damage(run))
            units = sum(len(stage.units(run.store)) for stage in run.stages)
            computed = sum(_computed(error) for error in errors)
            parts.append(f"{way} computed {computed - units} of {units} units twice")
    return _result(wrong, f"{'; '.join(parts)}; runs with errors or wrong digests: {wrong}")


def _computed(output: str) -> int:
    """Count the units that a process computed, from its progress lines on stderr."""
    lines = [line for line in output.splitlines() if ": done, " in line]
    return sum(int(line.split(": done, ")[1].split(" of ")[0]) for line in lines)


def flips(case: Case, count: int, rng: random.Random) -> str:
    """Damage files one at a time at random offsets; check that each is found and repaired."""
    run = case.run("flipped")
    shutil.copytree(case.folder / "undisturbed", run.store.root, dirs_exist_ok=True)
    files = sorted(
        path
        for path in run.store.folder.rglob("*")
        if path.is_file() and not {"claims", "runs", "failures"} & set(path.parts)
    )
    named = repaired = 0
    for _ in range(count):
        path, operation = rng.choice(files), rng.choice((flip, flip, flip, cut, delete))
        if path.name == MANIFEST and operation is delete:
            operation = cut  # without its manifest an artifact is unfinished, not damaged
        operation(path, rng)
        damages = find_damage(run)
        named += [damage.artifact.path / damage.file for damage in damages] == [path]
        mark(damages)
        rerun = case.run("flipped")
        outcomes = rerun.execute(rerun.stages, [], quiet=True)
        units = sum(outcome.computed for outcome in outcomes)
        repaired += units <= 1 and digests(rerun) == case.expected and not find_damage(rerun)
    wrong = 2 * count - named - repaired
    return _result(
        wrong,
        f"{count} damaged files: {named} found, {repaired} repaired by computing at most one unit",
    )


def fuzz(case: Case, count: int, rng: random.Random) -> str:
    """Run random command lines and settings, and list those that fail without a clear error."""
    case.run("undisturbed")
    faults = []
    for _ in range(count):
        words = command_line(rng, case.dataset, case.folder)
        if wrong := fault(words):
            faults.append(f"abs {words}: {wrong}")
    lines = [f"{count} command lines, {len(faults)} faults", *faults]
    return _result(len(faults), "\n".join(lines))


def _result(wrong: int, text: str) -> str:
    return f"{'FAILED' if wrong else 'ok'}: {text}"


PARTS: dict[str, tuple[Callable[[Case, int, random.Random], str], int]] = {
    "kills": (kills, 200),
    "seals": (seals, 200),
    "together": (together, 3),
    "flips": (flips, 300),
    "fuzz": (fuzz, 1000),
}


def main() -> int:
    """Run the parts named on the command line, or all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="multiplies the default counts")
    parser.add_argument("--settle", action="store_true", help="with crops that settle early")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        case = Case.of(Path(folder), SETTLED if options.settle else OVERRIDES)
        for name in options.parts or PARTS:
            part, count = PARTS[name]
            start = time.monotonic()
            result = part(case, max(1, round(options.share * count)), random.Random(options.seed))
            print(f"{name}: {result} ({time.monotonic() - start:.0f} s)", flush=True)
            failed |= result.startswith("FAILED")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
