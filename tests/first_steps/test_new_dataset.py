"""`abs init`: the configuration that it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.core.errors import AbsError
from pipeline.core.layers import CFGS
from pipeline.first_steps.doctor import only_index
from pipeline.first_steps.new_dataset import write_dataset
from pipeline.plan import read
from pipeline.run import Run
from tests.helpers.runs import ROOT, said


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
    told = mine.parent / "cupl.json"
    path, found = write_dataset("birds", mine.parent / "images", descriptions=told)
    assert path == configs / "datasets" / "birds.yaml"
    assert (len(found.samples), len(found.classes.names)) == (7, 3)
    loaded = Run.of("birds", "official", ["index.max_skipped=1"], plan=only_index)
    assert loaded.settings.dataset.root == (str(mine.parent / "images"),)
    assert loaded.settings.descriptions["cupl"].file == str(told)


def test_folders_of_imagenet_become_a_dataset_by_their_reader(
    tmp_path: Path, configs: Path
) -> None:
    for folder in ("n01440764", "n02123045"):
        (tmp_path / "some" / folder).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "some" / folder / "0.png")
    with pytest.raises(AbsError, match=r"reader=imagenet-part \(abs init: --reader\)"):
        write_dataset("some", tmp_path / "some")
    write_dataset("some", tmp_path / "some", reader="imagenet-part")
    settings = Run.of("some", "official", [], plan=only_index).settings
    found = read(settings)[1]
    assert [found.classes.names[label] for _, label in found.samples] == ["tench", "tabby cat"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a/b", "--images", "."], 2, "cannot be a dataset's name"),
        (["demo", "--images", "."], 1, "demo.yaml is there already"),
        (["new", "--images", "/nowhere"], 1, "no folder or table at /nowhere"),
        (["new", "--images", "README.md"], 1, "README.md is no folder, no table (.csv, "),
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
