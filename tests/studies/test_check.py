"""A check names what can explain a gap, the widest effect first, and nothing that cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.helpers.runs import DEMO, said

Checked = Callable[..., dict[str, str]]


@pytest.fixture
def dtd(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small dataset under the name of one of the paper's, with a backbone of the paper's."""
    config = yaml.safe_load(tiny.read_text())
    config["dataset"] |= {"name": "dtd", "published": {"images": 1880, "classes": 47}}
    config["scores"]["methods"] = ["abs"]
    path = tmp_path / "dtd.yaml"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr("pipeline.studies.check.backbone_of", lambda _: "ViT-B/16")
    return path


@pytest.fixture
def checked(dtd: Path) -> Checked:
    """Runs with N = 4 and further changes; what is otherwise, and its effect, in order."""

    def check(*changes: str) -> dict[str, str]:
        words = [word for change in ("scores.n=4", *changes) for word in ("--set", change)]
        assert said("run", "--dataset", dtd, *words).returncode == 0
        found = json.loads(said("check", dtd, *words, "--json").stdout)
        assert found["paper"] == 54.26
        return dict(found["reasons"])

    return check


def written(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def species() -> list[str]:
    """Return the classes that the demo has sentences for."""
    return list(json.loads((DEMO / "prompts" / "cupl.json").read_text()))


def test_a_check_needs_a_row_of_the_paper_and_one_of_ours(
    dtd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "run: abs metrics --dataset" in said("check", dtd, "--set", "scores.n=4").stderr
    monkeypatch.undo()
    assert "no row of ABS for dtd with clip" in said("check", dtd, "--set", "scores.n=4").stderr
    assert said("check", dtd, "--set", "scores.n=4", "crops.k=20").returncode == 2


@pytest.mark.slow
def test_without_changes_only_what_the_small_dataset_is_differs(checked: Checked) -> None:
    reasons = list(checked())
    assert reasons == [
        "descriptions: unknown", "clip.weights: None", "activation: GELU", "scores.n: 4", "8 images"
    ]  # fmt: skip


@pytest.mark.slow
def test_reasons_come_in_the_order_of_their_effect(checked: Checked, tmp_path: Path) -> None:
    folders = sorted(path.name for path in (DEMO / "images").iterdir())[:2]
    known = [name for name in species() if name.replace(" ", "_") not in folders]
    first, *others = folders
    names = {first: known[0], **{name: name.replace("_", " ") for name in others}}
    changes = {
        "dataset.names": written(tmp_path / "names.json", names),
        "dataset.vocabulary": written(tmp_path / "all.json", [*names.values(), *known[1:3]]),
        "crops.k": 9,
        "clip.precision": "bfloat16",
    }
    reasons = list(checked(*(f"{name}={value}" for name, value in changes.items())))
    assert reasons == [
        "descriptions: unknown",
        "clip.weights: None",
        "activation: GELU",
        "class names: 1 of 2 differ from the dataset's",
        "softmax over 4 classes",
        "crops.k: 9",
        "scores.n: 4",
        "8 images",
        "clip.precision: bfloat16",
    ]


@pytest.mark.slow
def test_classes_that_are_all_present_compete_anyway(checked: Checked) -> None:
    assert not [what for what in checked("scores.classes=present") if "classes" in what]


@pytest.mark.slow
def test_a_clip_with_the_papers_activation_is_no_reason(checked: Checked, tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO / "models" / "clip", tmp_path / "quick")
    path = next(folder.glob("*config.json"))
    config = json.loads(path.read_text())
    config["model_cfg"]["quick_gelu"] = True
    written(path, config)
    assert not [what for what in checked(f"clip.model=local-dir:{folder}") if "GELU" in what]
