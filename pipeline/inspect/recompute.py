"""Compute finished units again, and compare them with the stored ones."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.core.checksums import is_file
from pipeline.core.errors import MissingInput
from pipeline.core.progress import Reporter
from pipeline.inspect.verify import Damage, VerifyReport
from pipeline.stage import Stage
from pipeline.store import arrays
from pipeline.store.artifact import Artifact
from pipeline.store.ledger import Receipt
from pipeline.store.store import Store
from pipeline.store.units import Unit
from pipeline.store.writer import ArtifactWriter


def recompute(found: VerifyReport, store: Store, stages: list[Stage], reporter: Reporter) -> None:
    """Compute one unit of every stage again, chosen by chance, and add what differs to `found`.

    Nothing is marked as damaged. Stages that are not finished are listed as missing.
    """
    for stage in stages:
        try:
            units = stage.units(store)
            store.open(stage)
        except MissingInput:
            found.missing.append(stage.name)
            continue
        unit = random.choice(units)
        reporter.say(f"{stage.name}: computing unit {unit.name} again")
        found.damage += differences(store, stage, [unit])
        found.again.append(f"{stage.name}/{unit.name}")


def differences(store: Store, stage: Stage, units: list[Unit]) -> Iterator[Damage]:
    """Finished units computed again in a folder of their own: files that come out otherwise.

    Where another device or batch size made one, vectors may differ by rounding, and tables of what
    was computed from such are not compared.
    """
    artifact = store.artifact(stage)
    receipts = [_receipt(artifact, unit) for unit in units]
    worker = stage.worker(store)
    worker.disable_reuse()
    with tempfile.TemporaryDirectory() as folder:
        again = Artifact(Path(folder), stage.name)
        writer = ArtifactWriter(again)
        writer.begin(stage.identity())
        for spec in worker.arrays():
            writer.create(spec)
        for unit, receipt in zip(units, receipts, strict=True):
            written = writer.write(unit, worker.compute(unit, worker.read(unit)))
            environment = worker.environment()
            same = {name: receipt.maker.get(name) for name in environment} == environment
            for name in _differing(artifact, again, receipt, written, same):
                made = " ".join(f"{key} {value}" for key, value in receipt.maker.items())
                yield Damage(artifact, name, f"comes out otherwise now (made by {made})", unit.name)


def _receipt(artifact: Artifact, unit: Unit) -> Receipt:
    receipt = artifact.ledger.read(unit.name)
    if receipt is None:
        raise MissingInput(f"{artifact.path}: the receipt of unit {unit.name} is gone")
    return receipt


def _differing(
    artifact: Artifact, again: Artifact, receipt: Receipt, written: Iterable[str], same_maker: bool
) -> Iterator[str]:
    """Return the files of a unit that came out otherwise."""
    for name in written:
        _, checksum = receipt.files.get(name, (0, ""))
        if is_file(again.path / name, checksum):
            continue
        if same_maker or not (name.endswith(".parquet") or _close(artifact, again, name)):
            yield name


def _close(a: Artifact, b: Artifact, name: str) -> bool:
    """Return whether two chunks differ by rounding alone."""
    import numpy as np

    folder = name.partition("/")[0]
    dtype = str((arrays.described(a.path / folder) or {}).get("data_type", "float32"))
    one, other = (np.fromfile(each.path / name, dtype).astype(float) for each in (a, b))
    return one.shape == other.shape and np.allclose(one, other, 1e-2, 2.0**-9, equal_nan=True)
