"""A ViT's attention against full attention in float64.

Architectures are the real ones, weights are noise. Each differs in what could go wrong: registers,
layer scale, normalised or rotated queries, a mask, a norm before the blocks, a hybrid's grid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from pipeline.core.errors import AbsError, ConfigError
from pipeline.datasets.images import Images
from pipeline.models.attention.vit import AttentionVit, check_name
from tests.helpers import small_models
from tests.helpers.small_models import CPU, assert_attention, vit_source
from tests.reference import formulas as ref


def vit_of(folder: Path, model: str, weights: str | None = None) -> AttentionVit:
    return vit_source(folder, model, weights).load(CPU)


@pytest.mark.slow
def test_attention_of_dino(tmp_path: Path, images: Images, pictures: list[Image.Image]) -> None:
    vit = vit_of(tmp_path, "vit_small_patch16_224.dino", "random:0")
    small_models.fill(vit._model, seed=4, gain=1.3)
    assert (vit.layers, vit.grid) == (12, 14)
    squashed = np.array(pictures[0].resize((224, 224), Image.Resampling.BILINEAR))
    assert np.array_equal(vit.read(images, slice(0, 1))[0], np.moveaxis(squashed, 2, 0))
    assert_attention(vit, images, [ref.Vit(vit._model).attention(pictures[0])])


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("vit_small_patch14_reg4_dinov2", {"img_size": 70, "depth": 3}),
        ("vit_small_patch16_224", {"img_size": 64, "qk_norm": True, "depth": 3}),
        (
            "vit_base_patch16_clip_224",
            {"img_size": 80, "embed_dim": 96, "depth": 3},
        ),
        ("vit_small_patch16_dinov3", {"img_size": 80, "depth": 3, "embed_dim": 96, "num_heads": 3}),
    ],
)
def test_attention_by_hand(
    tmp_path: Path,
    images: Images,
    pictures: list[Image.Image],
    architecture: str,
    sizes: dict[str, Any],
) -> None:
    folder = tmp_path / "model"
    small_models.write_vit(folder, architecture, **sizes)
    reference = ref.Vit(small_models.vit_module(folder))
    vit = vit_of(tmp_path, f"local-dir:{folder}")
    assert_attention(vit, images, [reference.attention(picture) for picture in pictures])


def unfused(vit: AttentionVit, images: Images) -> list[list[list[float]]]:
    """timm's own attention in float64, read off the maps that its unfused code computes."""
    module = vit._model.double()
    rows: list[torch.Tensor] = []
    hooks = []
    for block in module.blocks:
        block.attn.fused_attn = False
        keep = lambda _, __, out: rows.append(out[:, :, 0].mean(dim=1))  # noqa: E731
        hooks.append(block.attn.attn_drop.register_forward_hook(keep))
    pixels = vit.read(images, slice(0, 3)).double() / 255
    with torch.inference_mode():
        module.forward_features(
            (pixels - vit._normalise._mean.double()) / vit._normalise._std.double()
        )
    for hook in hooks:
        hook.remove()
    return torch.stack(rows, dim=1)[:, :, -(vit.grid**2) :].tolist()


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("eva02_tiny_patch14_224", {"img_size": 56, "depth": 2}),
        ("vit_small_plus_patch16_dinov3", {"img_size": 64, "depth": 2}),
        ("vit_small_patch16_rope_mixed_224", {"img_size": 64, "depth": 2}),
        ("vit_pe_core_tiny_patch16_384", {"img_size": 64, "depth": 2}),
        ("beit_base_patch16_224", {"img_size": 64, "depth": 2, "embed_dim": 96, "num_heads": 3}),
        ("vit_relpos_base_patch16_cls_224", {"img_size": 64, "depth": 2}),
        ("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 2}),
        ("vit_tiny_r_s16_p8_224", {"img_size": 64, "depth": 2}),
    ],
)
def test_attention_of_other_families(
    tmp_path: Path, images: Images, architecture: str, sizes: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    small_models.write_vit(folder, architecture, **sizes)
    vit = vit_of(tmp_path, f"local-dir:{folder}")
    expected = unfused(vit_of(tmp_path, f"local-dir:{folder}"), images)
    assert_attention(vit, images, expected)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet50", "is not a plain ViT"),
        ("swin_tiny_patch4_window7_224", "is not a plain ViT"),
        ("convnext_tiny", "is not a plain ViT"),
        ("xcit_nano_12_p16_224", "is not a plain ViT"),
        ("naflexvit_base_patch16_gap", "is not a plain ViT"),
        ("vit_base_patch16_siglip_224", "has no class token"),
        ("vit_medium_patch16_reg4_gap_256", "has no class token"),
        ("vit_base_patch16_sapiens2", r"has a grid of \(64, 48\), not a square"),
        ("cait_xxs24_224", r"does not attend once per block to all patches \(2 times in 24 blocks"),
        ("convit_tiny", r"does not attend once per block to all patches \(0 times in 12 blocks"),
        ("vit_small_patch16_18x2_224", r"\(36 times in 18 blocks, to \[197\] tokens\)"),
    ],
)
def test_an_architecture_without_class_attention_is_refused_before_its_weights(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^attention.model: {name} .*{reason}.*"):
        _ = vit_source(tmp_path, name, "pretrained").resolved


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_244.dino", "did you mean 'vit_base_patch16_224'?"),
        ("vit_base_patch16_224.dini", "did you mean 'vit_base_patch16_224.dino'?"),
        ("vit_small_patch16_36x1_224", "attention.weights: timm has no weights for"),
        ("clip:1", "timm has no model 'clip:1'"),
    ],
)
def test_a_name_that_timm_does_not_know_is_one_line(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(AbsError) as caught:
        _ = vit_source(tmp_path, name, "pretrained").resolved
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_folder_without_class_attention_is_refused(tmp_path: Path) -> None:
    small_models.write_vit(tmp_path / "m", "vit_base_patch16_siglip_224", img_size=64, depth=2)
    with pytest.raises(ConfigError, match="has no class token"):
        vit_of(tmp_path, f"local-dir:{tmp_path}/m")


def test_checking_an_architecture_allocates_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name: made.append(create(name)) or made[0])
    check_name("vit_giant_patch14_dinov2")
    assert all(weight.is_meta for weight in made[0].parameters())


def test_an_architecture_that_does_not_run_without_values_is_checked_when_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *_: torch.zeros(1, device="meta").item())
    source = vit_source(tmp_path, "resnet18", "random:0")
    assert source.resolved.name == "resnet18"
    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(ConfigError, match="resnet18 is not a plain ViT"):
        source.load(CPU)
