"""Command line: one line for every mistake, exit codes, and commands that only inspect."""

from __future__ import annotations

import inspect
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.bench.fuzz import command_line, fault
from pipeline.plan import build
from pipeline.run import Run
from tests.helpers.forked import run_python
from tests.helpers.runs import ROOT, said

SMALL = ("--set", "scores.n=4")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run"], 2, "no dataset given: abs run DATASET, or --dataset DATASET"),
        (["why", "scores"], 2, "no dataset given: abs why STAGE DATASET, or --dataset DATASET"),
        (["run", "demo", "demo"], 2, "unexpected argument 'demo'"),
        (["run", "demo", "--seed", "3"], 2, "option: --seed; did you mean --set crops.seed="),
        (["run", "demo", "--model", "x"], 2, "did you mean --set clip.model=..."),
        (["run", "demo", "--device", "cpu"], 2, "did you mean --set runtime.device=...?"),
        (["sweep", "demo", "--seed", "3"], 2, "did you mean --set crops.seed=... (or --seeds, "),
        (["run", "demo", "--wieghts-dir", "x"], 2, "did you mean --weights-dir?"),
        (["run", "demo", "-s", "seed=3"], 2, "unknown setting 'seed'; did you mean 'crops.seed'?"),
        (["list", "things"], 2, "'things' is not one of 'datasets', 'methods', "),
        (["list"], 2, "Missing argument 'kind'"),
        (["crops-raw", "dmo"], 2, "unknown dataset 'dmo'; did you mean 'demo'?"),
        (["run", "-d", "dmo"], 2, "unknown dataset 'dmo'; did you mean 'demo'?"),
        (["run", "./nofolder"], 2, "no file or folder at "),
        (["runn"], 2, "No such command 'runn'. Did you mean 'run'?"),
        (["run", "-d", "demo", "--bogus"], 2, "No such option: --bogus"),
        (["run", "-d", "demo", "--to", "scorse"], 2, "did you mean 'scores'?"),
        (["run", "-d", "demo", "--set", "crops.kk=3"], 2, "unknown setting 'crops.kk'"),
        (["run", "-d", "/nowhere/x.yaml"], 2, "/nowhere/x.yaml cannot be read: No such file"),
        (["embeddings", "rwa", "-d", "demo"], 2, "did you mean 'embeddings-raw'?"),
        (["run", "-d", "demo", "--set", "dataset.root=/nowhere"], 1, "looked for /nowhere; set"),
        (["run", "-d", "demo", "--set", "clip.model=local-dir:/nowhere"], 1, "looked for /nowhere"),
        (["run", "-d", "demo", "--set", "feature.layer=99"], 2, "99 is not one of 4 blocks"),
        (["run", "-d", "demo", "--set", "scores.temperature=.inf"], 2, "scores.temperature"),
        (["run", "-d", "demo", "--set", "crops.k=2020-13-45"], 2, "not valid YAML"),
        (["run", "-d", "demo", "--set", "dataset.root=~nobody1/x"], 2, "home directory"),
        (["run", "-d", "demo", "--set", "scores.n=99999999999"], 2, "less than or equal to 10000"),
        (["run", "-d", "demo", "--set", "clip.model=ViT-B-99 clip.weights=x"], 1, "'ViT-B-16'?"),
        (["run", "-d", "demo", "--set", "descriptions.cupl.file=/nowhere"], 1, "set descriptions"),
        (["run", "-d", "demo", "--set", "scores.methods=[nope]"], 2, "'nope'; known: abs, "),
        (["run", "-d", "demo", "--set", "scores.methods=[asb]"], 2, "'asb'; did you mean 'abs'?"),
        (["run", "-d", "demo", "--set", "methods.wca.pol=3"], 2, "did you mean 'pool'?"),
        (["run", "-d", "demo", "--set", "descriptions.new.file=x"], 2, "new.rule: give one of "),
        (["run", "-d", "demo", "-p", "paper", "--set", "scores.expectation=true"], 2, "encode=all"),
        (["run", "-d", "demo", "--set", "dataset.names=/nowhere"], 1, "set dataset.names"),
        (["run", "-d", "demo", "-p", "papper"], 2, "'papper'; did you mean 'paper'?"),
        (
            ["run", "-d", "demo", "--set", "scores.methods=[cupl] descriptions.cupl.file=null"],
            2,
            "descriptions.cupl.file: give a file, or leave methods that read it out of scores.meth",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_one_line(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = said(*words, ABS_ARTIFACTS=str(tmp_path / "store"))
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize(
    "model",
    [
        "clip.model=ViT-B-16 clip.weights=openai",
        "attention.model=vit_base_patch16_224.dino attention.weights=pretrained",
    ],
)
def test_weights_that_are_not_there_are_named_before_any_work(
    model: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = said("run", "-d", tiny, "--set", model, ABS_WEIGHTS=str(tmp_path))
    assert done.returncode == 1
    assert f"not found in {tmp_path}, " in done.stderr
    assert "and cannot be fetched" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("ledger"))


def test_damaged_weights_are_one_line(tiny: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"not weights at all")
    model = ["--set", "clip.model=ViT-B-32", "--set", f"clip.weights={weights}"]
    done = said("run", "-d", tiny, "-q", *model)
    assert done.returncode == 1
    assert f"{weights} cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_assumed_about_weights_is_said_once(tiny: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"not weights at all")
    model = ["--set", "clip.model=ViT-B-32", "--set", f"clip.weights={weights}"]
    lines = said("run", "-d", tiny, *model).stderr.splitlines()
    assumed = f"{weights}: no open_clip_config.json beside it; assumed GELU, OpenAI mean and std, "
    assert [line for line in lines if "; assumed" in line] == [f"{assumed}bicubic, shortest side"]


def test_a_class_without_descriptions_names_the_nearest(tiny: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"black-eyed fantale": ["A bird."], "black-eyed forktail": ["A bird."]}')
    done = said("run", "-d", tiny, "--set", f"descriptions.cupl.file={prompts}")
    assert done.returncode == 1
    assert (
        "no texts for class 'black-eyed fantail'; did you mean 'black-eyed fantale'?" in done.stderr
    )


def test_a_stage_alone_says_which_input_is_missing_and_the_command_that_makes_it(
    tiny: Path,
) -> None:
    done = said("scores", "-d", tiny, *SMALL)
    assert done.returncode == 1
    command = f"abs index --dataset {tiny} --set scores.n=4"
    assert done.stderr.strip() == f"abs: index of 'tiny' is missing; run: {command}"
    assert said(*command.split()[1:]).returncode == 0
    done = said("crops", "raw", "-d", tiny, *SMALL)
    assert f"abs attention --dataset {tiny}" in done.stderr


@pytest.mark.slow
def test_every_stage_runs_alone_in_order(tiny: Path) -> None:
    for kind in ("index", "descriptions", "attention", "crops", "embeddings", "scores", "metrics"):
        done = said(kind, "-d", tiny, *SMALL)
        assert done.returncode == 0, done.stderr
        assert f"{kind}" in done.stderr
        assert "done, " in done.stderr
    assert "cached" in said("metrics", "-d", tiny, *SMALL).stderr


@pytest.mark.slow
def test_run_prints_a_table_then_says_that_nothing_is_to_do(tiny: Path) -> None:
    done = said("run", "-d", tiny, *SMALL)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows[2:]] == ["clip", "cupl", "abs"]
    assert {row[-1] for row in rows[2:]} == {"8"}
    again = said("run", "-d", tiny, *SMALL)
    assert again.stdout.startswith(
        "Nothing to do: every stage is finished (up to 20 files of each "
    )
    assert again.stdout.splitlines()[1:] == done.stdout.splitlines()


def test_json_alone_is_on_standard_output(made: Run, tiny: Path) -> None:
    done = json.loads(said("run", "-d", tiny, *SMALL, "--json").stdout)
    assert {stage["state"] for stage in done["stages"]} == {"cached"}
    assert [row["method"] for row in done["results"]] == ["clip", "cupl", "abs"]
    crops = ["crops-raw", "crops-feature", "crops-windows"]
    forced = said("run", "-d", tiny, *SMALL, "--force", "crops", "--json")
    states = {stage["stage"]: stage["state"] for stage in json.loads(forced.stdout)["stages"]}
    assert [name for name, state in states.items() if state == "computed"] == crops
    plan = said("run", "-d", tiny, *SMALL, "--to", "crops", "--dry-run", "--json")
    assert [row["stage"] for row in json.loads(plan.stdout)] == ["index", "attention", *crops]
    plan = said("run", "-d", tiny, *SMALL, "--to", "crops-feature", "--dry-run", "--json")
    assert [row["stage"] for row in json.loads(plan.stdout)] == [
        "index",
        "attention",
        "crops-feature",
    ]


def test_a_dry_run_writes_no_artifact(tiny: Path, tmp_path: Path) -> None:
    done = said("run", "-d", tiny, *SMALL, "--dry-run")
    assert "To compute: index, descriptions-clip" in done.stdout
    assert not (tmp_path / "store" / "tiny").exists()


def test_status_tells_done_partial_and_missing(made: Run, tiny: Path) -> None:
    run = made
    run.store.artifact(run.named("embeddings-raw")[0]).forget(["00000-000"])
    run.store.artifact(run.named("crops-raw")[0]).remove()
    status = json.loads(said("status", "-d", tiny, *SMALL, "--json").stdout)
    states = {row["stage"]: row["state"] for row in status}
    assert states["crops-raw"] == "missing"
    assert states["embeddings-raw"] == "partial (5 of 6 units)"
    assert states["scores"] == "done"
    assert all(row["bytes"] > 0 for row in status if row["state"] == "done")
    assert "partial (5 of 6 units)" in said("status", "-d", tiny, *SMALL).stdout


def test_path_prints_the_folder_for_scripts(made: Run, tiny: Path) -> None:
    done = said("path", "scores", "-d", tiny, *SMALL)
    assert (Path(done.stdout.strip()) / "scores.parquet").exists()
    missing = said("path", "scores", "-d", tiny, "--set", "scores.n=3")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "scores of 'tiny' is missing; run: abs scores --dataset" in missing.stderr


def test_config_prints_everything_or_what_differs(tiny: Path) -> None:
    resolved = json.loads(said("config", "-d", tiny, *SMALL, "--resolved", "--json").stdout)
    assert (resolved["scores"]["n"], resolved["crops"]["k"]) == (4, 20)
    differing = json.loads(said("config", "-d", tiny, *SMALL, "--json").stdout)
    assert differing["scores"]["n"] == 4
    assert "index" not in differing
    assert "waffle" in differing["descriptions"]
    assert "clip" not in differing["descriptions"]


@pytest.mark.parametrize(
    ("changes", "code", "lines"),
    [
        (["crops.kk=3", "runtime.batch_size=0", "scores.n=0"], 2, ["crops.kk", "n: ", "batch_"]),
        (
            ["dataset.root=/nowhere", "descriptions.cupl.file=/x", "clip.model=local-dir:/y"],
            1,
            ["looked for /nowhere", "looked for /y", "looked for /x"],
        ),
        (
            ["crops.k=101", "feature.layer=9", "descriptions.cupl.file=/x"],
            2,
            ["looked for /x", "101 is more than the 100 patches of a map (10 x 10)", "of 4 blocks"],
        ),
        (["crops.layer=-5", "windows.k=200"], 2, ["-5 is not one of the 4", "windows.k: 200 is"]),
    ],
)  # fmt: skip
def test_all_problems_are_named_at_once_before_the_first_stage(
    changes: list[str], code: int, lines: list[str], tmp_path: Path
) -> None:
    words = [word for change in changes for word in ("-s", change)]
    done = said("run", "demo", *words, ABS_ARTIFACTS=str(tmp_path / "store"))
    assert (done.returncode, done.stdout) == (code, "")
    head, *found = done.stderr.splitlines()
    assert head == f"abs: {len(lines)} problems:"
    assert all(part in line for part, line in zip(lines, found, strict=True))
    assert not list(tmp_path.rglob("ledger"))


@pytest.mark.parametrize("device", ["gpu:0", "meta", "cuda:99"])
def test_a_device_that_is_none_is_refused_with_those_there_are(device: str, tiny: Path) -> None:
    done = said("run", tiny, "--set", f"runtime.device={device}")
    assert done.returncode == 1
    assert f"runtime.device: cannot use {device!r}" in done.stderr
    assert "this machine has auto, cpu" in done.stderr


def test_every_class_without_texts_is_named(tmp_path: Path, tiny: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"fantail of another kind": ["A bird."]}')
    done = said("run", "-d", tiny, "--set", f"descriptions.cupl.file={prompts}")
    assert "no texts for 2 of 2 classes: 'black-eyed fantail' (did you mean 'fantail" in done.stderr


def test_config_names_the_layer_of_every_value_and_stays_a_configuration(tiny: Path) -> None:
    printed = said("config", "-d", tiny, "--set", "crops.k=7", "--resolved").stdout
    layer = dict(re.findall(r"^ *([\w-]+): .*  # (.*)$", printed, re.MULTILINE))
    assert layer["k"] == "profile official"  # of windows
    assert "  k: 7" in printed
    assert "# --set, profile official has 20" in printed
    assert layer["root"] == "tiny.yaml"
    assert layer["max_skipped"] == "default.yaml"
    assert layer["folders_are_classes"] == "built in"
    assert yaml.safe_load(printed) == json.loads(
        said("config", "-d", tiny, "--set", "crops.k=7", "--resolved", "--json").stdout
    )


def test_a_departure_is_named_once_in_the_title_and_in_manifests(made: Run, tiny: Path) -> None:
    content = yaml.safe_load(tiny.read_text())
    tiny.write_text(yaml.safe_dump(content | {"scores": content["scores"] | {"temperature": 0.2}}))
    words = ("--set", "scores.n=4 scores.methods=[abs,cupl]")
    done = said("run", "-d", tiny, *words)
    line = "tiny.yaml: scores.temperature 0.2, profile official has 0.03"
    assert done.stderr.splitlines().count(line) == 1
    title = "tiny: 8 images, 2 classes; profile official, scores.methods=[abs, cupl], scores.n=4, "
    assert done.stdout.splitlines()[0].strip() == f"{title}scores.temperature=0.2"
    folder = said("path", "metrics", "-d", tiny, *words).stdout.strip()
    chosen = json.loads((Path(folder) / "manifest.json").read_text())["selection"]
    assert (chosen["dataset"], chosen["profile"]) == ("tiny", "official")
    settings = [each["setting"] for each in chosen["departures"]]
    assert settings == ["scores.methods", "scores.n", "scores.temperature"]


def test_config_says_in_what_two_profiles_differ() -> None:
    found = json.loads(said("config", "--diff", "official", "paper", "--json").stdout)
    assert found["crops.temperature"] == [0.03, 1.0]
    assert found["windows.shape"] == ["square", "ratio"]
    assert {name.partition(".")[0] for name in found} == {"crops", "windows", "scores"}
    printed = said("config", "--diff", "official", "aligned", "-d", "demo").stdout
    assert "dataset.duplicates" in printed
    assert "crops.temperature" not in printed


def test_a_store_that_cannot_be_written_is_one_line(tiny: Path) -> None:
    done = said("run", "-d", tiny, *SMALL, ABS_ARTIFACTS="/proc/nowhere")
    assert done.returncode == 1
    assert "check path, permissions, space left" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_finished(
    tiny: Path, tmp_path: Path
) -> None:
    """RLIMIT_FSIZE stands in for a full disk: a write beyond it fails as one does."""
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); "
    limited += f"sys.argv = {['abs', 'run', '-q', '-d', str(tiny), *SMALL]}; "
    limited += "from pipeline.__main__ import main; main()"
    done = run_python(limited, ROOT, tmp_path / "output")
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    folders = list((tmp_path / "store" / "tiny").glob("*/*"))
    assert [folder for folder in folders if not (folder / "manifest.json").exists()]
    assert not [folder for folder in folders if "metrics" in str(folder)]
    assert said("run", "-q", "-d", tiny, *SMALL).returncode == 0


