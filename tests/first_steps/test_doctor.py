"""`abs doctor`: what it finds, what prevents a run, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.core.errors import AbsError
from pipeline.first_steps.doctor import examine, only_index
from pipeline.plan import read
from pipeline.run import Run
from pipeline.texts.class_texts import ClassTexts
from pipeline.texts.published import PUBLISHED, published
from tests.helpers.runs import said


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


def test_a_class_whose_images_all_fail_is_named(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mine.parent / "images" / "wren" / "0.png").write_bytes(b"")
    (mine.parent / "images" / "notes.txt").write_text("no image")
    found = facts(mine)
    assert (found["classes"]["with images"], found["classes"]["without images"]) == (2, ["wren"])
    assert "1 of 3 classes have no image" in found["warnings"]
    run = Run.of(str(mine), "official", [], plan=only_index)
    run.execute(run.stages, [], quiet=False)
    said = capsys.readouterr().err
    assert "index: 1 of 3 classes have no image" in said
    (line,) = re.findall("index: 5 files skipped: (.*)", said)
    assert sum(map(int, re.findall(r"(?:^|, )([0-9]+) ", line))) == 5
    assert line.endswith(", 1 for other reasons")


def test_images_of_which_none_can_be_read_have_their_reason(mine: Path) -> None:
    for image in mine.parent.glob("images/*/?.png"):
        Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(image)
    with pytest.raises(AbsError, match=r"none of 9 images .* more than 8 bits a channel.*; save"):
        facts(mine, "index.max_skipped=1")


def test_images_of_one_class_are_said(mine: Path) -> None:
    for folder in ("wren", "crane_machine"):
        for image in (mine.parent / "images" / folder).glob("?.png"):
            image.write_bytes(b"")
    assert "all images are of one class" in facts(mine, "index.max_skipped=1")["warnings"]


def test_one_file_in_two_classes_is_said(mine: Path) -> None:
    line = (
        "5 images have the bytes of one in another class, such as crane_bird/0.png and "
        "crane_machine/0.png"
    )
    assert line in facts(mine)["warnings"]
    for number, path in enumerate(sorted((mine.parent / "images").glob("*/?.png"))[3:]):
        Image.new("RGB", (20, 20), (0, 9, number)).save(path)
    assert not any("bytes" in warning for warning in facts(mine)["warnings"])


def test_texts_and_the_methods_that_have_them(mine: Path) -> None:
    found = facts(mine)
    cupl = found["texts"]["cupl"]
    assert cupl["per class"] == {"fewest": 1, "most": 2}
    assert cupl["without a class"] == ["heron"]
    assert cupl["empty"] == 2
    assert cupl["file"]["published as"] == "unknown"
    assert len(cupl["file"]["sha256"]) == 64
    assert "nowhere/clip-d.json" in found["texts"]["clip-d"]["missing"]
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
def test_why_no_image_can_be_read_is_said(tmp_path: Path) -> None:
    for name in ("auk", "wren"):
        (tmp_path / "images" / name).mkdir(parents=True)
        deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
        deep.save(tmp_path / "images" / name / "0.png")
    config = {"dataset": {"name": "grey", "root": str(tmp_path / "images")}}
    (tmp_path / "grey.yaml").write_text(yaml.safe_dump(config))
    answer = said("doctor", tmp_path / "grey.yaml", ABS_ARTIFACTS=str(tmp_path / "store"))
    assert answer.returncode == 1
    assert "none of 2 images can be read, such as auk/0.png (OSError: mode I;16" in answer.stderr
    assert "more than 8 bits a channel); save them in another form, such as PNG" in answer.stderr


def test_too_many_unreadable_images_are_a_problem(mine: Path) -> None:
    answer = said("doctor", mine, "--set", "index.max_skipped=0.1", "--json")
    found = json.loads(answer.stdout)
    assert answer.returncode == 1
    assert not found["usable"]
    assert "3 of 9 images cannot be read" in found["problems"][0]
    assert found["images"]["readable"] == 6


def test_no_model_is_needed(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    answer = said("doctor", mine, "--set", "clip.weights=nowhere.pt")
    assert answer.returncode == 1
    assert answer.stdout.splitlines()[-1].startswith("not usable; weights not looked at: attention")
    assert "PROBLEM: CLIP weights not found" in answer.stdout


def test_published_files_are_known_by_their_content() -> None:
    assert published("7f2a595332e80720be68ee64e9f32b242dd8acd7d590096903f9fa41bf6f3287") == (
        "cub/cupl of ABS"
    )
    assert published("0" * 64) == "unknown"
    assert all(len(sha256) == 64 for sha256 in PUBLISHED)


# --- Texts and names as people have them ------------------------------------------------------


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the classes cat and dog, and of apple_pie."""
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    images(tmp_path / "pets", "cat", "dog", "apple_pie")
    return tmp_path


