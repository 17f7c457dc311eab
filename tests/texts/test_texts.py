"""Templates, descriptors and Waffle's noise by hand and by property; prompt files, right and wrong.

ABS_TEST_PROMPTS names a folder of prompt files as users have them; without it those tests are
skipped.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import AbsError, MissingInput
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.datasets.classes import Classes
from pipeline.texts.class_texts import ClassTexts
from pipeline.texts.readers import read_templates, read_texts, read_words
from pipeline.texts.rules import (
    descriptor_clause,
    descriptor_texts,
    fill_templates,
    templated_texts,
    waffle_noise,
    waffle_texts,
)
from pipeline.texts.sets import Sentences, TemplatedSentences

PROMPTS = Path(os.environ.get("ABS_TEST_PROMPTS", ""))
real = pytest.mark.skipif(
    not os.environ.get("ABS_TEST_PROMPTS"),
    reason="ABS_TEST_PROMPTS names no folder of prompt files",
)
DATASETS = ("cub", "dtd", "eurosat", "food101", "imagenet", "oxford_pet", "place365")

WORDS = ["elephant", "ox", "penguin", "whale"]

# --- templates and descriptors ---------------------------------------------------------------


def test_templates_take_each_name_where_the_braces_are() -> None:
    assert fill_templates(["crow", "red {kite}", "{}"], ["a {}.", "%s {}, close"]) == [
        ["a crow.", "%s crow, close"],
        ["a red {kite}.", "%s red {kite}, close"],
        ["a {}.", "%s {}, close"],
    ]


@pytest.mark.parametrize(
    "template", ["a bird.", "", "a {name}.", "{ }", "{} and {}", "{}, a {kind}"]
)
def test_a_template_that_does_not_name_the_class_once_is_named(template: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(template))):
        fill_templates(["crow"], ["a {}.", template])


@pytest.mark.parametrize(
    ("descriptor", "clause"),
    [
        ("a white head", "which is a white head"),
        ("an orange bill", "which is an orange bill"),
        ("arched windows", "which is arched windows"),
        ("all black", "which is all black"),
        ("a", "which is a"),
        ("has webbed feet", "which has webbed feet"),
        ("hasty flight", "which hasty flight"),
        ("often red", "which often red"),
        ("typically in groups", "which typically in groups"),
        ("may be striped", "which may be striped"),
        ("mayonnaise", "which mayonnaise"),
        ("can swim", "which can swim"),
        ("candles", "which candles"),
        ("used to cut", "which is used to cut"),
        ("usually small", "which has usually small"),
        ("black and white", "which has black and white"),
        ("have wings", "which has have wings"),
        ("A white head", "which has A white head"),
        ("Used to cut", "which has Used to cut"),
        (" a white head", "which has  a white head"),
        ("", "which has "),
    ],
)
def test_a_descriptor_becomes_a_clause_by_its_first_letters(descriptor: str, clause: str) -> None:
    assert descriptor_clause(descriptor) == clause


def test_each_class_is_told_by_its_own_descriptors() -> None:
    assert descriptor_texts(["crow", "red_kite"], [["a bird", "black feet"], ["used to {}"]]) == [
        ["crow, which is a bird", "crow, which has black feet"],
        ["red_kite, which is used to {}"],
    ]
    with pytest.raises(ValueError, match="argument"):
        descriptor_texts(["crow", "kite"], [["a bird"]])


# --- Waffle ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        # words, cut to, groups, characters in each group
        (["crow"], (1, 4, 1, 5)),
        (["red kite"], (2, 4, 2, 3)),  # 3 and 4 letters: 3.5 to 4; 4 characters raised to 6
        (["red_kite"], (2, 4, 2, 3)),
        (["ab cde"], (2, 2, 2, 2)),  # 2 and 3: 2.5 to 2; 3 characters raised to 4
        (["crow", "red kite"], (2, 4, 1, 5)),  # 1.5 words to 2, half a space to 0, 3.75 to 4
        (["red kite", "big red kite"], (2, 3, 3, 2)),  # 2.5 to 2, 1.5 spaces to 2; 3.42 to 3
        (["Black-footed Albatross", "Crow"], (2, 7, 1, 9)),  # 10.5 and 4: 7.25; 12 and 4: 8
        (["a", "b", "cd"], (1, 1, 1, 3)),  # 4/3 to 1; 4/3 up to 2, raised to 3
    ],
)
def test_noise_has_the_shape_of_the_class_names(
    names: list[str], counts: tuple[int, int, int, int]
) -> None:
    words, length, groups, each = counts
    listed = ["x" * 20, "y" * 20]
    noise = waffle_noise(names, listed, ["ab, cb.", "c"], pairs=40)
    assert len(noise) == 80
    for text in noise[::2]:
        assert re.fullmatch(" ".join([f"(x{{{length}}}|y{{{length}}})"] * words), text)
    for text in noise[1::2]:
        assert re.fullmatch(", ".join([f"[abc]{{{each}}}"] * groups), text)
    assert set("".join(noise[1::2])) - set(", ") == set("abc")
    assert set("".join(noise[::2])) - set(" ") == set("xy")


def test_short_words_stay_whole_and_repeated_ones_come_more_often() -> None:
    noise = waffle_noise(["crow"], ["elephant", "ox", "ox", "ox"], ["a"], pairs=4000)[::2]
    count = Counter(noise)
    assert set(count) == {"elep", "ox"}
    assert 2900 < count["ox"] < 3100


def test_characters_are_equally_likely_however_often_the_descriptors_use_them() -> None:
    noise = waffle_noise(["crow"], WORDS, ["aaaa, aaab.", "aa c-", "Dä"], pairs=4000)[1::2]
    count = Counter("".join(noise))
    assert set(count) == set("abc-Dä")
    assert all(abs(n - 20_000 / 6) < 250 for n in count.values())


def test_noise_is_a_clause_after_a_class_name() -> None:
    texts = waffle_texts(["red_kite"], ["ant", "used", "oft", "hast"], ["q"], pairs=30)[0]
    assert set(texts[1::2]) == {"A photo of a red kite, which has qqq, qqq."}
    for text in texts[::2]:
        found = re.fullmatch(r"A photo of a red kite, which (is |has |)(\w+) \w+\.", text)
        assert found
        assert found[1] == {"ant": "is ", "used": "is ", "oft": "has ", "hast": ""}[found[2]]


CLASS = st.text("abcäö-{}' _", min_size=1, max_size=20).filter(lambda name: name.strip(" _") != "")
CLASSES = st.lists(CLASS, min_size=1, max_size=6, unique=True)
SEEDS = st.integers(0, 2**64)


@given(CLASSES, st.integers(1, 5), SEEDS)
def test_all_classes_share_one_draw(names: list[str], pairs: int, seed: int) -> None:
    texts = waffle_texts(names, WORDS, ["stripes"], pairs, seed)
    assert [len(each) for each in texts] == [2 * pairs] * len(names)
    clauses = [
        [text.removeprefix(f"A photo of a {name.replace('_', ' ')}, ") for text in each]
        for name, each in zip(names, texts, strict=True)
    ]
    assert all(each == clauses[0] for each in clauses)
    noise = waffle_noise(names, WORDS, ["stripes"], pairs, seed)
    assert clauses[0] == [f"{descriptor_clause(text)}." for text in noise]


@given(CLASSES, SEEDS)
def test_a_seed_says_what_is_drawn(names: list[str], seed: int) -> None:
    first = waffle_noise(names, WORDS, ["abcdefghijkl"], 15, seed)
    assert waffle_noise(names, WORDS, iter(["lkjihg", "fedcba"]), 15, seed) == first
    assert waffle_noise(names, WORDS, ["abcdefghijkl"], 4, seed) == first[:8]
    assert waffle_noise(names, WORDS, ["abcdefghijkl"], 15, seed + 1) != first


@given(CLASSES.filter(lambda names: not is_on_the_edge(names)))
def test_counts_and_lengths_follow_from_the_names(names: list[str]) -> None:
    words, length, groups, each = expected_shape(names)
    first, second = waffle_noise(names, ["w" * 50], ["q"], pairs=1)
    assert first == " ".join(["w" * length] * words)
    assert second == ", ".join(["q" * each] * groups)


def expected_shape(names: list[str]) -> tuple[int, int, int, int]:
    """Words, their length, groups and characters in each, by exact fractions."""
    split = [name.replace("_", " ").split(" ") for name in names]
    number = len(split)
    words = round(Fraction(sum(map(len, split)), number))
    groups = round(Fraction(sum(len(each) - 1 for each in split), number)) + 1
    longest = [max(map(len, each)) for each in split]
    characters = -(-sum(longest) // number) + 1
    while characters % groups:
        characters += 1
    return max(words, 1), round(mean_word_length(names)), groups, characters // groups


def mean_word_length(names: list[str]) -> Fraction:
    split = [name.replace("_", " ").split(" ") for name in names]
    means = [Fraction(sum(map(len, each)), len(each)) for each in split]
    return sum(means, Fraction(0)) / len(split)


def is_on_the_edge(names: list[str]) -> bool:
    """Whether the mean word length is half way between two integers, where the last bit of floating
    point decides.
    """
    return mean_word_length(names).denominator == 2


def test_global_random_state_plays_no_part() -> None:
    np.random.seed(1)
    first, after = waffle_noise(["crow"], WORDS, ["abc"]), np.random.random()
    np.random.seed(2)
    assert waffle_noise(["crow"], WORDS, ["abc"]) == first
    np.random.seed(1)
    assert np.random.random() == after


@pytest.mark.parametrize(
    ("arguments", "lacking"),
    [
        (([], WORDS, ["abc"]), "class names"),
        ((["crow"], [], ["abc"]), "needs words"),
        ((["crow"], WORDS, []), "needs letters"),
        ((["crow"], WORDS, [" ,.", ""]), "needs letters"),
        ((["crow"], WORDS, ["abc"], 0), "needs at least one pair"),
    ],
)
def test_noise_needs_something_to_draw_from(arguments: tuple[list[str], ...], lacking: str) -> None:
    for draw in (waffle_noise, waffle_texts):
        with pytest.raises(ValueError, match=lacking):
            draw(*arguments)  # type: ignore[arg-type]


# --- files -----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some file"


def refused(read: Callable[..., object], path: Path, *arguments: str) -> str:
    """The one line with which a reader refuses a file."""
    with pytest.raises(AbsError) as caught:
        read(path, *arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


def test_readers_return_what_is_there(file: Path) -> None:
    file.write_text('["a {}.", "{} x"]')
    assert read_templates(file) == ["a {}.", "{} x"]
    file.write_bytes('\ufeff["a {}.", "a {c}."]'.encode())
    assert read_templates(file) == ["a {}.", "a {}."]
    file.write_text("a photo of a {c}.\n\n{c}, close.\r\n  {} x\n")
    assert read_templates(file) == ["a photo of a {}.", "{}, close.", "{} x"]
    file.write_text('{"crow": ["Black.", "noir é"], "kite": [" red"]}', encoding="utf-8")
    assert read_texts(file, "prompts") == {"crow": ["Black.", "noir é"], "kite": [" red"]}
    file.write_bytes("\ufeffox\r\n\r\n  Zoë \n\n06-12\ncan't\nox".encode())
    assert read_words(file) == ["ox", "Zoë", "06-12", "can't", "ox"]


def test_empty_texts_are_kept_on_demand_but_not_empty_lists(file: Path) -> None:
    file.write_text('{"crow": ["Black.", ""], "kite": [" "]}')
    assert read_texts(file, "prompts", empty=True) == {"crow": ["Black.", ""], "kite": [" "]}
    for content in (
        '{"crow": []}',
        '{"crow": [null]}',
        '{"": ["Black."]}',
        '{"crow": ["\\ud800"]}',
    ):
        file.write_text(content)
        refused(lambda path: read_texts(path, "prompts", empty=True), file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a photo of a bird.", "template 1 of 1"),
        ('["a {}.",', "not valid JSON"),
        ('{"a {}.": 1}', "expected a list of templates"),
        ('"a {}."', "expected a list of templates"),
        ("[]", "expected a list of templates"),
        ("", "is empty; fill it, or remove it from the settings"),
        ("\ufeff\n\n", "is empty"),
        ('["a {}.", 3]', "template 2 of 2"),
        ('["a {}.", ""]', "template 2 of 2"),
        ('["a bird.", "a {}."]', "template 1 of 2"),
        ('["{} {}"]', "template 1 of 1"),
        ('["a {} \\ud800"]', "template 1 of 1"),
        ('[["a {}."]]', "template 1 of 1"),
        ("a {}.\na {} is {c}.", "template 2 of 2"),
        ("a {c}, a kind of {d}.", "template 1 of 1 must be a text with {} once, where the class"),
        ("'a photo of a {}.',", "looks like code"),
        ("a {}.\nlambda c: f'a {c}.'", "looks like code"),
        ("# templates with {}\na {}.", "looks like code"),
    ],
)
def test_wrong_template_files_are_refused(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    assert message in refused(read_templates, file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("crow: black", "not valid JSON"),
        (" \n", "is empty"),
        ('["Black."]', "expected an object"),
        ("null", "expected an object"),
        ("{}", "expected an object"),
        ('{"crow": ["Black."], "kite": []}', "'kite' needs a list"),
        ('{"crow": "Black."}', "'crow' needs a list"),
        ('{"crow": ["Black.", null]}', "text 2 of 'crow' is null; remove or replace it"),
        ('{"crow": ["Black.", " \\n"]}', "'crow' has an empty text (1 in all)"),
        ('{"a": ["Black."], "b": ["", "x", ""], "c": [""]}', "'b' has an empty text (3 in all)"),
        ('{"crow": ["\\ud800"]}', "text 1 of 'crow' is"),
        ('{"crow": ["Black.", "a {}."]}', "text 2 of 'crow' is a template, 'a {}.'"),
        ('{"crow": ["a photo of a {c}."]}', "text 1 of 'crow' is a template"),
        ('{"c\\nrow": []}', r"'c\nrow' needs a list"),
        ('{" ": ["Black."]}', "' ' is not a class name"),
        ('{"crow": ["Black."], "crow": ["Grey."]}', "'crow' is listed twice"),
    ],
)
def test_wrong_text_files_are_refused(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    line = refused(read_texts, file, "descriptors of birds")
    assert message in line
    assert line.startswith("descriptors of birds")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no words"),
        (b"\n \r\n", "no words"),
        (b"ox\n\nice cream\n", "line 3 is not a word"),
        (b'["ox", "ant"]', "line 1 is not a word"),
        (b"ox\nPK\x00\n", "line 2 is not a word"),
        ("Zoë".encode("latin-1"), "not UTF-8"),
        ("ox\nant".encode("utf-16"), "not UTF-8"),
    ],
)
def test_wrong_word_lists_are_refused(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    assert message in refused(read_words, file)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return Path.write_text, (self.path, "sprung")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["word_list.pkl", "words.txt"])
def test_a_pickle_is_refused_and_not_opened(tmp_path: Path, protocol: int, name: str) -> None:
    path, sprung = tmp_path / name, tmp_path / "sprung"
    path.write_bytes(pickle.dumps(["ox", Trap(sprung)], protocol))
    assert "is a pickle" in refused(read_words, path)
    assert not sprung.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_list_of_strings_is_read(tmp_path: Path, protocol: int) -> None:
    """Waffle's authors publish one of numpy's strings, an empty one among them."""
    path = tmp_path / "word_list.pkl"
    for words in (["ox", "", "ant"], list(np.array(["ox", "", "ant\u00e4"]))):
        if protocol < 3 and isinstance(words[0], np.str_):
            continue  # such an old pickle asks for an encoder
        path.write_bytes(pickle.dumps(words, protocol))
        assert read_words(path) == [str(word) for word in words if word]


def test_what_is_named_a_pickle_is_taken_for_one(tmp_path: Path) -> None:
    for name in ("words.pkl", "WORDS.PICKLE"):
        (tmp_path / name).write_bytes(pickle.dumps(("ox", "ant"), 0))
        assert "is a pickle" in refused(read_words, tmp_path / name)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for read in (read_templates, read_words, lambda path: read_texts(path, "prompts")):
        with pytest.raises(MissingInput, match=r"not found: .*nothing\.pkl"):
            read(tmp_path / "nothing.pkl")


@pytest.mark.parametrize("read", [read_templates, lambda path: read_texts(path, "prompts")])
def test_json_that_is_not_utf_8_is_refused(file: Path, read: Callable[..., object]) -> None:
    file.write_bytes('["é {}"]'.encode("latin-1"))
    assert "is not UTF-8 ('utf-8' codec" in refused(read, file)


# --- real files ------------------------------------------------------------------------------


@real
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_real_descriptor_follows_the_rule(dataset: str) -> None:
    path = PROMPTS / dataset / "clip-d.json"
    told = read_texts(path, "descriptors")
    texts = descriptor_texts(list(told), list(told.values()))
    assert [len(each) for each in texts] == [len(each) for each in told.values()]
    expected: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for name, each, clauses in zip(told, told.values(), texts, strict=True):
        for descriptor, text in zip(each, clauses, strict=True):
            before, after = text[: -len(descriptor)], text[-len(descriptor) :]
            assert after == descriptor
            found[before.removeprefix(name)] += 1
            plain = re.match(r"(?P<is>a|used)|(?P<bare>has|often|typically|may|can)", descriptor)
            expected[{None: ", which has ", "is": ", which is ", "bare": ", which "}[
                plain.lastgroup if plain else None
            ]] += 1  # fmt: skip
    assert found == expected
    assert set(found) == {", which has ", ", which is ", ", which "} or dataset in (
        "cub",
        "eurosat",
    )


@real
@pytest.mark.parametrize(
    ("dataset", "count"),
    list(zip(DATASETS, (1, 8, 3, 1, 80, 1, 2), strict=True)),
)
def test_real_templates_load(dataset: str, count: int) -> None:
    templates = read_templates(PROMPTS / dataset / "clip-e.json")
    assert len(templates) == count
    assert fill_templates(["{crow}"], templates)[0] == [
        re.sub(r"\{\}", "{crow}", t) for t in templates
    ]


@real
def test_real_descriptions_are_50_to_56_a_class() -> None:
    told = read_texts(PROMPTS / "cub" / "cupl.json", "descriptions", empty=True)
    assert len(told) == 200
    assert {50, 56} <= {len(each) for each in told.values()} <= set(range(50, 57))


@real
@pytest.mark.parametrize(("dataset", "count"), [("cub", 59), ("dtd", 9), ("food101", 0)])
def test_some_real_descriptions_are_empty_and_kept_only_on_demand(dataset: str, count: int) -> None:
    path = PROMPTS / dataset / "cupl.json"
    told = read_texts(path, "descriptions", empty=True)
    assert told == json.loads(path.read_text())
    assert sum(text == "" for each in told.values() for text in each) == count
    if count:
        assert f"({count} in all)" in refused(read_texts, path, "descriptions")
    else:
        assert read_texts(path, "descriptions") == told


@real
@pytest.mark.parametrize("dataset", DATASETS)
def test_waffle_on_real_classes(dataset: str) -> None:
    told = json.loads((PROMPTS / dataset / "clip-d.json").read_text())
    names, words = list(told), read_words(PROMPTS / "waffle_words.txt")
    descriptors = [descriptor for each in told.values() for descriptor in each]
    count, length, groups, each = expected_shape(names)
    texts = waffle_texts(names, words, descriptors)
    assert [len(own) for own in texts] == [30] * len(names)
    cut, used = {word[:length] for word in words}, set("".join(descriptors))
    for name, own in zip(names, texts, strict=True):
        noise = [re.fullmatch(r"(.*), which (?:has |is |)(.*)\.", text) for text in own]
        assert all(found and found[1] == f"A photo of a {name}" for found in noise)
    drawn = waffle_noise(names, words, descriptors)
    assert all(len(text.split()) == count and set(text.split()) <= cut for text in drawn[::2])
    for text in drawn[1::2]:
        assert [len(group) for group in text.split(", ")] == [each] * groups
        assert set(text) - set(", ") <= used


@real
def test_waffle_on_cub_by_count() -> None:
    """200 names of 390 words, which are 7.57 letters long on average; the longest, 9.075."""
    names = json.loads((PROMPTS / "cub" / "classes.json").read_text())
    words = [name.split() for name in names]
    assert (len(names), sum(map(len, words))) == (200, 390)
    assert sum(max(map(len, each)) for each in words) == 1815
    noise = waffle_noise(names, ["w" * 50], ["q"])
    assert noise == ["wwwwwwww wwwwwwww", "qqqqqq, qqqqqq"] * 15


@real
def test_the_real_word_list_has_one_word_a_line() -> None:
    lines = (PROMPTS / "waffle_words.txt").read_text(encoding="utf-8").split("\n")
    assert read_words(PROMPTS / "waffle_words.txt") == [line for line in lines if line]


# --- Class names in prompt files ----------------------------------------------------------------


def joined(file: Path, content: str, *aliases: str) -> ClassTexts:
    """Sentences of a prompt file for classes that are known by one name each."""
    file.write_text(content)
    classes = Classes(aliases, tuple((name,) for name in aliases), (True,) * len(aliases))
    config = Sentences(rule="sentences", file=str(file))
    return ClassTexts("cupl", config, classes, Paths(), HashCache(file.with_name("hashes")))


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        ("Apple Pie", "apple pie"),
        ("apple_pie", "apple pie"),
        ("apple-pie", "apple pie"),
        ("apple pie", "apple_pie"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_prompt_files_are_joined_but_for_case_and_separators(
    file: Path, listed: str, name: str
) -> None:
    texts = joined(file, json.dumps({listed: ["Sweet."], "tea": ["Hot."]}), name)
    assert texts.texts == [["Sweet."]]
    assert texts.unused_classes == ["tea"]


def test_a_file_of_other_names_is_shown(file: Path) -> None:
    texts = json.dumps({str(number): ["Large."] for number in range(9)})
    message = "no texts for 2 of 2 classes: 'cat', 'dog'; the file lists '0', '1', '2'"
    with pytest.raises(AbsError, match=message):
        _ = joined(file, texts, "cat", "dog").texts


def test_an_exact_name_comes_before_a_similar_one_and_ambiguity_is_refused(file: Path) -> None:
    both = json.dumps({"Cat": ["Large."], "cat": ["Small."]})
    assert joined(file, both, "cat").texts == [["Small."]]
    with pytest.raises(AbsError, match="'Cat' and 'cat' both fit class 'CAT'; remove one"):
        _ = joined(file, both, "CAT").texts
    with pytest.raises(AbsError, match=r"no texts for class 'cats'; did you mean 'cat'\?"):
        _ = joined(file, '{"cat": ["Small."]}', "cats").texts


@pytest.mark.parametrize("listed", ["t-shirt", "T_Shirt"])
def test_one_name_of_a_file_fits_one_class(file: Path, listed: str) -> None:
    both = json.dumps({listed: ["Cotton."], "tea": ["Hot."]})
    with pytest.raises(AbsError, match="is the name of class 't-shirt', and no other fits"):
        _ = joined(file, both, "t-shirt", "t shirt").texts
    assert joined(file, both, "t-shirt", "t-shirt").texts == [["Cotton."]] * 2


def test_one_identifier_of_a_file_fits_one_class(file: Path) -> None:
    file.write_text(json.dumps({"a-b": ["First."]}))
    classes = Classes(("X", "Y"), (("X",), ("Y",)), (True, True), ("a-b", "a b"))
    config = Sentences(rule="sentences", file=str(file))
    texts = ClassTexts("cupl", config, classes, Paths(), HashCache(file.with_name("hashes")))
    with pytest.raises(AbsError, match="no texts for class 'Y'"):
        _ = texts.texts


def test_a_file_of_several_datasets_is_named_as_such(file: Path) -> None:
    with pytest.raises(AbsError, match=r"'birds' has an object, .*several datasets"):
        _ = joined(file, '{"birds": {"crow": ["Black."]}}', "crow").texts


# --- A template before sentences --------------------------------------------------------------


def test_a_template_stands_alone_and_before_each_sentence() -> None:
    found = templated_texts(["crow", "jay"], "a photo of a {}", [["Black.", "It caws."], []])
    assert found == [
        ["a photo of a crow.", "a photo of a crow. Black.", "a photo of a crow. It caws."],
        ["a photo of a jay."],
    ]
    with pytest.raises(ValueError, match="once"):
        TemplatedSentences(rule="templated", template="a photo")
