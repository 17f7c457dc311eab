"""Weights of cosines make up the scores that the kernels of matching compute otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kernels.matching import Descriptions, cross_align, soft_match
from pipeline.kernels.weights import (
    aligned_image_weights,
    aligned_text_weights,
    cosines,
    mean_weights,
    soft_weights,
)


def unit(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    vectors = rng.normal(size=shape)
    return torch.from_numpy(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def grouped(rng: np.random.Generator, counts: list[int], dim: int) -> Descriptions:
    labels = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    return Descriptions.from_rows(unit(rng, len(labels), dim), labels, len(counts))


SHAPES = {
    "seed": st.integers(0, 2**32 - 1),
    "counts": st.lists(st.integers(1, 5), min_size=1, max_size=4),
    "images": st.integers(1, 3),
    "views": st.integers(1, 4),
    "dim": st.integers(2, 6),
}


@settings(max_examples=12)
@given(temperature=st.sampled_from([0.01, 0.03, 1.0]), **SHAPES)
def test_soft_weights_are_those_of_soft_matching(
    seed: int, counts: list[int], images: int, views: int, dim: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    texts, crops = grouped(rng, counts, dim), unit(rng, images, views, dim)
    weights = soft_weights(crops, texts, temperature)
    assert weights.shape == (images, views, len(counts), max(counts))
    assert weights.sum(dim=(2, 3)) == pytest.approx(np.ones((images, views)), abs=1e-12)
    found = (weights * cosines(crops, texts)).sum(dim=(1, 3))
    assert found == pytest.approx(soft_match(crops, texts, temperature).numpy(), abs=1e-12)
    padded = torch.arange(max(counts)) >= torch.tensor(counts)[:, None]
    assert not weights[..., padded].any()


def test_soft_weights_are_shares_of_exponentials() -> None:
    rng = np.random.default_rng(1)
    texts, crops = grouped(rng, [2, 3], 4), unit(rng, 1, 1, 4)
    rows = [(c, m) for c, count in enumerate([2, 3]) for m in range(count)]
    exponentials = [
        math.exp(sum(a * b for a, b in zip(crops[0, 0], texts.vectors[c, m], strict=True)) / 0.1)
        for c, m in rows
    ]
    for (c, m), each in zip(rows, exponentials, strict=True):
        expected = each / sum(exponentials)
        assert float(soft_weights(crops, texts, 0.1)[0, 0, c, m]) == pytest.approx(expected)


@settings(max_examples=12)
@given(**SHAPES)
def test_mean_weights_are_those_of_the_renormalised_mean(
    seed: int, counts: list[int], images: int, views: int, dim: int
) -> None:
    rng = np.random.default_rng(seed)
    texts, crops = grouped(rng, counts, dim), unit(rng, images, views, dim)
    found = (mean_weights(texts) * cosines(crops, texts)).sum(dim=-1)
    for c, count in enumerate(counts):
        mean = texts.vectors[c, :count].numpy().sum(axis=0)
        expected = crops.numpy() @ (mean / np.linalg.norm(mean))
        assert found[:, :, c].numpy() == pytest.approx(expected, abs=1e-9)


def test_a_class_without_descriptions_weighs_nothing() -> None:
    texts = grouped(np.random.default_rng(0), [2, 0], 3)
    assert mean_weights(texts)[1].tolist() == [0, 0]
    assert soft_weights(texts.vectors[None, 0], texts, 1.0)[..., 1, :].sum() == 0


@settings(max_examples=12)
@given(**SHAPES)
def test_aligned_weights_are_those_of_cross_alignment(
    seed: int, counts: list[int], images: int, views: int, dim: int
) -> None:
    rng = np.random.default_rng(seed)
    texts, crops = grouped(rng, counts, dim), unit(rng, images, views, dim)
    image, labels = unit(rng, images, dim), unit(rng, len(counts), dim)
    by_crop = aligned_image_weights(image, crops, 5.0)
    by_text = aligned_text_weights(labels, texts, 3.0)
    found = (by_crop[..., None, None] * by_text * cosines(crops, texts)).sum(dim=(1, 3))
    expected = cross_align(image, crops, labels, texts, 5.0, 3.0)
    assert found == pytest.approx(expected.numpy(), abs=1e-9)