def images(root: Path, *folders: str) -> None:
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(root / folder / "0.png")


def examined(folder: Path, text_set: str, content: str, **dataset: str) -> dict[str, Any]:
    """What doctor says of a prompt file of one text set."""
    (folder / "texts").write_text(content, encoding="utf-8")
    config = {
        "dataset": {"name": "pets", "root": str(folder / "pets"), **dataset},
        "descriptions": {text_set: {"file": str(folder / "texts")}},
    }
    (folder / "pets.yaml").write_text(yaml.safe_dump(config))
    return facts(folder / "pets.yaml")


def of_pets(cat: list[Any], dog: list[Any], pie: str = "apple pie") -> str:
    return json.dumps({"cat": cat, "dog": dog, pie: ["crust"]})


@pytest.mark.parametrize("text_set", ["cupl", "clip-d"])
def test_a_null_among_texts_is_named(pets: Path, text_set: str) -> None:
    found = examined(pets, text_set, of_pets(["fur"], ["tail", None]))
    assert not found["usable"]
    assert "text 2 of 'dog' is null" in found["problems"][0]


def test_texts_by_dataset_are_named(pets: Path) -> None:
    found = examined(pets, "cupl", json.dumps({"pets": json.loads(of_pets(["fur"], ["tail"]))}))
    assert not found["usable"]
    assert "'pets' has an object, not a list of sentences" in found["problems"][0]
    assert "several datasets" in found["problems"][0]


