"""Errors that are shown together, and names that come nearest."""

from __future__ import annotations

import pytest

from pipeline.core.errors import AbsError, ConfigError, MissingInput, nearest, together


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("demmo", ["demo", "dtd"], "demo"),
        ("laptop", ["lapdog", "laptop computer"], "laptop computer"),
        ("great white shark", ["white shark", "great grey owl", "grate"], "white shark"),
        ("tiger cat", ["tiger_cat", "tabby cat"], "tiger_cat"),
        ("xyz", ["demo"], None),
        ("x", [], None),
    ],
)
def test_the_nearest_name_is_a_slip_then_one_with_whole_words_in_common(
    word: str, known: list[str], expected: str | None
) -> None:
    assert nearest(word, known) == expected


def test_several_errors_are_one_with_each_line_once_and_the_first_ten() -> None:
    inner = together([MissingInput("b"), MissingInput("c")])
    joined = together([MissingInput("a"), inner, MissingInput("a"), ConfigError("d")])
    assert isinstance(joined, ConfigError)
    assert str(joined).splitlines() == ["4 problems:", "  a", "  b", "  c", "  d"]
    many = str(together([AbsError(str(number)) for number in range(13)])).splitlines()
    assert (many[0], many[-2], many[-1]) == ("13 problems:", "  9", "  and 3 more")


def test_a_single_error_stays_what_it_is() -> None:
    error = MissingInput("a")
    assert together([error]) is error
