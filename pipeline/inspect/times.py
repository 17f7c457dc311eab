"""Predict how long stages take: from receipts of this machine, else from a measured probe.

A receipt holds the seconds of reading, computing and writing a unit, which overlap: the longest of
the three counts. Workers that share a machine slow each other down, so receipts count only for as
many of them as wrote them. A probe loads the model, alone, and times a batch of random pixels or of
short texts; it is cached beside the store. Stages without a model are counted by a rough constant.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from pipeline.core import files
from pipeline.core.errors import AbsError, MissingInput
from pipeline.core.hashing import digest
from pipeline.core.progress import clock
from pipeline.core.words import counted
from pipeline.stage import Cost, Stage
from pipeline.store.artifact import MANIFEST, Artifact
from pipeline.store.store import Store
from pipeline.store.units import Keyed, Unit

ARTIFACTS, RECEIPTS = 5, 20
"""Most artifacts of a stage, and most receipts of each, that a rate is taken from."""
STEPS = ("read", "compute", "write")
ENCODING = ("descriptions", "attention", "embeddings")
"""Stages that encode something."""
NAMES = {"receipts": "receipts of this machine", "probe": "a probe of its models"}
LIGHT = Cost(load=0.2, item=0.002)
"""Cost of a stage without a model."""


@dataclass(frozen=True)
class Foreseen:
    """Work left of a stage, and the time that it takes."""

    stage: str
    units: int
    items: int
    """Images, crops or texts of these units."""
    counts: str
    """Noun for the items."""
    seconds: float | None
    """Expected time on this machine; None if nothing is known of it."""
    basis: str
    """`receipts`, `probe`, or empty for a stage without a model."""


class ForeseenStore(Store):
    """A store that counts the images of a dataset before they are indexed."""

    @classmethod
    def of(cls, store: Store) -> ForeseenStore:
        """Return the same store, with this way to count."""
        return cls(store.root, store.dataset, store.options)

    def rows(self, stage: Keyed) -> int:
        """Rows of a finished artifact, or images of the dataset if the index is not finished."""
        try:
            return super().rows(stage)
        except MissingInput:
            if dataset := getattr(stage, "dataset", None):
                return int(dataset.count)
            raise


def foresee(
    store: Store,
    stages: Iterable[Stage],
    forced: Iterable[Stage] = (),
    probing: bool = True,
    sharing: int | None = 1,
) -> list[Foreseen]:
    """Return the work left of each stage, and the time it takes.

    Args:
        store: Store of the run.
        stages: Stages to be made.
        forced: Stages to be made once more.
        probing: Whether to measure models of which there is no receipt; their libraries are
            imported. Probes say nothing of several processes.
        sharing: Number of processes that share this machine and the units; None if it is not
            known, or other machines take part. Then no time is known.
    """
    counting = ForeseenStore.of(store)
    names = {stage.name for stage in forced}
    return [_foreseen(counting, stage, stage.name in names, probing, sharing) for stage in stages]


def total(foreseen: Iterable[Foreseen]) -> float | None:
    """Sum the seconds of stages; None if those of one are unknown."""
    seconds = [each.seconds for each in foreseen]
    known = [value for value in seconds if value is not None]
    return sum(known) if len(known) == len(seconds) else None


def in_words(foreseen: list[Foreseen], sharing: int | None = 1) -> str:
    """Return the work left and its time in one line, with what the time is taken from.

    sharing: As for `foresee`.
    """
    todo = [each for each in foreseen if each.units]
    kinds = {"crops": 0, "images": 0, "texts": 0}
    for each in todo:
        if each.counts in kinds and each.stage.startswith(ENCODING):
            kinds[each.counts] += each.items
    counts = [counted(count, kind) for kind, count in kinds.items() if count]
    units = sum(each.units for each in todo)
    work = (
        f"{len(todo)} of {counted(len(foreseen), 'stages')} to compute, {counted(units, 'units')}"
    )
    encode = f"; to encode: {', '.join(counts)}" if counts else ""
    seconds = total(todo)
    if seconds is None:
        return f"{work}{encode}"
    basis = " and ".join(dict.fromkeys(NAMES[each.basis] for each in todo if each.basis))
    workers = f" with {counted(sharing, 'workers')}" if sharing and sharing > 1 else ""
    by = f" by {basis}{workers}" if basis else ""
    return f"{work}{encode}; about {clock(seconds)}{by}"


def _foreseen(
    store: Store, stage: Stage, forced: bool, probing: bool, sharing: int | None
) -> Foreseen:
    todo = _todo(store, stage, forced)
    if todo is None:
        return Foreseen(stage.name, 0, 0, stage.counts, None, "")
    size = sum(unit.size for unit in todo)
    items = sum(stage.items(store, unit) for unit in todo)
    if not todo:
        return Foreseen(stage.name, 0, 0, stage.counts, 0.0, "")
    noun = "crops" if items != size else stage.counts
    seconds, basis = None, ""
    if sharing is not None:
        work = Work(len(todo), size, items)
        seconds, basis = _seconds(store, stage, work, probing, sharing)
    return Foreseen(stage.name, len(todo), items, noun, seconds, basis)


def _todo(store: Store, stage: Stage, forced: bool) -> Sequence[Unit] | None:
    """Return the unfinished units; None if their number is unknown."""
    try:
        units = stage.units(store)
        return units if forced else store.artifact(stage).unfinished(units)
    except MissingInput:
        return None


class Work(NamedTuple):
    """Units that are left of a stage."""

    units: int
    size: int
    """Sum of the sizes of the units."""
    items: int
    """Images, crops or texts that are encoded."""

    def of_busiest(self, sharing: int) -> float:
        """Return the size of the units of the process that gets most of them."""
        return self.size * -(-self.units // sharing) / self.units


def _seconds(
    store: Store, stage: Stage, work: Work, probing: bool, sharing: int
) -> tuple[float | None, str]:
    """Return the time that some processes take for the work, and what is known of it."""
    if found := list(islice(_rates(store, stage, sharing), ARTIFACTS * RECEIPTS)):
        seconds = statistics.median(found) * work.of_busiest(sharing)
        return _load_time(store, stage, sharing) + seconds, "receipts"
    if not stage.has_model:
        return LIGHT.load + LIGHT.item * work.items, ""
    cost = _probed(store, stage, probing) if sharing == 1 else None
    return (cost.load + cost.item * work.items, "probe") if cost else (None, "")


def _artifacts(store: Store, stage: Stage) -> list[Artifact]:
    """Return artifacts of a stage with the same models, of all datasets, the newest first."""
    paths = store.root.glob(f"*/{stage.name}/*/ledger")
    newest = sorted((path.parent for path in paths), key=lambda path: -path.stat().st_mtime)
    found = (Artifact(path, stage.name) for path in newest)
    models = _models(stage.identity())
    same = (each for each in found if _models(each.identity or {}) == models)
    return list(islice(same, ARTIFACTS))


def _models(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the part of an identity that is about models, not about datasets or texts."""
    outside = identity.get("outside", {})
    return {name: outside[name] for name in ("clip", "model") if name in outside}


