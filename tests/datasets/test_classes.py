"""What classes are called and which compete: renaming, duplicates, and a larger vocabulary.

Runs are of two classes of four images. Scores are held to plain loops over what is stored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import AbsError
from pipeline.datasets.classes import Classes, resolve_classes
from pipeline.datasets.listing import Class, Listing
from pipeline.run import Run
from tests.helpers.runs import DEMO, make_all, write_dataset
from tests.reference import formulas as ref
from tests.reference.case import array, feature_vectors, stored_texts, table

Written = Callable[[str, Any], Path]
Made = Callable[..., Run]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a value as JSON."""

    def write(name: str, value: Any) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


@pytest.fixture(scope="module")
def made_with(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Iterator[Made]:
    """Makes runs with N = 4 and further changes; they share a store, which knows the images."""
    folder = tmp_path_factory.mktemp("classes")
    shutil.copytree(finished, folder / "store")
    dataset = str(write_dataset(folder))

    def make(*changes: str) -> Run:
        run = Run.of(dataset, "official", ["scores.n=4", *changes])
        make_all(run)
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(folder / "store"))
        yield make


# --- Names and labels -------------------------------------------------------------------------


def of(*names: str) -> Listing:
    """What a reader found, as folders of those names."""
    return Listing([Class(name, name, name) for name in names], [])


def numbered(*keys: str) -> Listing:
    """A listing of classes that have numbers and no names."""
    return Listing([Class(key, "") for key in keys], [])


def test_classes_are_what_the_reader_found() -> None:
    classes, places = resolve_classes(of("b", "a"), None, None, unique=False)
    assert classes == Classes(("b", "a"), (("b",), ("a",)), (True, True))
    assert places == [0, 1]


def test_classes_are_renamed_by_name_whatever_the_order(written: Written) -> None:
    names = written("names", {"c": "unused", "a": "Ant", "b": "Bee"})
    classes, places = resolve_classes(of("b", "a"), names, None, unique=False)
    assert (classes.names, places) == (("Bee", "Ant"), [0, 1])


def test_a_list_of_names_in_the_order_of_labels(written: Written) -> None:
    """As the authors publish them: names, or lists of synonyms of which the first is the name."""
    names = written("names", ["Little Auk", ["bee-eater", "Merops"], "crane"])
    classes, places = resolve_classes(of("auk", "bee_eater", "crane"), names, None, unique=False)
    assert (classes.names, places) == (("Little Auk", "bee-eater", "crane"), [0, 1, 2])


@pytest.mark.parametrize("form", ["{}", "{:02d}", "{}.0"])
@pytest.mark.parametrize("count", [10, 12])
def test_a_list_is_joined_with_numbers_by_the_numbers(
    written: Written, form: str, count: int
) -> None:
    """Which come in the order of text where they are names: 0, 1, 10, 11, 2."""
    keys = sorted(map(form.format, range(count)))
    names = written("names", [f"name {number}" for number in range(13)])
    classes, places = resolve_classes(numbered(*keys), names, None, unique=False)
    assert classes.names == tuple(f"name {number}" for number in range(13))
    assert places == [int(key.split(".")[0]) for key in keys]
    with pytest.raises(AbsError, match="9 names, but the dataset has a class 9"):
        resolve_classes(numbered(*"95"), written("few", ["x"] * 9), None, unique=False)
    with pytest.raises(AbsError, match="the classes 1 and 01 have the same number"):
        resolve_classes(numbered("1", "01"), names, None, unique=False)


@pytest.mark.parametrize("keys", [["10", "2", "background"], ["n1", "n10", "n2"], ["n10", "n2"]])
def test_a_list_in_another_order_than_the_classes_is_refused(
    written: Written, keys: list[str]
) -> None:
    names = written("names", ["x", "y", "z"][: len(keys)])
    listing = Listing([Class(key, "" if key.isdecimal() else key) for key in keys], [])
    with pytest.raises(AbsError, match="give an object of names by class"):
        resolve_classes(listing, names, None, unique=False)
    if "n2" in keys:
        same = written("same", keys)
        assert resolve_classes(listing, same, None, unique=False)[0].names == tuple(keys)


