"""Streams of uniforms and what is drawn with them: patches, integers, numbers."""

from __future__ import annotations

import hashlib
import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.kernels import sampling
from tests.helpers.cropped import attention_map
from tests.helpers.goodness import (
    DRAWS,
    assert_even,
    assert_fits,
    assert_uniform,
    layered_rows,
    uniform_rows,
)
from tests.reference import formulas as ref


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- Patches ---------------------------------------------------------------------------------


def test_top_patches_and_their_probabilities() -> None:
    """Ties to the lower index."""
    patches, probabilities = sampling.top_patches(float64(0.02, 0.08, 0.05, 0.08, 0.01), 3, 0.03)
    assert patches.tolist() == [1, 3, 2]
    powers = [math.exp(0.08 / 0.03), math.exp(0.08 / 0.03), math.exp(0.05 / 0.03)]
    assert probabilities.tolist() == pytest.approx([p / sum(powers) for p in powers], rel=1e-12)


def test_ties_are_not_left_to_the_sorting() -> None:
    """Enough equal values that an unstable sort would mix them."""
    patches, probabilities = sampling.top_patches(torch.full((196,), 0.25), 196, 0.03)
    assert patches.tolist() == list(range(196))
    assert probabilities.tolist() == pytest.approx([1 / 196] * 196, rel=1e-12)


def test_fewer_patches_than_k_are_all_taken() -> None:
    patches, probabilities = sampling.top_patches(float64(0.1, 0.3), 20, 0.03)
    assert patches.tolist() == [1, 0]
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-12)


def test_a_low_temperature_overflows_nothing() -> None:
    _, probabilities = sampling.top_patches(float64(0.9, 0.1, 0.0), 3, 1e-6)
    assert probabilities.tolist() == [1.0, 0.0, 0.0]


@given(seed=st.integers(0, 1000), k=st.integers(1, 30), tau=st.sampled_from([0.003, 0.03, 1.0]))
@settings(max_examples=40, deadline=None)
def test_probabilities_and_choices_against_plain_sums(seed: int, k: int, tau: float) -> None:
    attention = attention_map(seed)
    expected = ref.patch_probabilities(attention.tolist(), k, tau)
    patches, probabilities = sampling.top_patches(attention, k, tau)
    assert patches.dtype == torch.int64
    assert probabilities.dtype == torch.float64
    assert patches.tolist() == list(expected)
    assert probabilities.tolist() == pytest.approx(list(expected.values()), rel=1e-12)
    u = torch.from_numpy(np.random.default_rng(seed).random(50))
    chosen = patches[sampling.choose(probabilities, u)].tolist()
    assert chosen == [ref.drawn(expected, value) for value in u.tolist()]


def test_indices_are_chosen_with_their_probabilities() -> None:
    patches, probabilities = sampling.top_patches(attention_map(), 20, 0.03)
    powers = (attention_map()[patches].double() / 0.03).exp()
    drawn = sampling.choose(probabilities, uniform_rows("choices")[:, 0])
    assert_fits(drawn, (powers / powers.sum()).tolist())


def test_an_index_without_probability_is_never_chosen() -> None:
    chosen = sampling.choose(float64(0.5, 0.0, 0.5), float64(0.0, 0.25, 0.5, 0.75))
    assert chosen.tolist() == [0, 0, 2, 2]
    assert sampling.choose(float64(0.0, 1.0), float64(0.0)).tolist() == [1]
    greatest = math.nextafter(1.0, 0.0)
    tenths = float64(*[0.1] * 10, 0.0)
    assert sampling.choose(tenths, float64(greatest)).tolist() == [9]


