"""`abs try`: a sample of photographs, the texts that are there, models at hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.first_steps import trial_models
from pipeline.models.at_hand import Known
from tests.helpers.runs import DEMO, said

SMALL = (
    "clip.model=local-dir:pipeline/demo/models/clip clip.weights=null "
    "attention.model=clip scores.n=2 runtime.threads=1"
)


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of three photographs, and a store of their own."""
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    for source in sorted((DEMO / "images").iterdir())[:3]:
        (tmp_path / "my birds" / source.name).mkdir(parents=True)
        for image in sorted(source.iterdir())[:3]:
            shutil.copy(image, tmp_path / "my birds" / source.name)
    return tmp_path / "my birds"


@pytest.mark.slow
def test_photographs_and_texts_are_one_command_and_a_table(
    photographs: Path, tmp_path: Path
) -> None:
    texts = json.loads((DEMO / "prompts" / "cupl.json").read_text())
    names = [folder.name.replace("_", " ") for folder in sorted(photographs.iterdir())]
    del texts[names[2]]
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(texts))
    words = ["try", photographs, "--descriptions", file, "--images", "4", "-s", SMALL]
    done = said(*words, "--log-file", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    assert "4 photographs, 2 classes, at most 8 texts of each" in done.stderr
    assert f"left out: 1 class without texts, such as {names[2]!r}" in done.stderr
    assert done.stderr.index("to encode: ") < done.stderr.index("index: 4 images")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:6]] == [
        "clip", "cupl", "wca", "abs",
    ]  # fmt: skip
    log = (tmp_path / "log").read_text().splitlines()
    assert [line[20:] for line in log] == done.stderr.splitlines()


def test_texts_of_one_class_are_refused_in_one_line(photographs: Path, tmp_path: Path) -> None:
    (name, *_) = sorted(folder.name.replace("_", " ") for folder in photographs.iterdir())
    file = tmp_path / "texts.json"
    file.write_text(json.dumps({name: ["A bird."]}))
    done = said("try", photographs, "--descriptions", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "texts for 1 of 3 classes; give texts for two classes or more, under their names\n"
    )


def test_without_weights_all_choices_are_named(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_models, "clip_at_hand", lambda paths, model: None)
    done = said("try", photographs)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no weights of a CLIP are on this machine; choose one:" in done.stderr
    for choice in ("--weights-dir", "clip.weights=FILE", "clip.weights=openai", "random:0"):
        assert choice in done.stderr


def test_models_that_are_named_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Known("clip", "ViT-B-16", "openai", Path("/w"))
    monkeypatch.setattr(trial_models, "clip_at_hand", lambda paths, model: clip)
    monkeypatch.setattr(trial_models, "attention_at_hand", lambda paths: None)
    paths = object()
    found = trial_models.chosen_models(["scores.n=4"], paths)  # type: ignore[arg-type]
    assert found == ["clip.model=ViT-B-16", "clip.weights=openai", "attention.model=clip"]
    named = ["attention.model=random clip.model=RN50"]
    assert trial_models.chosen_models(named, paths) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "message"),
    [("nowhere", "no folder or table at"), ("my birds/flat", "put the photographs of each class")],
)
def test_photographs_that_cannot_be_read_as_classes_are_one_line(
    photographs: Path, where: str, message: str
) -> None:
    (photographs / "flat").mkdir()
    for image in photographs.glob("*/*"):
        shutil.copy(image, photographs / "flat")
    done = said("try", photographs.parent / where)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
