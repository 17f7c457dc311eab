"""Wherever units are done, the bytes are the same; and what dies is replaced, or said in a line.

The clusters are real: `dask scheduler` and `dask worker` over TCP, and processes of this machine.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from distributed import Client

from pipeline.core.errors import AbsError, ConfigError, UnitsFailed, Unreachable
from pipeline.core.progress import Reporter
from pipeline.core.runtime import Runtime
from pipeline.core.under_way import COMPUTE, LOAD, READ, UnderWay
from pipeline.engine.base import Job
from pipeline.engine.dask import local as local_cluster
from pipeline.engine.dask import worker as cluster_worker
from pipeline.engine.dask.driver import Cluster, spec_of
from pipeline.engine.dask.local import IMPORTED, workers_here
from pipeline.engine.dask.worker import State
from pipeline.engine.runner import run_stage
from pipeline.run import Run, rebuild
from pipeline.store.claims import living
from tests.helpers import clusters
from tests.helpers.clusters import (
    again,
    aside,
    here,
    kill_at_a_unit,
    meddled,
    once,
    started,
    there,
    worker_at,
)
from tests.helpers.forked import ended, start_abs
from tests.helpers.runs import Runner, digests

ATTENTION = "stages.attention:AttentionWorker"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own."""
    with started(tmp_path_factory.mktemp("cluster")) as (found, _):
        yield found


@pytest.fixture
def engine(address: str) -> Iterator[Cluster]:
    with there(address) as found:
        yield found


