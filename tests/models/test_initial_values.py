"""Models that are built without initial values: what is left out, and what is not."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import pytest
import timm
import torch
from torch import nn

from pipeline.models.initial_values import shapes_alone, undrawn
from tests.helpers import small_models


def clip() -> nn.Module:
    return open_clip.CLIP(**small_models.clip_config(56, 8))


def vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", depth=2)


def rotary() -> nn.Module:
    return timm.create_model("eva02_tiny_patch14_224", depth=2)


@pytest.mark.parametrize("build", [clip, vit, rotary])
def test_what_is_not_drawn_is_in_the_weights(build: Callable[[], nn.Module]) -> None:
    drawn = build()
    with undrawn():
        empty = build()
    empty.load_state_dict(drawn.state_dict())
    own = dict(empty.named_buffers())
    assert all(torch.equal(own[name], buffer) for name, buffer in drawn.named_buffers())
    assert all(parameter.requires_grad for parameter in empty.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "beit_base_patch16_224",
        "eva02_tiny_patch14_224",
        "cait_xxs24_224",
        "vit_small_patch14_reg4_dinov2",
    ],
)
def test_shapes_alone_are_those_of_the_model(name: str) -> None:
    with shapes_alone():
        found = timm.create_model(name).state_dict()
    assert all(value.is_meta for value in found.values())
    expected = timm.create_model(name).state_dict()
    assert {n: (v.shape, v.dtype) for n, v in found.items()} == {
        n: (v.shape, v.dtype) for n, v in expected.items()
    }


def test_nothing_is_drawn() -> None:
    before = torch.random.get_rng_state()
    with undrawn():
        vit()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_drawn_after_the_block_is_drawn() -> None:
    with undrawn():
        pass
    torch.manual_seed(0)
    first = nn.Linear(4, 4).weight
    torch.manual_seed(1)
    assert not torch.equal(nn.Linear(4, 4).weight, first)
