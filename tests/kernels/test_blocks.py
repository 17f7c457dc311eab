"""A block against open_clip's own in float64, and its weights before and after folding."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from open_clip.transformer import LayerScale, QuickGELU
from torch import Tensor, nn

from pipeline.kernels import blocks
from pipeline.kernels.blocks import all_tokens_after, class_token_after, fold, linear
from tests.helpers.plain_vit import doubled, one_thread, small_vit

KINDS: dict[str, dict[str, Any]] = {
    "gelu": {},
    "quick": {"quick": True},
    "layer scale": {"layer_scale": 0.1},
    "both": {"quick": True, "layer_scale": 0.1},
}


@pytest.fixture(scope="module", params=list(KINDS))
def block(request: pytest.FixtureRequest) -> Iterator[Any]:
    with one_thread():
        yield small_vit(7, **KINDS[request.param]).transformer.resblocks[1]


def tokens_of(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 50, 64, generator=generator, dtype=torch.float64)


def folded(block: Any) -> Any:
    """A folded copy."""
    result = copy.deepcopy(block)
    fold(result)
    return result


@pytest.mark.parametrize("folds", [False, True])
def test_a_block_in_double_precision(block: Any, folds: bool) -> None:
    block, tokens = doubled(block), tokens_of(3)
    entered, expected = tokens.clone(), block(tokens)
    ours = folded(block) if folds else block
    found = all_tokens_after(ours, tokens)
    assert torch.equal(tokens, entered)
    assert (found - expected).abs().max() < 1e-12
    assert (class_token_after(ours, tokens) - expected[:, 0]).abs().max() < 1e-12


def test_a_block_in_single_precision(block: Any) -> None:
    tokens = tokens_of(3)
    expected = doubled(block)(tokens)
    found = all_tokens_after(folded(block), tokens.float())
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-5


def test_a_folded_block_has_neither_quick_gelu_nor_layer_scale(block: Any) -> None:
    kinds = {type(module) for module in folded(block).modules()}
    assert not kinds & {QuickGELU, LayerScale}
    assert kinds & {nn.GELU, nn.SiLU}
    assert torch.equal(folded(folded(block)).mlp.c_fc.weight, folded(block).mlp.c_fc.weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(5, 64), (1, 1, 64), (3, 50, 64), (17, 2, 64)])
def test_a_product_of_tokens(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = shape, (24, 64), (24,)
    tokens, weight, bias = ((torch.randn(s, generator=generator) / 8).to(dtype) for s in sizes)
    exact = tokens.double() @ weight.double().T + bias.double()
    found = linear(tokens, weight, bias)
    assert (found.shape, found.dtype) == (exact.shape, dtype)
    assert (found - exact).abs().max() <= 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_does_not_depend_on_threads_or_on_how_many_it_is_computed_with(
    dtype: torch.dtype,
) -> None:
    """To the bit; torch's own convolution does: one thread and fewer than 16 take another path."""
    generator, before = torch.Generator().manual_seed(0), torch.get_num_threads()
    sizes = (16, 50, 256), (512, 256), (512,)
    tokens, weight, bias = ((torch.randn(s, generator=generator) / 8).to(dtype) for s in sizes)
    expected = linear(tokens, weight, bias)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for count in (2, 3, 8, 16):
                found = linear(tokens[:count], weight, bias)
                assert torch.equal(found, expected[:count])
    finally:
        torch.set_num_threads(before)


def test_hidden_tokens_in_parts_give_the_same_tokens(
    block: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tokens_of(6).float()
    expected, one = all_tokens_after(block, tokens), 50 * len(block.mlp.c_fc.weight) * 4
    for held in (2 * one, 3 * one):
        monkeypatch.setattr(blocks, "HELD", held)
        assert torch.equal(all_tokens_after(block, tokens), expected)
