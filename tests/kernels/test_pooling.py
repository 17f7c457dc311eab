"""Attention pooling over parts of an image, against every product written out in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.kernels.feature_crops import covered, finish, finish_windows, prompt_windows
from pipeline.kernels.pooling import AttentionPool, Tail
from pipeline.kernels.towers import Tower
from tests.helpers.plain_vit import one_thread

GRID, WIDTH, HEADS, OUTPUTS = 4, 12, 3, 5
WINDOWS = torch.tensor([[0, 0, 4, 4], [1, 0, 3, 2], [3, 3, 4, 4], [0, 1, 4, 2]])


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


class Weights:
    """Query, keys, values and output of an attention, in float64."""

    def __init__(self) -> None:
        self.query, self.key = rand(WIDTH, seed=1), rand(WIDTH, WIDTH, seed=2)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, OUTPUTS)
        self.norm = nn.LayerNorm(WIDTH)
        for at, part in enumerate((self.value, self.out, self.norm)):
            for name, weight in part.named_parameters():
                weight.data = rand(*weight.shape, seed=10 * at + len(name))
        self.project = nn.Linear(OUTPUTS, 2, bias=False).double()

    def tower(self, prefix: int) -> Tower:
        pool = AttentionPool(self.query, self.key, self.value, self.out, HEADS)
        return Tower(nn.Identity(), [], Tail(self.norm, pool, self.project), prefix)

    def by_hand(self, tokens: Tensor, kept: list[int], bias: dict[int, float]) -> Tensor:
        """One query over the kept tokens, one head and token after the other."""
        size, heads = WIDTH // HEADS, []
        normed = {i: self.norm(tokens[i]) for i in kept}
        for head in range(HEADS):
            some = slice(head * size, (head + 1) * size)
            logits = {
                i: float(self.query[some] @ (self.key @ each)[some]) / math.sqrt(size)
                + bias.get(i, 0.0)
                for i, each in normed.items()
            }
            total = sum(math.exp(logit) for logit in logits.values())
            heads.append(
                sum(math.exp(logits[i]) / total * self.value(normed[i])[some] for i in kept)
            )
        pooled: Tensor = self.project(self.out(torch.cat(heads)))  # type: ignore[arg-type]
        return pooled


@pytest.fixture(scope="module")
def weights() -> Any:
    with one_thread(), torch.no_grad():
        yield Weights()


@pytest.mark.parametrize("prefix", [0, 1])
def test_windows_of_images_are_parts_of_their_tokens(weights: Weights, prefix: int) -> None:
    tokens = rand(2, prefix + GRID**2, WIDTH, seed=3)
    found = finish_windows(weights.tower(prefix), tokens, WINDOWS.expand(2, -1, -1))
    assert found.shape == (2, len(WINDOWS), 2)
    for image in range(2):
        for window, vector in zip(WINDOWS.tolist(), found[image], strict=True):
            kept = [*range(prefix), *inside(window, prefix)]
            assert (vector - weights.by_hand(tokens[image], kept, {})).norm() < 1e-12


def inside(window: list[int], prefix: int) -> list[int]:
    left, top, right, bottom = window
    return [prefix + GRID * y + x for y in range(top, bottom) for x in range(left, right)]


@pytest.mark.parametrize("prefix", [0, 1])
def test_a_highlight_multiplies_the_attention_of_the_query(weights: Weights, prefix: int) -> None:
    (tokens,) = rand(1, prefix + GRID**2, WIDTH, seed=4)
    sequences = prompt_windows(tokens, WINDOWS, "highlight-attn", 3.0, prefix)
    found = finish(weights.tower(prefix), sequences, -1)
    for window, vector in zip(WINDOWS.tolist(), found, strict=True):
        bias = dict.fromkeys(inside(window, prefix), math.log(3.0))
        assert (vector - weights.by_hand(tokens, list(range(len(tokens))), bias)).norm() < 1e-12


def test_a_tail_without_attention_takes_no_window() -> None:
    assert covered(WINDOWS, GRID).sum(dim=1).tolist() == [16, 4, 1, 4]
    tail = Tail(nn.Identity(), nn.Identity(), nn.Identity())
    assert not tail.attends
    assert Tower(nn.Identity(), [nn.Identity()], tail, 1).layers == 1