def _rates(store: Store, stage: Stage, sharing: int) -> Iterator[float]:
    """Yield seconds for each item of a unit, from receipts that as many processes of this machine
    wrote.
    """
    maker = {"host": os.uname().nodename, "sharing": sharing}
    for artifact in _artifacts(store, stage):
        names = artifact.ledger.units()[:RECEIPTS]
        for receipt in artifact.ledger.stored(names).values():
            if maker.items() <= receipt.maker.items() and receipt.size:
                yield max(receipt.seconds.get(step, 0.0) for step in STEPS) / receipt.size


def _load_time(store: Store, stage: Stage, sharing: int) -> float:
    """Return the seconds that each of as many processes took to load last; 0 if no manifest says.

    A manifest has the sum of all.
    """
    for artifact in _artifacts(store, stage):
        if (artifact.path / MANIFEST).is_file():
            makers = artifact.manifest["makers"]
            if all(maker.get("sharing") == sharing for maker in makers):
                return float(artifact.manifest.get("last_pass", {}).get("load", 0.0)) / sharing
    return 0.0


def _probed(store: Store, stage: Stage, probing: bool) -> Cost | None:
    """Return the cost of a stage's model, measured on this machine now or before."""
    try:
        request = [_models(stage.identity()), stage.probe_name, os.uname().nodename]
        path = store.root / ".memory" / f"probe-{digest({'of': request})}.json"
        return _cached(path) or (_measured(path, stage) if probing else None)
    except AbsError:
        return None


def _cached(path: Any) -> Cost | None:
    try:
        return Cost(**files.read_sealed(path, "a probe"))
    except (AbsError, TypeError):
        return None


def _measured(path: Any, stage: Stage) -> Cost:
    cost = stage.probe()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_sealed(path, {"load": cost.load, "item": cost.item})
    return cost
