"""Columns hold the same values as lists, in a fraction of the memory."""

from __future__ import annotations

import hashlib
import pickle
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.columns import DigestColumn, TextColumn
from pipeline.datasets.samples import Samples, relabelled

TEXTS = st.lists(st.text(), max_size=30)
PLACES = st.slices(30)


@given(TEXTS, PLACES)
def test_a_column_of_texts_is_a_list(texts: list[str], places: slice) -> None:
    column = TextColumn(texts)
    assert column == texts
    assert list(pickle.loads(pickle.dumps(column))) == texts
    assert column[places] == texts[places]
    assert [column[-1 - i] for i in range(len(texts))] == texts[::-1]


@given(TEXTS, st.text())
def test_texts_are_found_and_sorted_by_code_points(texts: list[str], other: str) -> None:
    order = TextColumn(texts).order()
    right = sorted(texts)
    assert right == (texts if order is None else [texts[i] for i in order])
    column = TextColumn(dict.fromkeys(right))
    for text in [*texts, *column, *reversed(texts)]:
        place = column.find(text)
        assert place is not None
        assert column[place] == text
    assert column.find(other) == (list(column).index(other) if other in texts else None)


@given(st.lists(st.binary(), min_size=1, max_size=9))
def test_a_column_of_digests_is_a_list(contents: list[bytes]) -> None:
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    column = DigestColumn(len(digests))
    for place in reversed(range(len(digests))):
        column[place] = digests[place]
    assert column == digests


def test_columns_differ_from_shorter_and_other_lists() -> None:
    column = TextColumn(["a", "b"])
    assert column != ["a"]
    assert column != ["a", "c"]
    assert column != 2


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 3))), st.sets(st.integers(0, 9)))
def test_samples_are_labelled_and_dropped_by_their_place(
    pairs: list[tuple[str, int]], gone: set[int]
) -> None:
    labels = [30, 10, 20, 0]
    kept = [(path, labels[label]) for n, (path, label) in enumerate(pairs) if n not in gone]
    assert relabelled(pairs, labels, gone) == kept
    assert relabelled(Samples(pairs), labels, gone) == kept
    assert Samples(pairs) == pairs


def test_an_image_takes_the_bytes_of_its_path_and_little_more() -> None:
    count, path = 20_000, "shard-00000.tar/00000000.jpg"
    tracemalloc.start()
    try:
        samples, digests = Samples((path, i % 7) for i in range(count)), DigestColumn(count)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(samples) == len(digests) == count
    assert held / count < len(path) + 8 + 4 + 32 + 16  # a list of them takes 320
