"""`abs doctor` and `abs init`: what they find, what they refuse, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pipeline.core.layers import CFGS
from pipeline.doctor import examine, only_index
from pipeline.run import Run
from pipeline.texts.published import PUBLISHED, published
from tests.helpers.runs import ROOT, abs_command, said


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of three folders, two of one class, with texts of various quality."""
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    images = tmp_path / "images"
    for folder, count in (("crane_bird", 3), ("crane_machine", 2), ("wren", 1)):
        (images / folder).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (20, 20), (number, 0, 0)).save(images / folder / f"{number}.png")
    (images / "wren" / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    (images / "wren" / "loop.jpg").symlink_to("loop.jpg")
    (images / "stray.png").write_bytes(b"")
    names = {"crane bird": "crane", "crane machine": "crane", "wren": "wren"}
    (tmp_path / "names.json").write_text(json.dumps(names))
    texts = {"crane": ["A crane.", ""], "wren": ["A wren."], "heron": ["A heron."]}
    (tmp_path / "cupl.json").write_text(json.dumps(texts))
    config = {
        "dataset": {
            "name": "mine",
            "root": str(images),
            "names": str(tmp_path / "names.json"),
            "published": {"images": 7, "classes": 3},
        },
        "descriptions": {
            "cupl": {"file": str(tmp_path / "cupl.json")},
            "clip-d": {"file": "?nowhere/clip-d.json"},
        },
        "index": {"max_skipped": 0.5},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def facts(path: Path, *changes: str, profile: str = "official") -> dict[str, Any]:
    run = Run.of(str(path), profile, changes, plan=only_index)
    return examine(run, quiet=True).as_dict()


def test_what_is_there(mine: Path) -> None:
    found = facts(mine)
    assert found["usable"]
    assert found["dataset"]["layout"] == "3 class folders"
    images = found["images"]
    assert (images["readable"], images["published"], images["skipped"]) == (6, 7, 3)
    assert images["per class"] == {"fewest": 1, "most": 3}
    reasons = " ".join(images["first skipped"])
    assert "wren/broken.jpg: UnidentifiedImageError" in reasons
    assert "wren/loop.jpg: a link that leads nowhere" in reasons
    assert "stray.png: not in a class folder" in reasons


def test_images_that_can_never_be_right(mine: Path) -> None:
    classes = facts(mine)["classes"]
    assert classes["names shared by several"] == {"crane": 2}
    assert classes["share of images never right"] == pytest.approx(2 / 6)
    unique = facts(mine, profile="aligned")["classes"]
    assert unique["names shared by several"] == {}
    assert unique["share of images never right"] == 0


def test_texts_and_the_methods_that_have_them(mine: Path) -> None:
    found = facts(mine)
    cupl = found["texts"]["cupl"]
    assert cupl["per class"] == {"fewest": 1, "most": 2}
    assert cupl["without a class"] == ["heron"]
    assert cupl["empty"] == 2
    assert cupl["file"]["published as"] == "unknown"
    assert len(cupl["file"]["sha256"]) == 64
    assert "nowhere/clip-d.json" in found["texts"]["clip-d"]["not given"]
    assert found["methods"]["can be scored"] == ["clip", "cupl", "wca", "abs"]
    assert set(found["methods"]["lack texts"]) == {"clip-e", "clip-d", "waffle"}


@pytest.mark.slow
def test_a_class_without_texts_is_a_problem(mine: Path) -> None:
    told = mine.parent / "cupl.json"
    told.write_text(json.dumps({"crane": ["A crane."], "wrem": ["A wren."]}))
    answer = said("doctor", mine, "--quiet")
    assert answer.returncode == 1
    assert "PROBLEM" in answer.stdout
    assert "no texts for class 'wren'; did you mean 'wrem'?" in answer.stdout


@pytest.mark.slow
def test_too_many_unreadable_images_are_a_problem(mine: Path) -> None:
    answer = said("doctor", mine, "--set", "index.max_skipped=0.1", "--json")
    found = json.loads(answer.stdout)
    assert answer.returncode == 1
    assert not found["usable"]
    assert "3 of 9 images cannot be read" in found["problems"][0]
    assert found["images"]["readable"] == 6


@pytest.mark.slow
@pytest.mark.subprocess
def test_no_model_is_needed(mine: Path) -> None:
    answer = abs_command("doctor", mine, "--set", "clip.weights=nowhere.pt", HF_HUB_OFFLINE="1")
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (0, "usable")
    assert "missing: CLIP weights not found" in answer.stdout


def test_published_files_are_known_by_their_content() -> None:
    assert published("7f2a595332e80720be68ee64e9f32b242dd8acd7d590096903f9fa41bf6f3287") == (
        "cub/cupl of ABS"
    )
    assert published("0" * 64) == "unknown"
    assert all(len(sha256) == 64 for sha256 in PUBLISHED)


# --- abs init ---------------------------------------------------------------------------------


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configurations that may be written to."""
    copy = tmp_path / "cfgs"
    for file in CFGS.rglob("*.yaml"):
        (copy / file.relative_to(CFGS)).parent.mkdir(parents=True, exist_ok=True)
        (copy / file.relative_to(CFGS)).write_bytes(file.read_bytes())
    for module in ("pipeline.settings", "pipeline.core.layers"):
        monkeypatch.setattr(f"{module}.CFGS", copy)
    return copy


def test_a_folder_becomes_a_dataset(mine: Path, configs: Path) -> None:
    from pipeline.new_dataset import write_dataset

    told = mine.parent / "cupl.json"
    path, found = write_dataset("birds", mine.parent / "images", descriptions=told)
    assert path == configs / "datasets" / "birds.yaml"
    assert (len(found.samples), len(found.classes)) == (7, 3)
    loaded = Run.of("birds", "official", ["index.max_skipped=1"], plan=only_index)
    assert loaded.settings.dataset.root == (str(mine.parent / "images"),)
    assert loaded.settings.descriptions["cupl"].file == str(told)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a/b", "--images", "."], 2, "cannot be a dataset's name"),
        (["demo", "--images", "."], 1, "demo.yaml is there already"),
        (["new", "--images", "/nowhere"], 1, "no folder or table at /nowhere"),
        (["new", "--images", "README.md"], 1, "README.md is not a folder"),
        (["new"], 2, "--images"),
        (["new\n", "--images", "."], 2, "cannot be a dataset's name"),
        (["new.yaml", "--images", "."], 2, "cannot be a dataset's name"),
        (
            ["new", "--images", "pipeline/demo/images", "--descriptions", "/nowhere.json"],
            1,
            "descriptions not found: /nowhere.json",
        ),
    ],
)
def test_what_cannot_become_one(
    monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(ROOT)
    answer = said("init", *words)
    assert answer.returncode == code
    assert answer.stderr.startswith("abs: ")
    assert message in answer.stderr
    assert not (CFGS / "datasets" / "new.yaml").exists()


def test_the_clip_of_a_file_is_described_and_what_is_assumed_of_it(
    mine: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"not read before a run")
    found = facts(mine, "clip.model=ViT-B-32", f"clip.weights={weights}")
    assert found["clip"]["activation"] == "GELU"
    assert found["clip"]["preprocessing"] == "OpenAI mean and std, bicubic, shortest side"
    assert found["clip"]["assumed"].startswith(f"{weights}: no open_clip_config.json beside it;")
    assert found["usable"]
    config = {"model_cfg": {}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    found = facts(mine, "clip.model=ViT-B-32", f"clip.weights={weights}")
    assert found["clip"]["problem"] in found["problems"]
    assert "has no vision_cfg" in found["clip"]["problem"]


def test_a_clip_that_would_be_downloaded_is_not_looked_for(mine: Path) -> None:
    assert facts(mine)["clip"] == {"model": "ViT-B-16", "weights": "openai"}
