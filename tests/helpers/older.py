"""Artifacts as older versions of the store left them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.core import files
from pipeline.run import Run
from pipeline.store.artifact import MANIFEST, Artifact
from pipeline.store.writer import ArtifactWriter
from tests.helpers.checksums import half


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


def with_sha256(artifact: Artifact) -> None:
    """Let the receipts of a finished artifact state halves of sha256, without a name."""
    with_checksums(artifact, lambda name: half(artifact.path / name))


def with_checksums(artifact: Artifact, checksum: Callable[[str], str]) -> None:
    """Let the receipts of a finished artifact state other checksums, by the names of files."""
    stated = {}
    for receipt in artifact.ledger.stored().values():
        sums = {name: (size, checksum(name)) for name, (size, _) in receipt.files.items()}
        other = replace(receipt, files=sums)
        artifact.ledger.write(other)
        stated[receipt.unit] = other.digest
    files.write_sealed(artifact.path / MANIFEST, {**artifact.manifest, "units": stated})
    artifact.__dict__.pop("manifest")
    ArtifactWriter(artifact).seal()
