"""`make torture`: processes killed at any instant, several at once, bytes flipped, odd commands.

Prints what was done and what came of it; ends with exit code 1 if anything was lost. All of it runs
on a part of the demo, with units of a few images so that there are many to be hit.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifact import MANIFEST
from pipeline.commands import Run
from pipeline.verify import mark
from tests.conftest import ROOT, digests, make_all, write_dataset
from tests.fuzz import command_line, fault
from tests.test_verify import checkup, cut, delete, flip

CHANGES = ["scores.methods=null", "scores.n=6"]


@dataclass
class Case:
    """A dataset, and the digests of an undisturbed run over it."""

    folder: Path
    dataset: Path
    expected: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Case:
        """A few classes of the demo."""
        case = cls(folder, write_dataset(folder, classes=4, images=10))
        run = case.run("undisturbed")
        case.expected = make_all(run)
        return case

    def run(self, store: str) -> Run:
        """The run over a store of that name."""
        os.environ["ABS_ARTIFACTS"] = str(self.folder / store)
        return Run.of(str(self.dataset), "official", CHANGES)

    def start(self, store: str) -> subprocess.Popen[bytes]:
        """The same in a process of its own."""
        words = ["-m", "pipeline", "run", "--dataset", str(self.dataset)]
        words += [word for change in CHANGES for word in ("--set", change)]
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, "ABS_ARTIFACTS": str(self.folder / store)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def receipts(run: Run) -> dict[Path, tuple[int, int]]:
    """Every receipt of a store, with what changes when it is written again."""
    found = run.store.folder.glob("*/*/ledger/[!.]*.json")
    return {path: ((stat := path.stat()).st_mtime_ns, stat.st_ino) for path in found}


def kills(case: Case, count: int, rng: random.Random) -> str:
    """kill -9 at random instants; then whatever is left is made, and compared."""
    done = rerun = redone = wrong = 0
    span = _seconds(case)
    while done < count:
        run = case.run("killed")
        shutil.rmtree(run.store.root, ignore_errors=True)
        while done < count:
            before = receipts(run)
            process = case.start("killed")
            instant = time.monotonic() + rng.uniform(0.2, span / 2)
            while process.poll() is None and time.monotonic() < instant:
                time.sleep(0.005)
            killed = process.poll() is None
            process.kill()
            process.communicate()
            after = receipts(run)
            redone += sum(after.get(path) != stamp for path, stamp in before.items())
            if not killed:
                rerun += 1
                wrong += process.returncode != 0 or digests(case.run("killed")) != case.expected
                break
            done += 1
    fresh = case.run("killed")
    make_all(fresh)
    wrong += digests(fresh) != case.expected or bool(checkup(fresh))
    return _told(
        wrong + redone,
        f"{done} kills, {rerun + 1} runs came to their end, all but {wrong} with the digests of "
        f"an undisturbed run; finished units computed again: {redone}",
    )


def _seconds(case: Case) -> float:
    """That a run takes here."""
    start = time.monotonic()
    process = case.start("timed")
    process.communicate()
    return time.monotonic() - start


def together(case: Case, count: int, rng: random.Random) -> str:
    """Processes on all stages at once."""
    parts, wrong = [], 0
    for number in (2, 4):
        for turn in range(count):
            store = f"together-{number}-{turn}"
            run = case.run(store)
            processes = [case.start(store) for _ in range(number)]
            errors = [process.communicate()[1].decode() for process in processes]
            wrong += any(process.returncode for process in processes)
            wrong += digests(run) != case.expected or bool(checkup(run))
            units = sum(len(stage.units(run.store)) for stage in run.stages)
            computed = sum(_computed(error) for error in errors)
            parts.append(f"{number} processes {computed - units} of {units} units twice")
    return _told(wrong, f"{'; '.join(parts)}; other digests or errors: {wrong}")


def _computed(said: str) -> int:
    """Units that a process says it computed."""
    lines = [line for line in said.splitlines() if ": done, " in line]
    return sum(int(line.split(": done, ")[1].split(" of ")[0]) for line in lines)


def flips(case: Case, count: int, rng: random.Random) -> str:
    """Single bytes, chunks and receipts lost at random places, one after the other."""
    run = case.run("flipped")
    shutil.copytree(case.folder / "undisturbed", run.store.root)
    files = sorted(
        path
        for path in run.store.folder.rglob("*")
        if path.is_file() and not {"claims", "runs", "failures"} & set(path.parts)
    )
    named = repaired = 0
    for _ in range(count):
        path, how = rng.choice(files), rng.choice((flip, flip, flip, cut, delete))
        if path.name == MANIFEST and how is delete:
            how = cut  # without one an artifact is not finished, which is no damage
        how(path, rng)
        found = checkup(run)
        named += [damage.artifact.path / damage.file for damage in found] == [path]
        mark(found)
        fresh = case.run("flipped")
        outcomes = fresh.execute(fresh.stages, [], quiet=True)
        units = sum(outcome.computed for outcome in outcomes)
        repaired += units <= 1 and digests(fresh) == case.expected and not checkup(fresh)
    wrong = 2 * count - named - repaired
    return _told(wrong, f"{count} damages: {named} named, {repaired} repaired by one unit at most")


def fuzz(case: Case, count: int, rng: random.Random) -> str:
    """Command lines and settings that make no sense, or a little."""
    case.run("undisturbed")
    faults = []
    for _ in range(count):
        words = command_line(rng, case.dataset, case.folder)
        if wrong := fault(words):
            faults.append(f"abs {words}: {wrong}")
    return _told(len(faults), "\n".join([f"{count} command lines, {len(faults)} faults", *faults]))


def _told(wrong: int, text: str) -> str:
    return f"{'FAILED' if wrong else 'ok'}: {text}"


PARTS: dict[str, tuple[Callable[[Case, int, random.Random], str], int]] = {
    "kills": (kills, 200),
    "together": (together, 3),
    "flips": (flips, 300),
    "fuzz": (fuzz, 1000),
}


def main() -> int:
    """All parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual counts")
    given = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        case = Case.of(Path(folder))
        for name in given.parts or PARTS:
            part, count = PARTS[name]
            start = time.monotonic()
            told = part(case, max(1, round(given.share * count)), random.Random(given.seed))
            print(f"{name}: {told} ({time.monotonic() - start:.0f} s)", flush=True)
            failed |= told.startswith("FAILED")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