@pytest.mark.cluster
def test_workers_of_a_scheduler_make_the_same_bytes(
    run_of: Runner, made: Run, tmp_path: Path, engine: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "other"))
    run = run_of()
    outcomes = run.execute(run.stages, [], quiet=True, engine=engine)
    assert digests(run) == digests(made)
    assert all(outcome.computed == outcome.units for outcome in outcomes)
    makers = [run.store.open(s).ledger.receipts().values() for s in run.named("embeddings")]
    pids = {receipt.maker["pid"] for receipts in makers for receipt in receipts}
    assert {receipt.maker["sharing"] for receipts in makers for receipt in receipts} == {2}
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.cluster
def test_workers_of_a_scheduler_tell_how_far_their_units_are(
    made: Run, engine: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    real = UnderWay.tell

    def heard(self: UnderWay, unit: str, step: str, share: float) -> None:
        told.append((unit, step))
        real(self, unit, step, share)

    monkeypatch.setattr(UnderWay, "tell", heard)
    stage = made.named("attention")[0]
    again(made, stage, engine)
    assert once(lambda: {step for _, step in told} == {LOAD, READ, COMPUTE})
    assert {unit for unit, _ in told} <= {unit.name for unit in stage.units(made.store)}


@pytest.mark.cluster
def test_processes_of_this_machine_make_the_same_bytes_though_one_is_killed(made: Run) -> None:
    before = digests(made)
    stages = [made.named(name)[0] for name in ("attention", "embeddings-raw", "scores")]
    killed: list[int] = []

    def kill() -> None:
        killed.append(worker_at(made, stages[1]))
        os.kill(killed[0], signal.SIGKILL)

    killer = aside(kill)
    with here(2) as engine:
        for stage in stages:
            again(made, stage, engine)
    killer.result()
    assert digests(made) == before
    assert killed
    receipts = made.store.open(stages[1]).ledger.receipts().values()
    assert {receipt.maker["sharing"] for receipt in receipts} == {2}


@pytest.mark.cluster
def test_workers_compute_with_the_threads_that_are_asked_for_whatever_they_did_before(
    run_of: Runner, made: Run, engine: Cluster
) -> None:
    before, other = digests(made), run_of("runtime.threads=2")
    stages = [made.named(name)[0] for name in ("crops-raw", "attention", "embeddings-image")]
    for run, threads in ((other, 2), (made, 1)):
        for stage in stages:
            again(run, stage, engine)
        receipts = [
            receipt
            for stage in stages[1:]
            for receipt in run.store.open(stage).ledger.receipts().values()
        ]
        assert {receipt.maker["threads"] for receipt in receipts} == {threads}
    assert digests(made) == before


@pytest.mark.cluster
def test_of_several_gpus_each_worker_sees_one(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    with pytest.raises(ConfigError, match="--workers 4: this machine has 3 GPUs, for one"):
        again(made, made.named("crops-raw")[0], here(4))
    for visible, expected in ((None, {"0", "1"}), ("GPU-a,5,7", {"GPU-a", "5"})):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with workers_here(2, Reporter(True), Runtime(device="cuda")) as connection:
            once(lambda: len(connection.worker_states()) == 2)
            visible_to = connection.client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
        assert set(visible_to.values()) == expected


@pytest.mark.cluster
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_workers_find_imported_what_takes_long_to_import() -> None:
    with workers_here(2, Reporter(True), Runtime()) as connection:
        once(lambda: len(connection.worker_states()) == 2)
        parents = set(connection.client.run(os.getppid).values())
        missing = connection.client.run(lambda: [m for m in IMPORTED if m not in sys.modules])
        thresholds = {first for first, *_ in connection.client.run(gc.get_threshold).values()}
    assert len(parents) == 1
    assert os.getpid() not in parents
    assert list(missing.values()) == [[], []]
    assert thresholds == {10_000}, "its parent did not import fork_parent"


@pytest.mark.cluster
def test_the_command_line_of_dask_takes_what_nannies_load(address: str) -> None:
    """It does not take it from the settings of Dask, so that workers would import for seconds."""
    with Client(address, timeout=60, set_as_default=False) as client:
        parents = client.run(lambda: psutil.Process(os.getppid()).cmdline())
    assert len(parents) == 2
    for words in parents.values():
        assert all(repr(module) in words[-1] for module in IMPORTED)


@pytest.mark.subprocess
@pytest.mark.slow
def test_what_is_imported_before_a_fork_asks_no_gpu(tmp_path: Path) -> None:
    """A process that has asked CUDA for its devices cannot fork others that use it."""
    (tmp_path / "asking.py").write_text("import torch; torch.cuda.is_available()")
    program = f"""if True:
        import importlib, torch
        asked = []
        def recorded(name):
            return lambda *words: asked.append(name) or 0
        torch._C._cuda_getDeviceCount = recorded("devices")
        torch._C._cuda_init = recorded("initialisation")
        torch.cuda.is_available = recorded("availability")
        torch.cuda.device_count = recorded("count")
        for name in {IMPORTED}:
            importlib.import_module(name)
        print(asked)
        import asking
        print(asked)
    """
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n['availability']\n"


@pytest.mark.cluster
def test_a_worker_that_dies_is_replaced_and_its_units_go_elsewhere(
    made: Run, address: str, engine: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    before, stage = digests(made), made.named("attention")[0]
    with meddled(address, ATTENTION, seconds=0.5):
        killer = aside(lambda: kill_at_a_unit(made, stage))
        outcome = again(made, stage, engine, Reporter())
        killer.result()
    assert outcome.state == "computed"
    assert digests(made) == before
    heard: list[str] = []  # the scheduler may tell of it after the last unit
    assert once(
        lambda: heard.append(capfd.readouterr().err) or "died; rescheduled: " in "".join(heard)
    )
    assert not list(made.store.artifact(stage).path.glob("failures/*"))


@pytest.mark.cluster
def test_a_unit_that_always_fails_is_reported_and_the_others_finish(
    made: Run, address: str, engine: Cluster
) -> None:
    before, stage = digests(made), made.named("attention")[0]
    artifact = made.store.artifact(stage)
    with (
        meddled(address, ATTENTION, unit="00001", error="ValueError"),
        pytest.raises(UnitsFailed, match="1 unit failed; the first is 00001: ValueError: a co"),
    ):
        again(made, stage, engine)
    assert artifact.finished(stage.units(made.store)) == {"00000", "00002"}
    told = (artifact.path / "failures" / "00001.txt").read_text()
    assert "Traceback" in told
    assert "a cosmic ray" in told
    assert run_stage(stage, made.store, Reporter(True), made.settings, engine).computed == 1
    assert digests(made) == before


@pytest.mark.cluster
def test_a_worker_without_memory_is_replaced(made: Run, address: str, engine: Cluster) -> None:
    before, stage = digests(made), made.named("attention")[0]
    with meddled(address, ATTENTION, unit="00001", error="MemoryError") as client:
        pids = set(client.run(os.getpid).values())
        again(made, stage, engine)
        assert once(lambda: set(client.run(os.getpid).values()) - pids)
    assert digests(made) == before


@pytest.mark.cluster
def test_a_unit_that_ends_every_process_is_reported_and_the_others_finish(
    run_of: Runner, made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stage = digests(made), made.named("attention")[0]
    artifact = made.store.artifact(stage)
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", '["tests.helpers.deadly"]')
    monkeypatch.setitem(
        local_cluster.CONFIG, "distributed.worker.preload", ["tests.helpers.deadly"]
    )
    monkeypatch.setitem(local_cluster.CONFIG, "distributed.scheduler.allowed-failures", 0)
    with (
        here(2) as engine,
        pytest.raises(
            UnitsFailed, match="1 unit failed; the first is 00001: its worker processes died"
        ),
    ):
        again(made, stage, engine)
    assert artifact.finished(stage.units(made.store)) == {"00000", "00002"}
    assert "killed, or out of memory" in (artifact.path / "failures" / "00001.txt").read_text()
    assert run_stage(stage, made.store, Reporter(True), made.settings).computed == 1
    assert digests(made) == before


@pytest.mark.subprocess
@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_command_that_started_them(
    tiny: Path, tmp_path: Path, number: int
) -> None:
    words = "run", "--dataset", tiny, "--workers", "2", "--set", "layout.images=1"
    output = tmp_path / "output"
    command = start_abs(*words, output=output, first="import os\nos.setsid()")
    assert command.pid is not None
    artifacts = tiny.parent / "store" / "tiny"
    once(lambda: list(artifacts.glob("descriptions-*/*/manifest.json")))
    workers = [each.pid for each in psutil.Process(command.pid).children(recursive=True)]
    assert len(workers) >= 2
    if number == signal.SIGINT:
        os.killpg(command.pid, number)  # as a terminal does
    else:
        command.kill()
    done = ended(command, output)
    assert once(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    assert "Traceback" not in done.stderr
    if number == signal.SIGINT:
        assert done.returncode == 130
        assert done.stderr.endswith(
            "abs: stopped; finished units are kept, the same command goes on from there\n"
        )
    assert not [each for folder in artifacts.glob("*/*/claims") for each in living(folder)]


WITHOUT_RESULTS = "import os\nos.dup2(os.open(os.devnull, os.O_WRONLY), 1)"
"""Lets a program write to standard error alone."""


@pytest.mark.subprocess
@pytest.mark.cluster
def test_that_no_worker_is_there_is_said(tiny: Path, tmp_path: Path) -> None:
    with clusters.scheduler(tmp_path) as (address, _):
        once(lambda: clusters.answers(address))
        words = "sweep", "--over", "crops.k=5", "--dataset", tiny, "--scheduler", address
        output, waiting = tmp_path / "output", "no Dask worker connected; waiting\n"
        command = start_abs(*words, output=output, first=WITHOUT_RESULTS)
        once(lambda: output.exists() and waiting in output.read_text())
        command.terminate()
        said, _, rest = ended(command, output).stderr.partition(waiting)
    told = said.splitlines()  # with progress, on a slow machine
    assert sum(line.startswith("dashboard: http://") for line in told) == 1
    assert all(line.startswith(("dashboard: ", "sweep: ")) for line in told), told
    assert "abs: stopped" in rest


@pytest.mark.cluster
def test_a_worker_that_has_another_key_refuses(run_of: Runner, made: Run, engine: Cluster) -> None:
    stage, other = made.named("crops-raw")[0], run_of("crops.k=7")
    made.store.artifact(stage).remove()
    with pytest.raises(
        AbsError, match="crops-raw: a worker computes another key; it has other files"
    ):
        run_stage(stage, made.store, Reporter(True), other.settings, engine)


@pytest.mark.cluster
def test_an_error_that_stops_a_stage_is_one_line_and_its_exit_code(
    made: Run, engine: Cluster
) -> None:
    stage = made.named("attention")[0]
    image = next(Path(made.settings.dataset.root[0]).rglob("*.png"))
    _ = [each.key for each in made.stages]
    image.write_bytes(b"")
    with pytest.raises(AbsError, match="attention: a worker computes another key") as error:
        again(made, stage, engine)
    assert error.value.exit_code == 1


@pytest.mark.cluster
def test_without_a_scheduler_what_is_finished_is_kept_and_goes_on_here(
    run_of: Runner, made: Run, tmp_path: Path
) -> None:
    before, stage = digests(made), made.named("attention")[0]
    artifact = made.store.artifact(stage)
    artifact.remove()
    with started(tmp_path, workers=1) as (address, scheduler):

        def kill() -> None:
            once(lambda: artifact.ledger.units())
            scheduler.kill()

        with meddled(address, ATTENTION, seconds=0.5), there(address) as engine:
            killer = aside(kill)
            with pytest.raises(
                AbsError, match=f"lost the connection to the scheduler at {address}; finished"
            ):
                again(made, stage, engine)
            killer.result()
    assert artifact.finished(stage.units(made.store))
    outcome = run_stage(stage, made.store, Reporter(True), made.settings)
    assert outcome.computed < 3
    assert digests(made) == before


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_one_line(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.dask.client.CONNECT_TIMEOUT", 1)
    nowhere = f"127.0.0.1:{clusters.free_port()}"
    for address, why in ((f"tcp://{nowhere}", "no scheduler ans"), (f"tls://{nowhere}", "TypeErr")):
        with there(address) as engine, pytest.raises(Unreachable, match=why):
            again(made, made.named("crops-raw")[0], engine)


@pytest.mark.slow
def test_what_listens_and_is_no_scheduler_is_one_line(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.dask.client.CONNECT_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with there(address) as engine, pytest.raises(Unreachable, match="no scheduler answers at"):
            again(made, made.named("crops-raw")[0], engine)


def test_a_cluster_is_not_started_for_what_is_there(made: Run) -> None:
    with there("tcp://nowhere:1") as engine:
        outcomes = made.execute(made.stages, [], quiet=True, engine=engine)
    assert {outcome.state for outcome in outcomes} == {"cached"}


# --- Recipes, in this process -------------------------------------------------------------------


def test_a_recipe_is_all_a_worker_needs(run_of: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("runtime.threads=null", "scores.methods=null")
    monkeypatch.chdir("/")
    for stage in run.stages:
        found, store = spec_of(Job(stage, run.store, run.settings), "a", rebuild).build()
        assert (found.key, store) == (stage.key, run.store)


@pytest.mark.slow
def test_a_stage_that_nobody_asks_for_makes_room(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(made.named("crops-raw")[0], made.store, made.settings)
    unit, told = job.stage.units(made.store)[0], Mock()
    first = cluster_worker._stage_of(spec_of(job, "a", rebuild))
    assert first is cluster_worker._stage_of(spec_of(job, "a", rebuild))
    assert first.compute(unit, told).state == State.SKIPPED  # it is finished
    assert first._work
    sent = replace(spec_of(job, "a", rebuild), rebuild=partial(rebuild))  # equal to no other one
    assert first is cluster_worker._stage_of(sent)
    cluster_worker._stage_of(spec_of(job, "b", rebuild))
    assert set(cluster_worker._stages) == {"a", "b"}
    monkeypatch.setattr(cluster_worker, "IDLE", -1.0)
    cluster_worker._stage_of(spec_of(job, "c", rebuild))
    assert set(cluster_worker._stages) == {"c"}
    assert first.compute(unit, told).state == State.SKIPPED
    assert first._work is None
    cluster_worker.release("c")
    assert not cluster_worker._stages
