"""A store with the checksums of 0.2.0 keeps all promises, also beside new ones; unknown do not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bench.damage import find_damage, flip
from pipeline.core.errors import AbsError, Damaged
from pipeline.core.progress import Reporter
from pipeline.inspect.recompute import recompute
from pipeline.inspect.verify import VerifyReport, mark
from pipeline.models.clip.model import ClipModel
from pipeline.run import Run
from pipeline.store.artifact import Artifact
from tests.helpers.checksums import checksum_of, half
from tests.helpers.older import with_checksums, with_sha256
from tests.helpers.runs import Runner, said

RAW = "embeddings-raw"


@pytest.fixture
def older(made: Run) -> Run:
    """A finished run whose receipts state halves of sha256."""
    for stage in made.stages:
        with_sha256(artifact := made.store.artifact(stage))
        checksums = checksums_of(artifact)
        assert checksums == {name: half(artifact.path / name) for name in checksums}
    return made


def checksums_of(artifact: Artifact) -> dict[str, str]:
    """Checksums of all files of an artifact."""
    receipts = Artifact(artifact.path, artifact.stage).ledger.stored().values()
    return {name: stated for each in receipts for name, (_, stated) in each.files.items()}


def artifact_of(run: Run, stage: str) -> Artifact:
    return run.store.artifact(run.named(stage)[0])


def chunks(artifact: Artifact) -> list[Path]:
    return sorted(path for path in artifact.path.glob("*.zarr/c/**/*") if path.is_file())


def states_of(run: Run) -> dict[str, tuple[str, int]]:
    """Run all stages: which were computed, and how many units of each."""
    return {o.stage: (o.state, o.computed) for o in run.execute(run.stages, [], quiet=True)}


def deep_look(run: Run) -> VerifyReport:
    report = VerifyReport()
    report.look([run.store], Reporter(True))
    recompute(report, run.store, run.stages, Reporter(True))
    return report


@pytest.mark.slow
def test_it_is_read_verified_and_continued_without_computing_anything_again(
    run_of: Runner, older: Run
) -> None:
    before = {stage.name: checksums_of(older.store.artifact(stage)) for stage in older.stages}
    report = deep_look(older)
    assert not report.damage
    assert len(report.again) == len(older.stages)
    assert set(states_of(run_of()).values()) == {("cached", 0)}
    states = states_of(run_of("scores.n=6"))  # a further block of crops
    assert states["attention"] == ("cached", 0)
    assert states[RAW][0] == "computed"
    assert len(checksums_of(artifact_of(older, RAW))) > len(before[RAW])
    for stage in older.stages:
        after = checksums_of(older.store.artifact(stage))
        assert after.items() >= before[stage.name].items()
        new = after.keys() - before[stage.name].keys()
        assert all(after[name].startswith("blake3:") for name in new)
    assert not deep_look(run_of("scores.n=6")).damage


@pytest.mark.slow
def test_its_crops_are_borrowed(
    run_of: Runner, older: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encode = ClipModel.encode_images

    def counted(self: ClipModel, images: Any, full: bool = False) -> Any:
        seen.append(len(images))
        return encode(self, images, full)

    fresh = run_of("crops.alpha=0.4")
    fresh.execute([s for s in fresh.stages if s.kind in ("index", "attention", "crops")], [], True)
    stage = fresh.named(RAW)[0]
    monkeypatch.setattr(ClipModel, "encode_images", counted)
    fresh.execute([stage], [], quiet=True)
    shape = artifact_of(fresh, RAW).array("embeddings").shape
    assert sum(seen) < shape[0] * shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [RAW, "crops-raw"])
def test_a_flipped_bit_of_it_is_found_and_one_unit_is_computed_again(
    run_of: Runner, older: Run, stage: str
) -> None:
    """After that, receipts of both kinds lie beside each other, and each finds its damage."""
    artifact, rng = artifact_of(older, stage), random.Random(stage)
    names = sorted(checksums_of(artifact))
    contents = {name: (artifact.path / name).read_bytes() for name in names}
    for name in (names[0], names[-1]):
        flip(artifact.path / name, rng)
        (damage,) = find_damage(older)
        assert damage.artifact.path / damage.file == artifact.path / name
        mark([damage])
        assert states_of(run_of())[stage] == ("computed", 1)
        assert not find_damage(older)
        assert {name: (artifact.path / name).read_bytes() for name in names} == contents
        stated = checksums_of(artifact)
        assert stated[name] == checksum_of(contents[name])
        assert stated[names[1]] == half(artifact.path / names[1])
    for name in (names[0], names[1]):
        flip(artifact.path / name, rng)
    assert {damage.file for damage in find_damage(older)} == {names[0], names[1]}


def test_a_flipped_bit_of_it_is_found_by_a_reader(older: Run) -> None:
    array = artifact_of(older, RAW).array("embeddings")
    assert np.isfinite(array[:]).all()
    chunk = chunks(artifact_of(older, RAW))[1]
    flip(chunk, random.Random(0))
    with pytest.raises(Damaged, match="is not what was written"):
        _ = Artifact(artifact_of(older, RAW).path, RAW).array("embeddings")[:]


@pytest.fixture
def unknown(made: Run) -> Artifact:
    """A finished artifact whose receipts state checksums by a function of the future."""
    with_checksums(artifact := artifact_of(made, RAW), lambda _: "blake9:" + "0" * 32)
    return Artifact(artifact.path, RAW)


READ: dict[str, Callable[[Artifact], object]] = {
    "a reader": lambda artifact: artifact.array("embeddings")[:],
    "a borrower": lambda artifact: [
        artifact.ledger.content(receipt, "embeddings.zarr") for receipt in artifact.ledger.whole()
    ],
}


@pytest.mark.parametrize("who", READ)
def test_an_unknown_function_is_refused_in_a_line_and_nothing_is_marked(
    unknown: Artifact, who: str
) -> None:
    with pytest.raises(AbsError, match=r"^\S+: .*blake9.* use the version [^\n]*$") as caught:
        READ[who](unknown)
    assert not isinstance(caught.value, Damaged)
    assert len(unknown.ledger.stored()) == len(unknown.manifest["units"])


def test_verify_refuses_an_unknown_function_in_a_line_and_marks_nothing(
    unknown: Artifact,
) -> None:
    answer = said("verify")
    assert answer.returncode == 1
    (line,) = [line for line in answer.stderr.splitlines() if "blake9" in line]
    assert "use the version that wrote it" in line
    assert "Traceback" not in answer.stderr
    assert len(unknown.ledger.stored()) == len(unknown.manifest["units"])
