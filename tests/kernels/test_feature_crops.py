"""Feature crops against the same windows sent through whole blocks in float64."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from open_clip.transformer import VisionTransformer
from torch import Tensor

from pipeline.kernels.feature_crops import (
    encode_windows,
    finish,
    prompt_windows,
    resize_windows,
)
from pipeline.kernels.towers import class_token_tower
from tests.helpers import small_models
from tests.helpers.plain_vit import (
    Window,
    doubled,
    embedding,
    one_thread,
    small_vit,
    stretched,
    tokens_of,
)

MODELS: dict[str, dict[str, Any]] = {
    "gelu": {},
    "quick": {"quick": True},
    "layer scale": {"layer_scale": 0.1},
}


@pytest.fixture(scope="module", params=[(7, "gelu"), (14, "quick"), (16, "layer scale")], ids=str)
def visual(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Sides of 56, 112 and 128."""
    grid, kind = request.param
    with one_thread():
        yield small_vit(grid, **MODELS[kind])


def windows_of(grid: int, count: int = 3) -> list[Window]:
    """The whole, one token, two at the border, and random ones, the first of them twice."""
    rng = np.random.default_rng(grid)
    found: list[Window] = [(0, 0, grid, grid), (2, 3, 3, 4), (grid - 1, 0, grid, 2)]
    for _ in range(count):
        (left, right), (top, bottom) = (
            sorted(int(end) for end in rng.choice(grid + 1, 2, replace=False)) for _ in range(2)
        )
        found.append((left, top, right, bottom))
    return [*found, found[3]]


def through_all_blocks(visual: Any, tokens: Tensor, windows: list[Window], layer: int) -> Tensor:
    """open_clip's own blocks, all tokens through each: unit vectors (n, dim)."""
    x = torch.stack([stretched(tokens, window) for window in windows])
    for block in list(visual.transformer.resblocks)[layer:]:
        x = block(x)
    pooled: Tensor = visual.ln_post(x)[:, 0] @ visual.proj
    return F.normalize(pooled, dim=-1)


# --- Embeddings ------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-1, 3, 2, 0])
def test_windows_in_double_precision(visual: Any, layer: int) -> None:
    visual, grid = doubled(visual), visual.grid_size[0]
    tokens, windows = tokens_of(grid), windows_of(grid)
    expected = through_all_blocks(visual, tokens, windows, layer)
    found = encode_windows(visual, tokens, torch.tensor(windows), layer)
    assert found.dtype == torch.float64
    assert found.shape == (len(windows), 24)
    assert (found - expected).norm(dim=-1).max() < 1e-10
    sequences = prompt_windows(tokens, torch.tensor(windows), "crop")
    again = F.normalize(finish(class_token_tower(visual), sequences, layer), dim=-1)
    assert (again - expected).abs().max() < 1e-10


@pytest.mark.parametrize("layer", [-1, 2, 0])
def test_windows_in_single_precision(visual: Any, layer: int) -> None:
    grid = visual.grid_size[0]
    tokens, windows = tokens_of(grid).float(), windows_of(grid)
    expected = through_all_blocks(doubled(visual), tokens.double(), windows, layer)
    found = encode_windows(visual, tokens, torch.tensor(windows), layer)
    assert found.dtype == torch.float32
    assert (found - expected).norm(dim=-1).max() < 1e-5


@pytest.mark.parametrize("layer", [-1, 1])
def test_windows_with_every_product_written_out(visual: Any, layer: int) -> None:
    grid = visual.grid_size[0]
    tokens, windows = tokens_of(grid), windows_of(grid, count=1)
    found = encode_windows(doubled(visual), tokens, torch.tensor(windows), layer)
    for window, vector in zip(windows, found, strict=True):
        expected = embedding(visual, stretched(tokens, window), layer)
        assert (vector - expected).norm() < 1e-10


