"""No byte of the store changes unnoticed, and what is lost is computed again and nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.bench.damage import cut, delete, find_damage, flip
from pipeline.core import files, hash_cache
from pipeline.core.errors import AbsError, Damaged
from pipeline.core.hashing import digest
from pipeline.inspect.verify import mark
from pipeline.run import Run
from pipeline.store.artifact import Artifact
from pipeline.store.writer import ArtifactWriter
from tests.helpers.checksums import content_of
from tests.helpers.claims import claim_of
from tests.helpers.older import unseal_all
from tests.helpers.runs import Runner, digests, make_all, said

KINDS = {
    "chunk": "*/*/*.zarr/c/**/*",
    "array": "*/*/*.zarr/zarr.json",
    "table": "*/*/**/*.parquet",
    "receipt": "*/*/ledger/*.json",
    "sealed": "*/*/ledger/sealed-*.txt",
    "manifest": "*/*/manifest.json",
    "identity": "*/*/identity.json",
}
"""Every file of a store is one of these."""


def stored(run: Run, kind: str) -> list[Path]:
    return sorted(path for path in run.store.folder.glob(KINDS[kind]) if path.is_file())


def repaired(run_of: Runner) -> dict[str, int]:
    """A further run: how many units it computed of each stage that was not finished."""
    run = run_of()
    outcomes = run.execute(run.stages, [], quiet=True)
    return {o.stage: o.computed for o in outcomes if o.state == "computed"}


HURT: dict[str, tuple[str, Callable[[Path, random.Random], None], int]] = {
    "a flipped byte of a chunk": ("chunk", flip, 1),
    "a chunk cut short": ("chunk", cut, 1),
    "a lost chunk": ("chunk", delete, 1),
    "a flipped byte of a table": ("table", flip, 1),
    "a lost table": ("table", delete, 1),
    "a flipped byte of a receipt": ("receipt", flip, 1),
    "a receipt cut short": ("receipt", cut, 1),
    "a lost receipt": ("receipt", delete, 1),
    "a flipped byte of sealed receipts": ("sealed", flip, 0),
    "sealed receipts cut short": ("sealed", cut, 0),
    "lost sealed receipts": ("sealed", delete, 0),
    "a flipped byte of a manifest": ("manifest", flip, 0),
    "a manifest cut short": ("manifest", cut, 0),
}
"""How a file is damaged, and the units that are lost with it."""


@pytest.mark.slow
@pytest.mark.parametrize("how", HURT)
def test_damage_is_named_and_a_rerun_repairs_just_that_unit(
    run_of: Runner, made: Run, how: str
) -> None:
    kind, hurt, units = HURT[how]
    before, rng = digests(made), random.Random(how)
    for _ in range(3):
        if kind == "receipt":
            unseal_all(made)
        path = rng.choice(stored(made, kind))
        hurt(path, rng)
        (damage,) = find_damage(made)
        assert damage.artifact.path / damage.file == path
        stage = damage.artifact.stage
        mark([damage])
        assert repaired(run_of) == ({} if kind == "sealed" else {stage: units})
        assert digests(made) == before
        assert not find_damage(made)


@pytest.mark.parametrize("hurt", [flip, cut, delete])
@pytest.mark.parametrize("kind", ["array", "identity"])
def test_metadata_is_written_again_from_the_manifest(
    run_of: Runner, made: Run, kind: str, hurt: Callable[[Path, random.Random], None]
) -> None:
    before, rng = digests(made), random.Random(kind)
    for path in stored(made, kind):
        content = path.read_bytes()
        hurt(path, rng)
        (damage,) = find_damage(made)
        assert damage.artifact.path / damage.file == path
        mark([damage])
        assert path.read_bytes() == content
    assert not find_damage(made)
    assert not repaired(run_of)
    assert digests(made) == before


@pytest.mark.slow
def test_everything_damaged_at_once_is_computed_again(run_of: Runner, made: Run) -> None:
    before, rng = digests(made), random.Random(0)
    paths = [path for kind in KINDS for path in stored(made, kind)]
    for path in paths:
        flip(path, rng)
    named = {damage.artifact.path / damage.file for damage in find_damage(made)}
    assert named >= {path for kind in ("sealed", "identity") for path in stored(made, kind)}
    mark(find_damage(made))
    assert set(repaired(run_of)) == set(before)
    assert digests(made) == before
    assert not find_damage(made)


def test_an_array_and_its_manifest_damaged_together_are_written_again(
    run_of: Runner, made: Run
) -> None:
    before = digests(made)
    artifact = made.store.artifact(made.named("embeddings-raw")[0])
    for name in ("manifest.json", "embeddings.zarr/zarr.json"):
        (artifact.path / name).write_text("{}")
    mark(find_damage(made))
    assert repaired(run_of) == {"embeddings-raw": 0}
    assert digests(made) == before


# --- Reading ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_damaged_is_not_read_and_the_same_command_repairs_it(
    run_of: Runner, made: Run
) -> None:
    before, rng = digests(made), random.Random(1)
    places = [("embeddings-raw", "chunk"), ("attention", "chunk"), ("crops-raw", "table")]
    for stage, kind in [*places, ("index", "table"), ("descriptions-cupl", "array")]:
        run = run_of()
        there = [path for path in stored(run, kind) if f"/{stage}/" in str(path)]
        path = rng.choice([path for path in there if "skipped" not in str(path)])
        flip(path, rng)
        last = run.named("scores")[0] if stage != "attention" else run.named("crops-raw")[0]
        last = run.named("embeddings-raw")[0] if stage == "crops-raw" else last
        if kind == "array":
            run.execute([last], [last], quiet=True)
            assert digests(made) == before
            continue
        with pytest.raises(Damaged, match=f"{path.name} is not what was written.*again by abs run"):
            run.execute([last], [last], quiet=True)
        computed = repaired(run_of)
        assert computed.pop(stage) == 1
        assert set(computed) <= {last.name}
        assert digests(made) == before


def test_tables_and_arrays_are_checked_as_they_are_read(made: Run) -> None:
    store = made.store
    raw = store.artifact(made.named("embeddings-raw")[0])
    chunks = [path for path in stored(made, "chunk") if raw.path in path.parents]
    whole = np.asarray(raw.array("embeddings")[:])
    flip(chunks[-1], random.Random(0))
    again = Artifact(raw.path, raw.stage)
    assert (again.array("embeddings")[:3, :2] == whole[:3, :2]).all()
    with pytest.raises(Damaged):
        again.array("embeddings")[:]
    scores = store.artifact(made.named("scores")[0])
    flip(scores.path / "scores.parquet" / "00001.parquet", random.Random(0))
    with pytest.raises(Damaged):
        scores.table("scores")


@pytest.mark.parametrize("hurt", [delete, cut])
@pytest.mark.parametrize("what", ["table", "receipt"])
@pytest.mark.parametrize("stage", ["index", "scores"])
def test_a_table_with_a_hole_is_not_read(
    run_of: Runner,
    made: Run,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    what: str,
    hurt: Callable[[Path, random.Random], None],
) -> None:
    monkeypatch.setattr("stages.index.BLOCK", 3)  # so that the index has several units
    make = run_of()
    make.execute(make.named("index"), make.named("index"), quiet=True)
    before = make_all(make)
    if what == "receipt":
        unseal_all(make)
    there = [path for path in stored(make, what) if f"/{stage}/" in str(path)]
    hurt(next(path for path in there if "00001" in path.name), random.Random(0))
    metrics = make.named("metrics")[0]
    with pytest.raises(Damaged):
        make.store.artifact(make.named(stage)[0]).table("images" if stage == "index" else stage)
    fresh = run_of()
    fresh.execute(fresh.stages, [metrics], quiet=True)
    assert digests(fresh) == before
    assert not find_damage(fresh)


def test_a_chunk_that_goes_while_it_is_read_is_noticed(made: Run) -> None:
    artifact = made.store.artifact(made.named("attention")[0])
    array = artifact.array("attention")
    array[0:3]
    (artifact.path / "attention.zarr" / "c" / "0" / "0" / "0" / "0").unlink()
    with pytest.raises(Damaged):
        array[0:3]


@pytest.mark.parametrize("place", [0, 10, 70, 200])
def test_a_damaged_memory_of_digests_is_none(run_of: Runner, made: Run, place: int) -> None:
    before = digests(made)
    kept = [path for path in (made.store.root / ".memory").rglob("*") if path.is_file()]
    assert len(kept) >= 4
    for memory in kept:
        content = bytearray(memory.read_bytes())
        content[place % len(content)] ^= 1
        memory.write_bytes(content)
    assert not repaired(run_of)
    assert digests(run_of()) == before


@pytest.mark.slow
def test_an_array_reaches_as_far_as_what_was_written(run_of: Runner, made: Run) -> None:
    large = run_of("scores.n=6")
    before = make_all(large)
    artifact = large.store.artifact(large.named("embeddings-raw")[0])
    (artifact.path / "manifest.json").unlink()
    (artifact.path / "embeddings.zarr" / "zarr.json").write_text("{}")
    make_all(run_of())
    again = run_of("scores.n=6")
    assert make_all(again) == before
    assert not find_damage(again)


@pytest.mark.parametrize(
    "shape", [[9, 4, 128], [8, 99, 128], [8, 5, 128], [8, 4, 127], [8, 4], "x"]
)
def test_a_damaged_shape_without_manifest_is_put_right(
    run_of: Runner, made: Run, shape: object
) -> None:
    before = digests(made)
    artifact = made.store.artifact(made.named("embeddings-raw")[0])
    metadata = artifact.path / "embeddings.zarr" / "zarr.json"
    (artifact.path / "manifest.json").unlink()
    files.write_json(metadata, json.loads(metadata.read_text()) | {"shape": shape})
    assert repaired(run_of) == {"embeddings-raw": 0}
    scores = run_of().named("scores")[0]
    run_of().execute([scores], [scores], quiet=True)
    assert digests(run_of()) == before


def test_a_run_that_was_killed_while_an_array_grew_is_no_damage(
    run_of: Runner, made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, large = digests(made), run_of("scores.n=7")
    large.execute(large.named("crops"), [], quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.engine.inline.InlineSession.compute", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            large.execute(large.named("embeddings-raw"), [], quiet=True)
    assert not find_damage(made)
    metadata = made.store.artifact(made.named("embeddings-raw")[0]).path / "embeddings.zarr"
    found = json.loads((metadata / "zarr.json").read_text())
    assert found["shape"][1] == 8
    files.write_json(metadata / "zarr.json", found | {"shape": [8, 9, 128]})
    (damage,) = find_damage(made)
    mark([damage])
    assert not repaired(run_of)
    assert digests(run_of()) == before


def test_a_manifest_of_another_artifact_is_none(run_of: Runner, made: Run) -> None:
    before = digests(made)
    one, other = (made.store.artifact(made.named(f"crops-{n}")[0]) for n in ("raw", "feature"))
    (one.path / "manifest.json").write_bytes((other.path / "manifest.json").read_bytes())
    with pytest.raises(AbsError, match="damaged"):
        run_of().store.open(made.named("crops-raw")[0])
    assert set(repaired(run_of)) == {"crops-raw"}
    assert digests(run_of()) == before


def test_a_file_without_receipt_is_not_part_of_a_table(made: Run) -> None:
    artifact = made.store.artifact(made.named("crops-raw")[0])
    before = artifact.table("crops")
    folder = artifact.path / "crops.parquet"
    (folder / "00000-007.parquet").write_bytes((folder / "00000-000.parquet").read_bytes())
    assert Artifact(artifact.path, artifact.stage).table("crops").equals(before)


# --- The command ------------------------------------------------------------------------------


def test_the_command_names_what_is_damaged_and_says_what_happens_next(
    run_of: Runner, made: Run, tiny: Path
) -> None:
    whole = said("verify", "--json")
    assert (whole.returncode, json.loads(whole.stdout)["damage"]) == (0, [])
    assert json.loads(whole.stdout)["artifacts"] == len(made.stages)
    path = stored(made, "chunk")[0]
    flip(path, random.Random(0))
    for words in (["--dry-run"], ["--dry-run", "--dataset", "tiny"], ["--dataset", tiny]):
        answer = said("verify", *words)
        assert answer.returncode == 1
        assert f"DAMAGED: {path}" in answer.stdout
    assert "marked as unfinished" in answer.stdout
    assert "1 damaged" not in said("verify").stdout
    assert sum(repaired(run_of).values()) == 1


@pytest.mark.slow
def test_a_wrong_value_with_a_right_digest_is_found_by_computing_again(
    run_of: Runner, made: Run, tiny: Path
) -> None:
    artifact = made.store.artifact(made.named("embeddings-image")[0])
    for receipt in artifact.ledger.receipts().values():
        (name,) = receipt.files
        path = artifact.path / name
        values = np.frombuffer(path.read_bytes(), np.float16).copy()
        path.write_bytes((-values).tobytes())
        receipt.files[name] = content_of(path)
        artifact.ledger.write(receipt)
    ArtifactWriter(artifact).finalise(
        [], {k: artifact.manifest[k] for k in ("identity", "upstream")}
    )
    words = ["verify", "--deep", "--dataset", tiny, "--set", "scores.n=4"]
    assert said("verify").returncode == 0
    answer = said(*words, "--json")
    assert answer.returncode == 1
    found = {Path(each["artifact"]).parent.name for each in json.loads(answer.stdout)["damage"]}
    assert found >= {"embeddings-image"}


def test_a_deep_look_finds_no_damage_where_files_cannot_be_read(tiny: Path) -> None:
    folder = sorted((tiny.parent / "images").iterdir())[0]
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes(sorted(folder.glob("*.png"))[0].read_bytes()[:300])
    words = ["--dataset", tiny, "--set", "index.max_skipped=0.5"]
    assert said("run", *words, "--to", "index").returncode == 0
    answer = said("verify", "--deep", *words)
    assert (answer.returncode, "DAMAGED" in answer.stdout) == (0, False)
    assert "computed again: index" in answer.stdout


@pytest.mark.slow
def test_a_deep_look_trusts_no_memory_of_files(made: Run, tiny: Path) -> None:
    words = ["verify", "--deep", "--dataset", tiny, "--set", "scores.n=4"]
    assert said(*words).returncode == 0
    image = sorted((tiny.parent / "images").rglob("*.png"))[0]
    kept = made.settings.paths.memory("tiny").iterdir()
    (memory,) = [path for path in kept if str(image).encode() in path.read_bytes()]
    known = json.loads(memory.read_bytes().partition(b"\n")[2])
    image.write_bytes(image.read_bytes() + b"\0")
    for name in [name for name in known if name == str(image)]:
        known[name] = [*files.version_of(image), known[name][-1]]
    content = json.dumps(known).encode()
    memory.write_bytes(hash_cache._sealed(content) + b"\n" + content)
    assert "done" in said("status", *words[2:]).stdout
    answer = said(*words)
    assert "index is out of date; see abs why index" in answer.stdout


@pytest.mark.slow
def test_another_batch_size_is_no_damage(made: Run, tiny: Path) -> None:
    words = ["verify", "--deep", "--dataset", tiny, "--set"]
    answer = said(*words, "scores.n=4 runtime.batch_size=1 runtime.threads=2")
    assert (answer.returncode, answer.stderr.count("DAMAGED")) == (0, 0)


def test_what_cannot_be_marked_is_named_all_the_same(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(made, "chunk")[0]
    flip(path, random.Random(0))

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Artifact, "forget", refuse)
    answer = said("verify")
    assert answer.returncode == 1
    assert f"DAMAGED: {path}" in answer.stdout
    assert "cannot be marked (Read-only file system)" in answer.stdout


def test_what_a_process_is_at_is_not_marked(made: Run) -> None:
    path = stored(made, "chunk")[0]
    flip(path, random.Random(0))
    artifact = Artifact(path.parents[len(path.parts) - len(made.store.folder.parts) - 3], "any")
    claim_of(artifact.path / "claims", "00000", "another-host", 1)
    answer = said("verify")
    assert answer.returncode == 1
    assert "in use by another-host:1" in answer.stdout
    assert (artifact.path / "manifest.json").exists()


def test_deep_needs_settings() -> None:
    answer = said("verify", "--deep", ABS_ARTIFACTS="/tmp/of-nobody")
    assert answer.returncode == 2
    assert "--deep: give --dataset" in answer.stderr


def test_an_artifact_of_another_layout_is_named_and_never_read(made: Run, tiny: Path) -> None:
    artifact = made.store.artifact(made.named("crops-raw")[0])
    identity = artifact.identity
    assert identity is not None
    identity["schema"] = 2
    old = artifact.path.rename(artifact.path.with_name(digest(identity)))
    files.write_json(old / "identity.json", identity)
    answer = said("verify")
    assert answer.returncode == 0
    assert f"older layout, not checked: {old}" in answer.stdout
    why = said("why", "crops-raw", "--dataset", tiny, "--set", "scores.n=4")
    assert "layout of the store: 2 -> 3" in why.stdout
