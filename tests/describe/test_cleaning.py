"""Texts are parts of answers without what chat models put around them; the rest has a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.describe.answers import Answer
from pipeline.describe.cleaning import ABBREVIATIONS, Cleaned, cleaned, names, sentences, unmarked
from pipeline.describe.recipes import Recipe

NAME = "snow goose"


def taken(answer: str, take: str = "first", finish: str = "stop", **more: Any) -> Cleaned:
    rule = "descriptors" if take == "list" else "sentences"
    recipe = Recipe(rule=rule, take=take, prompts=("{class}",), **more)
    return cleaned([(NAME, told(answer, finish))], recipe)


def told(text: str, finish: str = "stop", key: str = "k") -> Answer:
    return Answer(key, {}, "r", "m", text, finish, 0, 0)


def texts(found: Cleaned) -> list[str]:
    return [each.text for each in found.texts]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("A snow goose is white.", "A snow goose is white."),
        ("A snow goose is white", "A snow goose is white."),
        ("A snow goose has a bill of 3.5 cm. It is white.", "A snow goose has a bill of 3.5 cm."),
        (
            "A snow goose, e.g. a young one, is grey. No.",
            "A snow goose, e.g. a young one, is grey.",
        ),
        ("A snow goose (cf. Ross's) is white! Yes.", "A snow goose (cf. Ross's) is white!"),
        ("A snow goose on St. Paul is white. It is.", "A snow goose on St. Paul is white."),
        ("Sure! A snow goose is white.", "A snow goose is white."),
        ("Sure, here is a sentence:\n\nA snow goose is white.", "A snow goose is white."),
        ("Certainly! Here's one:\n1. A snow goose is white.", "A snow goose is white."),
        ("Here is a snow goose on a lake.", "Here is a snow goose on a lake."),
        ("**Caption:** A snow goose.", "A snow goose."),
        ("Caption: A snow goose rests.", "A snow goose rests."),
        ("- A **snow goose** is *white*.", "A snow goose is white."),
        ("# Snow goose\n", "Snow goose."),
        ('"A snow goose is white."', "A snow goose is white."),
        ("\u201cA snow goose.\u201d", "A snow goose."),
        ("<think>It is 1. white.\nHm.</think>\nA snow goose is white.", "A snow goose is white."),
        ("It is white.</think>A snow goose is white.", "A snow goose is white."),
        ("```\nA snow goose is white.\n```", "A snow goose is white."),
        ("  A snow\tgoose  is\u00a0white. ", "A snow goose is white."),
    ],
)
def test_the_first_sentence_is_taken(answer: str, text: str) -> None:
    assert texts(taken(answer)) == [text]


def test_all_sentences_of_all_lines_are_taken() -> None:
    found = taken("1. It is 0.7 m long. It flies.\n\n2) It swims! It is seen", "sentences")
    assert texts(found) == ["It is 0.7 m long.", "It flies.", "It swims!", "It is seen."]


def test_a_list_is_taken_without_its_markers_and_announcement() -> None:
    found = taken("Sure, here are some:\n- White plumage\n* 3.5 cm bill;\n3. UV marks.", "list")
    assert texts(found) == ["white plumage", "3.5 cm bill", "UV marks"]
    assert texts(taken("white plumage\nblack tips", "list")) == ["white plumage", "black tips"]


@pytest.mark.parametrize(
    ("answer", "take", "finish", "kept", "reason"),
    [
        ("", "first", "stop", [], "an empty answer"),
        ("<think>Well, a snow goose", "first", "length", [], "reasoning without an answer"),
        ("Sure!", "first", "stop", [], "an opening without an answer"),
        ("I'm sorry, I cannot.", "first", "stop", [], "the model declined"),
        ("As an AI, I see nothing.", "sentences", "stop", [], "the model declined"),
        ("A snow goose is wh", "first", "length", [], "cut off"),
        ("It is white. It has bl", "sentences", "length", ["It is white."], "cut off"),
        ("It is white. It flies.", "sentences", "length", ["It is white.", "It flies."], ""),
        ("- white\n- bla", "list", "length", ["white"], "cut off"),
        ("Is it a snow goose?", "first", "stop", [], "a question"),
        ("It is {colour}.", "first", "stop", [], "a slot that was not filled in"),
        ("3.5.", "first", "stop", [], "no word in it"),
        ("It flies. IT FLIES!", "sentences", "stop", ["It flies."], "already"),
    ],
)
def test_what_is_left_out_has_a_reason(
    answer: str, take: str, finish: str, kept: list[str], reason: str
) -> None:
    found = taken(answer, take, finish)
    assert texts(found) == kept
    assert [reason in each.reason for each in found.dropped] == ([True] if reason else [])
    assert all(each.label == NAME and each.key == "k" for each in found.dropped)


def test_limits_of_a_recipe_hold_by_class() -> None:
    recipe = Recipe(
        rule="sentences", take="first", prompts=("{class}",), named=True, least=14, most=1
    )
    answers = [
        ("auk", told("An auk dives.")),
        ("auk", told("It dives into water.")),
        ("auk", told("An auk dives deep.")),
        ("auk", told("An auk swims well.")),
        ("owl", told("An auk dives deep.")),
        ("owl", told("Owls hunt at night.")),
    ]
    found = cleaned(answers, recipe)
    assert [(each.label, each.text) for each in found.texts] == [
        ("auk", "An auk dives deep."),
        ("owl", "Owls hunt at night."),
    ]
    assert [each.reason for each in found.dropped] == [
        "fewer than 14 characters",
        "does not name the class",
        "the class has 1 texts already",
        "does not name the class",
    ]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("Two Snow Geese and a snow-goose.", "snow goose", True),
        ("Snow gooses fly.", "Snow_goose", True),
        ("The snow goose's bill.", "snow goose", True),
        ("A mongoose in snow.", "snow goose", False),
        ("Puppies play.", "puppy", True),
        ("Foxes run.", "fox", True),
        ("A boxer.", "box", False),
        ("A Cafe\u0301.", "caf\u00e9", True),
        ("A 707-320 lands.", "707-320", True),
    ],
)
def test_a_name_is_found_whatever_its_case_hyphens_and_plural(
    text: str, name: str, expected: bool
) -> None:
    assert names(text, name) == expected


word = st.text("abcdefgh", min_size=2, max_size=6).filter(lambda drawn: drawn not in ABBREVIATIONS)
words = st.lists(word, min_size=1, max_size=6)
numbers = st.floats(0.01, 99, allow_nan=False).map(lambda number: f"{number:.2f}")


@given(st.lists(st.tuples(words, numbers, words, st.sampled_from(".!?")), min_size=1, max_size=5))
def test_sentences_with_decimals_are_split_where_they_were_joined(drawn: list[Any]) -> None:
    whole = [
        " ".join(["The", *before, number, *after]) + end for before, number, after, end in drawn
    ]
    assert sentences(" ".join(whole)) == whole


@given(words)
def test_a_line_without_anything_around_it_is_unchanged(drawn: list[str]) -> None:
    line = "The " + " ".join(drawn)
    for marked in (line, f"- {line}", f"12. {line}", f"**{line}**", f"Sure! {line}", f'"{line}"'):
        assert unmarked(marked) == line