def test_the_whole_window_is_the_image_itself(visual: Any) -> None:
    """From the first block on: what open_clip makes of the pixels."""
    visual, grid = doubled(visual), visual.grid_size[0]
    pixels = torch.tensor(np.random.default_rng(0).standard_normal((1, 3, 8 * grid, 8 * grid)))
    tokens = visual._embeds(pixels)[0]
    (found,) = encode_windows(visual, tokens, torch.tensor([[0, 0, grid, grid]]), 0)
    expected = visual(pixels)[0]
    assert (found - expected / expected.norm()).norm() < 1e-10


def test_vectors_are_scaled_to_length_1_only_at_the_end(visual: Any) -> None:
    grid = visual.grid_size[0]
    sequences = prompt_windows(tokens_of(grid).float(), torch.tensor(windows_of(grid)), "crop")
    pooled = finish(class_token_tower(visual), sequences, -1)
    assert (pooled.norm(dim=-1) - 1).abs().min() > 0.1


@pytest.fixture(scope="module")
def vit_b_32() -> Iterator[Any]:
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    visual = _build_vision_tower(
        config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), config["quick_gelu"]
    )
    small_models.fill(visual, seed=32)
    with one_thread():
        yield visual.eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [-1, -6])
def test_the_true_vit_b_32(vit_b_32: Any, layer: int) -> None:
    tokens, windows = tokens_of(7, 768), windows_of(7, count=1)[1:4]
    found = encode_windows(vit_b_32, tokens.float(), torch.tensor(windows), layer)
    assert found.shape == (3, 512)
    for window, vector in zip(windows, found, strict=True):
        expected = embedding(vit_b_32, stretched(tokens.float().double(), window), layer)
        assert (vector - expected).norm() < 1e-5


# --- Sequences -------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [7, 10, 14, 16])
def test_windows_are_stretched_as_interpolate_does(grid: int) -> None:
    tokens, windows = tokens_of(grid, 3), windows_of(grid, count=40)
    found = resize_windows(tokens, torch.tensor(windows))
    expected = torch.stack([stretched(tokens, window) for window in windows])
    assert found.shape == expected.shape
    assert found.dtype == torch.float64
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("grid", [7, 14, 16])
def test_the_whole_window_changes_nothing(grid: int) -> None:
    tokens = tokens_of(grid, 3)
    (found,) = resize_windows(tokens, torch.tensor([[0, 0, grid, grid]]))
    assert (found - tokens).abs().max() < 1e-14


def test_a_single_token_fills_the_grid() -> None:
    tokens = tokens_of(7, 3)
    (found,) = resize_windows(tokens, torch.tensor([[5, 2, 6, 3]]))
    assert torch.equal(found[0], tokens[0])
    assert torch.allclose(found[1:], tokens[1 + 2 * 7 + 5].expand(49, -1), rtol=1e-12)


# --- What is refused --------------------------------------------------------------------------

VISUAL = VisionTransformer(32, 8, width=16, layers=2, heads=2, mlp_ratio=2.0, output_dim=4)
TOKENS = torch.randn(17, 16)
WHOLE = torch.tensor([[0, 0, 4, 4]])


def only(*window: int) -> Tensor:
    """One window."""
    return torch.tensor([window])


CALLS: dict[str, Callable[[], Any]] = {
    "layer 2 is not one of 2": lambda: encode_windows(VISUAL, TOKENS, WHOLE, 2),
    "layer -3 is not one of 2": lambda: encode_windows(VISUAL, TOKENS, WHOLE, -3),
    "unknown prompt 'blur'": lambda: prompt_windows(TOKENS, WHOLE, "blur"),  # type: ignore[arg-type]
    "tokens of shape (16, 16)": lambda: resize_windows(TOKENS[1:], WHOLE),
    "windows of shape (4,)": lambda: resize_windows(TOKENS, WHOLE[0]),
    "windows of shape (1, 4)": lambda: resize_windows(TOKENS, WHOLE.float()),
    "leaves the grid of 4 x 4": lambda: resize_windows(TOKENS, only(0, 0, 4, 5)),
    "a window is empty": lambda: prompt_windows(TOKENS, only(2, 0, 2, 4), "mask"),
}


@pytest.mark.parametrize("message", list(CALLS))
def test_what_has_no_meaning_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CALLS[message]()