def test_spellings_are_two_classes_if_they_are_named_apart(written: Written) -> None:
    listing = of("A", "a")
    with pytest.raises(AbsError, match=r"'A' and 'a' differ only in .* dataset\.names"):
        resolve_classes(listing, None, None, unique=False)
    names = written("names", {"A": "capital A", "a": "small a"})
    assert resolve_classes(listing, names, None, unique=False)[0].names == ("capital A", "small a")
    assert resolve_classes(of("Masse", "Ma\u00dfe"), None, None, unique=False)[1] == [0, 1]


def test_a_class_called_none_names_no_other(written: Written) -> None:
    names = written("names", {"None": "no defect", "deep scratch": "scratch"})
    listing = Listing([Class("None", "None"), Class("deep_scratch", "deep scratch")], [])
    assert resolve_classes(listing, names, None, False)[0].names == ("no defect", "scratch")


def test_underscores_in_names_are_spaces(written: Written) -> None:
    names = written("names", {"a": "apple_pie", "b": "tea"})
    assert resolve_classes(of("a", "b"), names, None, False)[0].names == ("apple pie", "tea")
    vocabulary = written("vocabulary", ["tea", "apple_pie"])
    listing = Listing([Class("apple_pie", "apple pie")], [])
    assert resolve_classes(listing, None, vocabulary, unique=False)[1] == [1]


@pytest.mark.parametrize(
    "text",
    ['[\n"dog",\n"cat"\n]', "dog,\ncat,", "classes = [\n'dog'", "0: dog\n1: cat", "1 dog\n2 cat"],
)
def test_lines_that_are_no_names_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names.txt"
    path.write_text(text)
    with pytest.raises(AbsError, match=r"expected (one class name|class names without numbers)"):
        resolve_classes(numbered("0", "1"), path, None, unique=False)


def test_an_object_names_the_numbers_that_occur(written: Written) -> None:
    """As flowers' `cat_to_name.json`, from 1."""
    names = written("names", {"1": "rose", "2": "tulip", "3": "aster"})
    classes, places = resolve_classes(numbered("2", "01"), names, None, unique=False)
    assert (classes.names, places) == (("tulip", "rose"), [0, 1])


def test_a_list_may_have_two_classes_of_one_name(written: Written) -> None:
    names = written("names", ["crane", "wren", "crane"])
    classes, _ = resolve_classes(of("crane", "wren", "Crane"), names, None, unique=True)
    assert classes.names == ("crane", "wren", "Crane")


@pytest.mark.parametrize("unique", [False, True])
def test_duplicates_are_kept_or_go_by_the_readers_names(written: Written, unique: bool) -> None:
    names = written("names", {"crane 1": "crane", "wren": "wren", "crane 2": "crane"})
    classes, places = resolve_classes(of("crane 1", "wren", "crane 2"), names, None, unique)
    assert classes.names == (
        ("crane 1", "wren", "crane 2") if unique else ("crane", "wren", "crane")
    )
    both = (("crane 1", "crane"), ("wren",), ("crane 2", "crane"))
    assert classes.aliases == (both if unique else (("crane",), ("wren",), ("crane",)))
    assert places == [0, 1, 2]


def test_names_that_are_made_unique_are_another_input(written: Written) -> None:
    names = written("names", {"a": "x", "b": "x"})
    kept, unique = (resolve_classes(of("a", "b"), names, None, unique=u)[0] for u in (False, True))
    plain = resolve_classes(of("a", "b"), None, None, unique=False)[0]
    assert len({json.dumps(c.identity()) for c in (kept, unique, plain)}) == 3
    assert plain.identity() == resolve_classes(of("a", "b"), None, None, unique=True)[0].identity()


def test_a_vocabulary_decides_the_labels(written: Written) -> None:
    vocabulary = written("vocabulary", ["d", "b", "c", "a"])
    classes, places = resolve_classes(of("a", "b"), None, vocabulary, unique=False)
    assert classes.names == ("d", "b", "c", "a")
    assert classes.present == (False, True, False, True)
    assert places == [3, 1]


