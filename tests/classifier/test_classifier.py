"""Scores of images in memory are those that the pipeline stores, for every method and setting."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import Classifier, load
from pipeline.core.errors import AbsError, ConfigError
from pipeline.methods.registry import METHODS
from pipeline.run import Run
from tests.helpers.demo import finished_demo
from tests.helpers.further_methods import FURTHER
from tests.helpers.runs import DEMO, make_all, said

FLOAT16 = 3e-5
"""Change of a cosine if a few components of unit vectors are rounded to float16 the other way."""
LOADED = {
    "scores.n": 4,
    "methods.wca.pool": 4,
    "methods.wca.n": 3,
    "runtime.threads": 1,
    "attention.model": f"local-dir:{DEMO / 'models' / 'attention'}",
    "attention.weights": None,
}
CLIP = f"local-dir:{DEMO / 'models' / 'clip'}", None


def stored(run: Run) -> np.ndarray:
    return run.store.open(run.named("scores")[0]).array("logits")[:]


@pytest.mark.slow
def test_all_methods_score_the_demo_as_its_run_did(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in finished_demo(tmp_path_factory).items():
        monkeypatch.setenv(name, value)
    run = Run.of("demo", "official", [])
    classifier = Classifier.of("demo")
    assert classifier.methods == list(run.settings.chosen)
    assert {"clip", "clip-e", "clip-d", "waffle", "cupl", "wca", "abs"} <= set(classifier.methods)
    root, paths = run.named("index")[0].dataset.root, load.images("demo")["path"]
    files, expected = [root / path for path in paths], stored(run)
    block = run.settings.layout.images
    found = np.stack(classifier(files[:block]))
    assert found == pytest.approx(expected[:block], abs=1e-6)
    alone = np.stack([classifier(file) for file in files[:3]])
    assert alone == pytest.approx(expected[:3], abs=FLOAT16)
    exact = Classifier.of("demo", exact=True)
    alone = np.stack([exact(file) for file in files[:8]])  # of a full batch in the run
    assert alone == pytest.approx(expected[:8], abs=1e-6)
    scores = load.scores("demo")
    chances = classifier(files[:2], probabilities=True)
    for row, table in enumerate(chances):
        assert table.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-9)
        own = scores[scores["image_id"] == paths[row]].set_index("method").loc[classifier.methods]
        assert table.max(axis=1).to_numpy() == pytest.approx(own["confidence"], abs=1e-5)
        names = load.classes("demo")["name"]
        assert table.idxmax(axis=1).tolist() == names[own["pred"]].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "changes"),
    [
        (
            "official",
            {"windows.encode": "all", "scores.expectation": True, "raw.prompt": "redcircle"},
        ),
        ("official", {"windows.encode": "all", "attention.model": "random:3", "crops.seed": 5}),
        (
            "official",
            {
                "scores.methods": ["bifta-views", "abs"],
                "methods.bifta-views.pool": 6,
                "methods.bifta-views.n": 4,
                "methods.bifta-views.overlap": 0.5,
            },
        ),
        ("aligned", {"attention.model": "clip", "feature.layer": 0, "scores.soft": False}),
    ],
)
def test_settings_mean_the_same_as_in_a_run(
    tiny: Path, profile: str, changes: dict[str, Any]
) -> None:
    changes = {"scores.n": 3, "layout.images": 4, **changes}
    run = Run.of(str(tiny), profile, [f"{name}={value}" for name, value in changes.items()])
    make_all(run)
    classifier = Classifier.of(str(tiny), profile, settings=changes)
    files = [tiny.parent / "images" / path for path in load.images("tiny")["path"]]
    assert np.stack(classifier(files)) == pytest.approx(stored(run), abs=1e-6)


@pytest.fixture(scope="module")
def small() -> Classifier:
    texts = json.loads((DEMO / "prompts" / "cupl.json").read_text())
    classes = sorted(texts)[:4]
    given = {name: texts[name] for name in reversed(classes)}
    return Classifier(classes, given, *CLIP, settings=LOADED)


def test_an_image_is_the_same_in_every_form(small: Classifier) -> None:
    path = next((DEMO / "images").glob("*/*"))
    by_path, by_name, by_bytes = small([path, str(path), path.read_bytes()])
    assert by_path.equals(by_name)
    assert by_path.to_numpy() == pytest.approx(by_bytes.to_numpy(), abs=FLOAT16)
    with Image.open(path) as image:
        opened, array = image.convert("RGB"), np.asarray(image.convert("RGB"))
    grey = np.asarray(opened.convert("L"))
    assert small(opened).equals(small(array))
    assert small(grey).equals(small(Image.fromarray(grey)))
    whole = ["clip", "cupl"]  # draws of crops follow the file, where there is one
    assert small(array).loc[whole].to_numpy() == pytest.approx(by_path.loc[whole], abs=FLOAT16)
    assert list(small.stream(iter([]))) == []


def test_rows_are_methods_and_columns_are_classes(small: Classifier) -> None:
    table = small(np.zeros((30, 40, 3), np.uint8))
    assert list(table.index) == small.methods == ["clip", "cupl", "wca", "abs"]
    assert list(table.columns) == small.classes
    assert set(table.dtypes) == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Path("nowhere.jpg"), "image not found: nowhere.jpg"),
        (b"GIF", "image cannot be read as an image: "),
        (np.zeros((4, 4, 3)), "dtype float64, shape (4, 4, 3): give a path"),
        (np.zeros((4, 4, 4), np.uint8), "shape (4, 4, 4): give a path"),
        (np.zeros(4, np.uint8), "image of shape (4,)"),
        (None, "image of type NoneType"),
        (Image.new("I;16", (4, 4)), "image of mode I;16: more than 8 bits"),
    ],
)
def test_what_is_no_image_is_one_line(small: Classifier, image: Any, message: str) -> None:
    with pytest.raises(AbsError, match=re.escape(message)) as error:
        small(image)
    assert "\n" not in str(error.value)


TEXTS = {"auk": ["An auk."], "owl": ["An owl."]}


@pytest.mark.parametrize(
    ("classes", "texts", "more", "message"),
    [
        (["auk"], TEXTS, {}, "one class alone, 'auk'"),
        ([], TEXTS, {}, "give two names or more"),
        (["auk", "auk"], TEXTS, {}, "'auk' is there twice"),
        (["auk", 3], TEXTS, {}, "expected names, found 3"),
        (["auk", "wren"], TEXTS, {}, "no texts for class 'wren'"),
        (["auk", "owl"], {"auk": [], "owl": ["."]}, {}, "'auk' needs a list of one or more"),
        (["auk", "owl"], TEXTS, {"crops.kk": 3}, "unknown setting 'crops.kk'; did you mean 'k'"),
        (["auk", "owl"], TEXTS, {"k": 3}, "'k': give section.field"),
        (["auk", "owl"], TEXTS, {"scores.methods": ["absent"]}, "unknown method 'absent'"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(
    classes: Any, texts: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(AbsError, match=re.escape(message)) as error:
        Classifier(classes, texts, *CLIP, settings={**LOADED, **more})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cache", "gaussian"])
def test_methods_that_compare_images_are_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, name, FURTHER[name])
    with pytest.raises(ConfigError, match="compares the images of a dataset with each other"):
        Classifier(list(TEXTS), TEXTS, *CLIP, methods=[name], settings=LOADED)(picture())


def picture() -> bytes:
    Image.new("RGB", (40, 30)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_the_command_prints_what_the_classifier_finds(tmp_path: Path, small: Classifier) -> None:
    image = tmp_path / "photo.png"
    image.write_bytes(picture())
    (tmp_path / "names.txt").write_text("\n".join(small.classes))
    options = ["--clip", CLIP[0], "--weights", "none", "--json", "--top", "2"]
    options += [word for name, value in LOADED.items() for word in ("-s", f"{name}={value}")]
    options = [word.replace("=None", "=null") for word in options]
    files = ["--classes", tmp_path / "names.txt", "--descriptions", DEMO / "prompts" / "cupl.json"]
    done = said("classify", image, *files, *options)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    expected = small(image, probabilities=True)
    for method, best in found["methods"].items():
        top = expected.loc[method].sort_values(ascending=False, kind="stable")[:2]
        assert [one["class"] for one in best] == list(top.index)
        assert [one["probability"] for one in best] == pytest.approx(top.tolist(), abs=1e-5)
    alone = said("classify", image)
    assert (alone.returncode, alone.stderr.count("\n")) == (2, 1)
    assert "give --classes FILE" in alone.stderr
