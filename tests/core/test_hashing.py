"""Digests of plain values: of all of a value, of nothing else, and of nothing inexact."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import hashing
from pipeline.core.hashing import (
    canonical,
    canonical_json,
    digest,
    digest_of,
    pieces_of_list,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@given(JSON, JSON)
def test_a_digest_is_of_the_value_and_of_nothing_less(a: Any, b: Any) -> None:
    assert repr(json.loads(canonical_json(a))) == repr(sort_names(a))
    if repr(sort_names(a)) != repr(sort_names(b)):
        assert digest(a) != digest(b)


@given(st.lists(JSON), st.integers(1, 5))
def test_a_list_in_pieces_has_the_digest_of_the_list(value: list[Any], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "PIECE", size)
        assert digest_of(pieces_of_list(iter(value))) == digest(value)


def sort_names(value: Any) -> Any:
    """`value` with the names of every mapping in order."""
    if isinstance(value, dict):
        return {name: sort_names(value[name]) for name in sorted(value)}
    return [sort_names(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
@given(st.dictionaries(st.text(), JSON, min_size=2))
def test_the_order_of_names_does_not_matter(value: dict[str, Any]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, {1: 2}, {1, 2}, object(), Path("x"), b"x", print]
)
def test_what_has_no_exact_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical({"a": [value]})
