"""Artifacts as older versions of the store left them: a receipt of its own for each unit."""

from __future__ import annotations

from pipeline.core import files
from pipeline.run import Run
from pipeline.store.artifact import MANIFEST, Artifact


def unseal(artifact: Artifact) -> None:
    """Put the receipts of a finished artifact into files of their own, without a seal."""
    receipts = artifact.ledger.stored()
    for copy in artifact.ledger.copies:
        copy.unlink()
    for receipt in receipts.values():
        artifact.ledger.write(receipt)
    manifest = {n: v for n, v in artifact.manifest.items() if n not in ("ledger", "looks")}
    files.write_sealed(artifact.path / MANIFEST, manifest)
    artifact.__dict__.pop("manifest")


def unseal_all(run: Run) -> None:
    """Unseal the artifacts of a run whose stages are finished."""
    for stage in run.stages:
        unseal(run.store.artifact(stage))