@pytest.mark.parametrize(
    ("files", "unique", "message"),
    [
        ({"names": "a"}, False, "names.json is not valid JSON"),
        ({"names": '"a"'}, False, "names.json: expected an object of class names"),
        ({"names": ["x", "y"]}, False, "names.json: 2 names for 3 classes"),
        ({"names": ["x", "y", ""]}, False, "names.json: expected a class name, found ''"),
        (
            {"names": ["x", "y", "n01440764"]},
            False,
            "'n01440764' is an identifier, not a class name",
        ),
        ({"names": ["x", "y", "7"]}, False, "names.json: '7' is an identifier, not a class name"),
        ({"names": ["x", "y", "\ud800"]}, False, "is not UTF-8"),
        ({"names": ["B", "y", "z"]}, False, "name 1 is 'B', but the dataset has that class at pl"),
        ({"names": {"a": "x", "b": 3}}, False, "names.json: expected a class name, found 3"),
        ({"names": {"a": "x", "b": " "}}, False, "names.json: expected a class name, found ' '"),
        ({"names": {"a": "x", "bb": "y"}}, False, "no name for the class 'b'; did you mean 'bb'?"),
        ({"names": "{"}, False, "names.json is not valid JSON"),
        ({"names": '{"a": "x", "a": "y", "b": "z"}'}, False, "'a' is listed twice"),
        ({"names": {"a": "x", "b": "x", "c": "a"}}, True, "two classes are still called 'a'"),
        ({"vocabulary": {"a": 1}}, False, "vocabulary.json: expected a list of class names"),
        ({"vocabulary": []}, False, "vocabulary.json: expected a list of class names"),
        ({"vocabulary": ["a", "b", ""]}, False, "vocabulary.json: expected a class name, found ''"),
        ({"vocabulary": ["a", "b", "A"]}, False, "'a' and 'A' differ only in"),
        ({"vocabulary": ["a", "c"]}, False, "vocabulary.json: has no class 'b'; known: a, c"),
        ({"vocabulary": "["}, False, "vocabulary.json is not valid JSON"),
    ],
)
def test_files_that_do_not_fit_are_one_line(
    written: Written, files: dict[str, Any], unique: bool, message: str
) -> None:
    paths = {name: written(name, value) for name, value in files.items()}
    with pytest.raises(AbsError) as raised:
        resolve_classes(of("a", "b", "c"), paths.get("names"), paths.get("vocabulary"), unique)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


# --- More classes than the dataset has (ImageNet-A and R) ---------------------------------------

HAS = ["black-eyed fantail", "black-eyed forktail"]


@pytest.fixture
def competing(made_with: Made, written: Written) -> Made:
    """Makes a run in which five classes compete; labels 3 and 1 have images."""
    known = json.loads((DEMO / "prompts" / "cupl.json").read_text())
    others = [name for name in known if name not in HAS]
    path = written("vocabulary", [others[0], HAS[1], others[1], HAS[0], others[2]])

    def make(*changes: str) -> Run:
        return made_with(f"dataset.vocabulary={path}", "scores.m=5", *changes)

    return make