def test_the_main_path_fits_one_screen_and_no_stage_imports_another() -> None:
    assert len(inspect.getsource(build).splitlines()) < 60
    for path in (ROOT / "stages").glob("*.py"):
        assert "from stages" not in path.read_text()
        assert "import stages" not in path.read_text()


@pytest.mark.slow
@pytest.mark.subprocess
def test_what_is_printed_arrives_or_the_exit_code_says_that_it_did_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process ends at once, so that it must have written what it holds."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = [sys.executable, "-m", "pipeline", "--version"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed.stdout.startswith("abs-pipeline ")
    with open("/dev/full", "w") as full:
        failed = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=ROOT)
    assert failed.returncode != 0
    assert b"No space left" in failed.stderr


@pytest.mark.slow
@pytest.mark.subprocess
def test_what_looks_does_not_import_torch(made: Run, tiny: Path) -> None:
    commands = [
        [*words, "-d", str(tiny), *SMALL] for words in (["run"], ["status"], ["run", "--dry-run"])
    ]
    code = f"import sys; from pipeline.cli.app import app; commands = {commands!r}\n"
    code += "for words in commands:\n    app(words, standalone_mode=False)\n    "
    code += (
        "print('heavy', sorted({'torch', 'open_clip', 'timm', 'zarr', 'numba'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    told = [line for line in done.stdout.splitlines() if line.startswith("heavy")]
    assert told == ["heavy []"] * len(commands), done.stderr


# --- Any command line -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_no_command_line_ends_in_a_traceback(
    made: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("pipeline.engine.runner.run_stage", refused)
    monkeypatch.setattr("pipeline.first_steps.new_dataset.own_cfgs", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)  # where files go that options name
    rng = random.Random(seed)
    for _ in range(40):
        words = command_line(rng, tiny, tmp_path)
        assert not (wrong := fault(words)), f"abs {words}: {wrong}"


def refused(*_: object) -> None:
    """Stands in for the work: what matters here comes before it."""
    raise KeyError("run_stage")