@pytest.mark.parametrize("pie", ["apple_pie", "apple pie", "Apple-Pie"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_texts_are_found_by_folder_or_name_and_with_a_byte_order_mark(
    pets: Path, pie: str, mark: str
) -> None:
    found = examined(pets, "cupl", mark + of_pets(["Fur."], ["Tail."], pie))
    assert found["usable"]
    assert found["texts"]["cupl"]["without a class"] == []


def test_templates_may_be_lines(pets: Path) -> None:
    found = examined(pets, "clip-e", "a photo of a {c}.\na blurry photo of a {c}.\n")
    assert found["texts"]["clip-e"]["per class"] == {"fewest": 2, "most": 2}
    assert found["methods"]["can be scored"] == ["clip", "clip-e"]


@pytest.mark.parametrize(
    ("descriptors", "warned"),
    [
        (["It has fur.", "Whiskers"], True),
        (["a tail!", "fur"], True),
        (["fur", "a long tail", "St. Bernard"], True),
        (["fur", "a tail e.g. a long one", "has 4 legs"], False),
        (["fur"] * 30 + ["American face"], False),
    ],
)
def test_sentences_in_place_of_descriptors_are_a_warning(
    pets: Path, descriptors: list[str], warned: bool
) -> None:
    found = examined(pets, "clip-d", of_pets(["fur"], descriptors))
    assert found["usable"]
    assert any("look like sentences" in line for line in found["warnings"]) == warned
    assert not examined(pets, "cupl", of_pets(["fur"], descriptors))["warnings"]


def test_texts_that_clip_cuts_are_counted(pets: Path) -> None:
    long = "a dog with " + ", ".join(f"feature {n}" for n in range(40))
    found = examined(pets, "cupl", of_pets(["fur"], [f"{long} a", "short", f"{long} b"]))
    assert found["usable"]
    assert (found["texts"]["cupl"]["cut"], found["texts"]["cupl"]["same vector"]) == (2, 1)
    cut, same = found["warnings"]
    assert cut.startswith("cupl: 2 of 5 texts are cut at 77 tokens, such as text 1 of 'dog' ('a do")
    assert same.endswith("such as text 3 of 'dog', equal to text 1")


def test_a_missing_tokenizer_is_said(pets: Path) -> None:
    examined(pets, "cupl", of_pets(["fur"], ["tail", "ear"]))
    found = facts(pets / "pets.yaml", "clip.model=hf-hub:nobody/nothing", "clip.weights=null")
    assert found["usable"]
    assert found["texts"]["cupl"]["cut"].startswith("not counted: hf-hub:nobody/nothing is not on")


def test_labels_of_a_table_have_spaces_and_no_other_place_is_named(pets: Path) -> None:
    rows = [f"pets/{name}/0.png,{name}" for name in ("cat", "dog", "apple_pie")]
    (pets / "all.csv").write_text("\n".join(["path,label", *rows]))
    table = {"root": str(pets / "all.csv"), "reader": "manifest"}
    assert descriptors_of(pets, of_pets(["fur"], ["tail"]), **table)[0] == (
        "apple pie, which has crust"
    )
    assert facts(pets / "pets.yaml")["dataset"]["also there"] == []


@pytest.mark.parametrize(
    ("folders", "advice"),
    [
        (["n01440764", "n02123045"], "dataset.reader=imagenet-part"),
        (["0", "1"], "one name per line, in the order of the numbers"),
    ],
)
def test_identifiers_are_unusable_names(
    pets: Path, tmp_path: Path, folders: list[str], advice: str
) -> None:
    images(tmp_path / "ids", *folders)
    config = {"dataset": {"name": "ids", "root": str(tmp_path / "ids")}}
    (tmp_path / "ids.yaml").write_text(yaml.safe_dump(config))
    answer = said("doctor", tmp_path / "ids.yaml")
    assert answer.returncode != 0
    assert "abs: dataset.names: " in answer.stderr
    assert f"such as {folders[0]}, which are unusable in texts" in answer.stderr
    assert advice in answer.stderr


def test_renamed_classes_are_found_by_their_folders_too(pets: Path) -> None:
    (pets / "names.json").write_text('{"cat": "tabby", "dog": "cat", "apple_pie": "pie"}')
    names = str(pets / "names.json")
    found = examined(pets, "clip-d", of_pets(["fur"], ["tail"]), names=names)
    assert "no texts for class 'tabby'" in found["problems"][0]  # `cat` is the dog's name now
    texts = {"tabby": ["fur"], "dog": ["tail"], "apple_pie": ["crust"]}
    made = descriptors_of(pets, json.dumps(texts), names=names)
    assert made == ["pie, which has crust", "tabby, which has fur", "cat, which has tail"]


def descriptors_of(folder: Path, content: str, **dataset: str) -> list[str]:
    """The text of each class that has one descriptor."""
    assert examined(folder, "clip-d", content, **dataset)["usable"]
    settings = Run.of(str(folder / "pets.yaml"), "official", [], plan=only_index).settings
    digests, found = read(settings)
    texts = settings.descriptions["clip-d"]
    made = ClassTexts("clip-d", texts, found.classes, settings.paths, digests)
    return [text for own in made.texts for text in own]


def test_other_spellings_of_a_class_do_not_enter_texts(pets: Path) -> None:
    texts = {"Cat": ["fur"], "DOG": ["tail"], "apple_pie": ["crust"]}
    made = descriptors_of(pets, json.dumps(texts))
    assert made == ["apple pie, which has crust", "cat, which has fur", "dog, which has tail"]


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
    found = facts(mine)
    assert found["clip"] == {"model": "ViT-B-16", "weights": "openai"}
    unseen = ["clip ViT-B-16 openai", "attention vit_base_patch16_224.dino pretrained"]
    assert found["weights not looked at"] == unseen
    assert "usable; weights not looked at: clip ViT-B-16 openai, att" in said("doctor", mine).stdout