@pytest.mark.parametrize(
    ("k", "temperature", "message"), [(0, 1.0, "k 0 and"), (3, 0, "temperature 0")]
)
def test_what_has_no_meaning_is_refused(k: int, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        sampling.top_patches(torch.rand(9), k, temperature)


# --- Numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high", "column"), [(7, 12, 4), (250, 450, 1), (0, 1, 2)])
def test_integers_are_drawn_evenly_ends_included(low: int, high: int, column: int) -> None:
    drawn = sampling.integers(low, high, uniform_rows("integers")[:, column])
    assert (int(drawn.min()), int(drawn.max())) == (low, high)
    assert_even(drawn - low, high - low + 1)


def test_numbers_are_drawn_evenly() -> None:
    drawn = sampling.between(0.5, 0.9, uniform_rows("numbers")[:, 3])
    assert float(drawn.min()) >= 0.5
    assert float(drawn.max()) < 0.9
    assert_uniform(drawn, 0.5, 0.9)
    assert sampling.between(0.5, 0.9, float64(0.0, 0.25, 0.75)).tolist() == pytest.approx(
        [0.5, 0.6, 0.8], abs=1e-15
    )


def test_the_ends_of_a_stream_stay_inside() -> None:
    """The greatest uniform below 1, where a cumulated distribution may have rounded to less."""
    ends = float64(0.0, float(np.nextafter(1.0, 0.0)))
    assert sampling.choose(float64(*[0.1] * 10), ends).tolist() == [0, 9]
    assert sampling.choose(float64(*[0.0999] * 10), ends).tolist() == [0, 9]
    assert sampling.integers(0, 5999, ends).tolist() == [0, 5999]
    assert sampling.integers(3, 9, ends).tolist() == [3, 9]


# --- Streams ---------------------------------------------------------------------------------


def test_twenty_rows_begin_sixty() -> None:
    sixty = sampling.uniforms(3, "crops", "a" * 64, 0, 60)
    assert sixty.shape == (60, 8)
    assert sixty.dtype == torch.float64
    assert (sixty >= 0).all()
    assert (sixty < 1).all()
    assert torch.equal(sampling.uniforms(3, "crops", "a" * 64, 0, 20), sixty[:20])


@given(cuts=st.lists(st.integers(0, 60), min_size=0, max_size=4))
@settings(max_examples=25, deadline=None)
def test_ranges_of_rows_join_up(cuts: list[int]) -> None:
    whole = sampling.uniforms(0, "crops", "b" * 64, 0, 60)
    ends = [0, *sorted(cuts), 60]
    parts = [sampling.uniforms(0, "crops", "b" * 64, a, b) for a, b in pairwise(ends)]
    assert torch.equal(torch.cat(parts), whole)


def test_streams_are_those_of_the_contract() -> None:
    """Philox keyed by the little-endian number in blake2b of what the stream belongs to."""
    digest = hashlib.blake2b(b"7:squares:" + b"c" * 64, digest_size=16).digest()
    key = sum(byte << (8 * place) for place, byte in enumerate(digest))
    expected = np.random.Generator(np.random.Philox(key=key)).random((5, 8))
    assert np.array_equal(sampling.uniforms(7, "squares", "c" * 64, 0, 5).numpy(), expected)


def test_streams_are_unlike_each_other() -> None:
    def rows(seed: int, stream: str, image: str) -> np.ndarray:
        return sampling.uniforms(seed, stream, image, 0, 40).numpy()

    first = rows(0, "crops", "c" * 64)
    assert np.array_equal(first, rows(0, "crops", "c" * 64))
    for other in [(1, "crops", "c" * 64), (0, "other", "c" * 64), (0, "crops", "d" * 64)]:
        assert np.intersect1d(first, rows(*other)).size == 0


def test_columns_of_a_stream_are_uniform_and_unrelated() -> None:
    rows = uniform_rows("columns")
    for column in rows.T:
        assert_uniform(column, 0, 1)
    assert np.abs(np.corrcoef(rows.T.numpy()) - np.eye(8)).max() < 4.5 / math.sqrt(DRAWS)


# --- Parts of the unit -----------------------------------------------------------------------


def test_nested_ranges_share_numbers_as_often_as_any_draw_can() -> None:
    """With the ratio of their lengths; two that overlap with that of what they have in common to
    what they cover together."""
    u = layered_rows("nested")[:, :, :1]

    def drawn(low: float, high: float) -> torch.Tensor:
        return sampling.within(u, [low], [high])[:, 0]

    def shared(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a == b).double().mean())

    assert shared(drawn(0.1, 0.9), drawn(0.5, 0.9)) == pytest.approx(1 / 2, abs=0.005)
    assert shared(drawn(0.2, 0.7), drawn(0.3, 0.4)) == pytest.approx(1 / 5, abs=0.005)
    assert shared(drawn(0.0, 0.3), drawn(0.0, 0.2)) == pytest.approx(2 / 3, abs=0.005)
    assert shared(drawn(0.1, 0.5), drawn(0.3, 0.7)) == pytest.approx(1 / 3, abs=0.005)
    assert shared(drawn(0.1, 0.2), drawn(0.6, 0.7)) == 0


def test_a_part_too_narrow_for_the_layers_is_drawn_from_evenly() -> None:
    """One in 10^7 is found by narrowing now and then; the last layer serves the others."""
    width = 1e-7
    numbers = sampling.within(layered_rows("narrow")[:, :, :1], [0.3], [0.3 + width])[:, 0]
    assert_uniform((numbers - 0.3) / width, 0, 1)
    assert sampling.within(layered_rows("point", 50)[:, :, :1], [0.3], [0.3]).unique() == 0.3


def test_all_of_the_unit_takes_the_first_layer() -> None:
    u = layered_rows("whole", 500)[:, :, :2]
    assert torch.equal(sampling.within(u, [0, 0], [1, 1]), u[:, 0])


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.1)])
def test_what_is_no_part_of_the_unit_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= low <= high <= 1"):
        sampling.within(layered_rows("none", 2)[:, :, :1], [low], [high])