def expected_logits(run: Run, classes: str) -> np.ndarray:
    """(images, clip / cupl / abs, present classes); the others compete, or are not there."""
    texts = {name: stored_texts(run, name) for name in ("clip", "cupl")}
    if classes == "present":
        texts = {name: [groups[1], groups[3]] for name, groups in texts.items()}
    image = array(run, "embeddings-image").astype(np.float64)[:, 0]
    raw = array(run, "embeddings-raw")[:, :4]
    crops = np.concatenate([feature_vectors(run, 4), raw], axis=1).astype(np.float64)
    first = [group[:5] for group in texts["cupl"]]
    temperature = 0.03 * 100 / 26.661
    rows = [
        [
            ref.mean_scores(image[i], texts["clip"]),
            ref.mean_scores(image[i], texts["cupl"]),
            ref.soft_scores(crops[i], first, temperature),
        ]
        for i in range(len(image))
    ]
    return np.array(rows)[:, :, [1, 3] if classes == "all" else [0, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("classes", ["all", "present"])
def test_all_classes_compete_or_those_that_are_present(competing: Made, classes: str) -> None:
    run = competing(f"scores.classes={classes}")
    stored = run.store.open(run.named("scores")[0]).array("logits")
    assert stored.attrs["labels"] == [1, 3]
    assert stored.attrs["methods"] == ["clip", "cupl", "abs"]
    expected = expected_logits(run, classes)
    assert np.asarray(stored[:]) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_verdicts(run, np.asarray(stored[:]))


def assert_verdicts(run: Run, logits: np.ndarray) -> None:
    """That labels and predictions are indices of the vocabulary."""
    rows = table(run, "scores", "scores")
    for m, method in enumerate(["clip", "cupl", "abs"]):
        of_method = rows[rows["method"] == method].reset_index(drop=True)
        assert of_method["label"].tolist() == [3] * 4 + [1] * 4
        for i, scores in enumerate(logits[:, m].tolist()):
            best = ref.ranked(scores)
            assert of_method["pred"][i] == [1, 3][best[0]]
            assert of_method["top5"][i].tolist() == [[1, 3][c] for c in best]
            assert of_method["rank"][i] == ref.rank_of([1, 3].index(of_method["label"][i]), scores)
            assert of_method["correct"][i] == (of_method["pred"][i] == of_method["label"][i])
            apart = (scores[1] - scores[0]) * (1 if of_method["label"][i] == 3 else -1)
            assert of_method["margin"][i] == pytest.approx(apart, abs=1e-6)


@pytest.mark.slow
def test_who_competes_changes_soft_matching_and_nothing_else(
    competing: Made,
) -> None:
    """The mean texts of a class are its own; in ABS, absent classes take weight away."""
    everyone, present = (
        array(competing(f"scores.classes={classes}"), "scores", "logits")
        for classes in ("all", "present")
    )
    assert everyone[:, :2] == pytest.approx(present[:, :2], abs=1e-6)
    assert (np.abs(everyone[:, 2] - present[:, 2]) > 1e-3).all()


def test_metrics_count_classes_that_are_present(competing: Made) -> None:
    run = competing()
    classes, per_class = table(run, "scores", "classes"), table(run, "metrics", "per_class")
    assert classes["present"].tolist() == [False, True, False, True, False]
    assert classes["label"].tolist() == [0, 1, 2, 3, 4]
    assert sorted(per_class["label"].unique()) == [1, 3]
    assert per_class["images"].tolist() == [4] * 6
    assert set(per_class["name"]) == set(HAS)
    metrics, scores = table(run, "metrics", "metrics"), table(run, "scores", "scores")
    means = [per_class.query(f"method == {m!r}")["top1"].mean() for m in metrics["method"]]
    assert metrics["mean_per_class_recall"].tolist() == pytest.approx(means)
    shares = [scores.query(f"method == {m!r}")["correct"].mean() for m in metrics["method"]]
    assert metrics["top1"].tolist() == pytest.approx(shares)
    groups = scores.groupby("method", sort=False)
    for row, (_, rows) in zip(metrics.itertuples(), groups, strict=True):
        gaps: dict[int, float] = {}
        for sure, right in zip(rows["confidence"], rows["correct"], strict=True):
            gaps[int(15 * sure)] = gaps.get(int(15 * sure), 0) + sure - right
        assert row.ece == pytest.approx(sum(map(abs, gaps.values())) / len(rows))
        assert 0 <= row.top1_bootstrap_ci_low <= row.top1 <= row.top1_bootstrap_ci_high <= 1
    assert metrics["images"].tolist() == [8] * 3
    assert (metrics["top5"] == 1.0).all()
    confusion = table(run, "metrics", "confusion")
    assert set(confusion["label"]) | set(confusion["pred"]) <= {1, 3}
    assert confusion["images"].sum() == 8 * 3


def test_the_table_of_results_counts_classes_that_are_present(
    competing: Made,
) -> None:
    assert table(competing(), "metrics", "metrics")["classes"].tolist() == [2, 2, 2]


def test_every_class_of_the_vocabulary_needs_its_texts(made_with: Made, written: Written) -> None:
    path = written("vocabulary", [*HAS, "dodo"])
    with pytest.raises(AbsError, match="no texts for class 'dodo'"):
        made_with(f"dataset.vocabulary={path}")


# --- Two classes of one name --------------------------------------------------------------------


@pytest.fixture
def twins(made_with: Made, written: Written) -> Made:
    """Makes a run in which both folders are called `fantail`."""
    names = written("twins", dict.fromkeys(HAS, "fantail"))
    texts = {"fantail": ["A fantail.", "It fans its tail."]}

    def make(*changes: str, **further: list[str]) -> Run:
        prompts = written("cupl", texts | further)
        files = [f"dataset.names={names}", f"descriptions.cupl.file={prompts}"]
        return made_with(*files, *changes)

    return make


def sentences(run: Run, name: str) -> list[list[str]]:
    """Texts of a set by class."""
    rows = table(run, f"descriptions-{name}", "texts")
    return [rows.loc[rows["label"] == label, "text"].tolist() for label in (0, 1)]


@pytest.mark.slow
def test_twins_tie_and_the_first_wins(twins: Made) -> None:
    run = twins()
    assert table(run, "scores", "classes")["name"].tolist() == ["fantail", "fantail"]
    assert sentences(run, "clip") == [["a photo of a fantail."]] * 2
    logits = array(run, "scores", "logits")
    assert np.array_equal(logits[..., 0], logits[..., 1])
    rows: pd.DataFrame = table(run, "scores", "scores")
    assert (rows["pred"] == 0).all()
    assert (rows["rank"] == rows["label"] + 1).all()
    assert table(run, "metrics", "metrics")["top1"].tolist() == [0.5] * 3


def test_twins_apart_go_by_their_folders(twins: Made) -> None:
    run = twins("dataset.duplicates=unique")
    assert table(run, "scores", "classes")["name"].tolist() == HAS
    assert sentences(run, "clip") == [[f"a photo of a {name}."] for name in HAS]
    assert sentences(run, "cupl") == [["A fantail.", "It fans its tail."]] * 2
    logits = array(run, "scores", "logits")
    assert (logits[:, 0, 0] != logits[:, 0, 1]).all()
    assert np.array_equal(logits[:, 1, 0], logits[:, 1, 1])


def test_texts_of_a_unique_name_come_before_shared_ones(twins: Made) -> None:
    run = twins("dataset.duplicates=unique", **{HAS[1]: ["A forked tail."]})
    assert sentences(run, "cupl") == [["A fantail.", "It fans its tail."], ["A forked tail."]]


def test_what_classes_are_called_encodes_no_image_again(twins: Made) -> None:
    kept, unique = (
        {stage.name: stage.key for stage in twins(f"dataset.duplicates={how}").stages}
        for how in ("kept", "unique")
    )
    same = {name for name in kept if kept[name] == unique[name]}
    assert {"index", "attention", "crops-raw", "embeddings-raw", "embeddings-feature"} <= same
    assert "scores" not in same


def test_descriptors_and_noise_follow_the_unique_name(twins: Made, written: Written) -> None:
    told = written("told", {"fantail": ["a fan", "red legs"]})
    sets = [f"descriptions.{name}.file={told}" for name in ("clip-d", "waffle")]
    methods = "scores.methods=[clip-d, waffle]"
    run = twins("dataset.duplicates=unique", methods, "descriptions.waffle.pairs=1", *sets)
    assert sentences(run, "clip-d") == [
        [f"{name}, which is a fan", f"{name}, which has red legs"] for name in HAS
    ]
    noise = sentences(run, "waffle")
    assert noise[1] == [text.replace(HAS[0], HAS[1]) for text in noise[0]]
    assert all(text.startswith(f"A photo of a {HAS[1]}, which ") for text in noise[1])
