"""Prompts on tokens (Table 5) against full attention matrices in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.kernels.feature_crops import covered, encode_windows, prompt_windows
from pipeline.kernels.prompt_names import FeaturePrompt
from tests.helpers.plain_vit import (
    Prompted,
    Window,
    doubled,
    embedding,
    inside,
    one_thread,
    small_vit,
    tokens_of,
)

PROMPTS: list[FeaturePrompt] = ["mask", "highlight-fea", "highlight-attn"]
LAYERS = [-1, 2, 0]


@pytest.fixture(scope="module", params=[(7, False), (14, True)], ids=str)
def visual(request: pytest.FixtureRequest) -> Iterator[Any]:
    grid, quick = request.param
    with one_thread():
        yield small_vit(grid, quick=quick, layer_scale=0.1 if quick else None)


def windows_of(grid: int) -> list[Window]:
    """Oblong ones, a token, and one at the border."""
    return [(1, 2, 5, 4), (2, 0, 3, 6), (3, 4, 4, 5), (grid - 2, 1, grid, grid)]


def expected_of(
    visual: Any, tokens: Tensor, window: Window, layer: int, prompt: FeaturePrompt, gain: float
) -> Tensor:
    """By the prompts' definitions."""
    chosen = inside(visual.grid_size[0], window)
    factors = torch.where(chosen, gain, 1.0).double()
    if prompt == "mask":
        kept = chosen.clone()
        kept[0] = True
        return embedding(visual, torch.where(kept[:, None], tokens, 0.0), layer)
    if prompt == "highlight-fea":
        return embedding(visual, tokens, layer, Prompted(normed=factors))
    return embedding(visual, tokens, layer, Prompted(attention=factors))


def found_for(
    visual: Any, tokens: Tensor, layer: int, prompt: FeaturePrompt, gain: float
) -> Tensor:
    windows = torch.tensor(windows_of(visual.grid_size[0]))
    return encode_windows(visual, tokens, windows, layer, prompt, gain)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_in_double_precision(visual: Any, prompt: FeaturePrompt, layer: int) -> None:
    grid = visual.grid_size[0]
    tokens = tokens_of(grid)
    found = found_for(doubled(visual), tokens, layer, prompt, 3.5)
    for window, vector in zip(windows_of(grid), found, strict=True):
        expected = expected_of(visual, tokens, window, layer, prompt, 3.5)
        assert (vector - expected).norm() < 1e-10


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_in_single_precision(visual: Any, prompt: FeaturePrompt, layer: int) -> None:
    grid = visual.grid_size[0]
    tokens = tokens_of(grid).float()
    found = found_for(visual, tokens, layer, prompt, 2.0)
    assert found.dtype == torch.float32
    for window, vector in zip(windows_of(grid), found, strict=True):
        expected = expected_of(visual, tokens.double(), window, layer, prompt, 2.0)
        assert (vector - expected).norm() < 1e-5


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_changes_nothing_leaves_the_plain_image(
    visual: Any, prompt: FeaturePrompt, layer: int
) -> None:
    """A gain of 1, or a mask of nothing; anything else does change it."""
    visual, grid = doubled(visual), visual.grid_size[0]
    tokens, whole = tokens_of(grid), torch.tensor([[0, 0, grid, grid]])
    plain = embedding(visual, tokens, layer)
    changed = found_for(visual, tokens, layer, prompt, 2.0)
    assert (changed - plain).norm(dim=-1).min() > 1e-6
    if prompt == "mask":
        (same,) = encode_windows(visual, tokens, whole, layer, prompt)
    else:
        same = found_for(visual, tokens, layer, prompt, 1.0)
    assert (same - plain).abs().max() < 1e-10


def test_prompts_are_unlike_each_other(visual: Any) -> None:
    grid = visual.grid_size[0]
    found = [found_for(visual, tokens_of(grid).float(), -1, p, 2.0) for p in ("crop", *PROMPTS)]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert (one - other).norm(dim=-1).min() > 1e-6


def test_a_gain_below_1_takes_away(visual: Any) -> None:
    grid = visual.grid_size[0]
    tokens = tokens_of(grid).float()
    for prompt in PROMPTS[1:]:
        found = found_for(visual, tokens, -1, prompt, 0.5)
        for window, vector in zip(windows_of(grid), found, strict=True):
            expected = expected_of(visual, tokens.double(), window, -1, prompt, 0.5)
            assert (vector - expected).norm() < 1e-5


def test_the_gain_is_2_unless_told_otherwise(visual: Any) -> None:
    grid = visual.grid_size[0]
    tokens, windows = tokens_of(grid).float(), torch.tensor(windows_of(grid))
    for prompt in PROMPTS:
        found = encode_windows(visual, tokens, windows, -1, prompt)
        assert torch.equal(found, found_for(visual, tokens, -1, prompt, 2.0))


# --- Tokens of a window ----------------------------------------------------------------------


def test_covered_tokens_worked_by_hand() -> None:
    """Columns 1 and 2 of row 0; all of column 2; everything; nothing beyond a border."""
    windows = torch.tensor([[1, 0, 3, 1], [2, 0, 3, 3], [0, 0, 3, 3], [0, 2, 1, 3]])
    rows = [[1, 2], [2, 5, 8], list(range(9)), [6]]
    found = covered(windows, 3)
    assert found.dtype == torch.bool
    assert [row.nonzero()[:, 0].tolist() for row in found] == rows


@pytest.mark.parametrize("grid", [7, 16])
def test_covered_tokens_of_many_windows(grid: int) -> None:
    windows = windows_of(grid)
    found = covered(torch.tensor(windows), grid)
    assert torch.equal(found, torch.stack([inside(grid, window)[1:] for window in windows]))


def test_masked_tokens_are_zero_as_they_enter() -> None:
    """But for the class token and the window's own; nothing is marked."""
    tokens = tokens_of(7, 3)
    sequences = prompt_windows(tokens, torch.tensor([[1, 2, 4, 6], [0, 0, 1, 1]]), "mask")
    assert sequences.marks.empty
    for window, sequence in zip([(1, 2, 4, 6), (0, 0, 1, 1)], sequences.tokens, strict=True):
        kept = inside(7, window)
        kept[0] = True
        assert torch.equal(sequence[kept], tokens[kept])
        assert (sequence[~kept] == 0).all()
