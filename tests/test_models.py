"""The model wrappers against the libraries' own encoders and against full attention in float64.

Architectures are the real ones, weights are noise. Every architecture here differs in what could
go wrong: registers, layer scale, normalised queries, a norm before the blocks.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from pipeline.files import Digests
from pipeline.images import decode
from pipeline.locations import Paths
from pipeline.models.clip import Clip
from pipeline.models.sources import ClipConfig, ClipSource, Resolved, VitConfig, VitSource
from pipeline.models.vit import AttentionVit
from pipeline.runtime import Runtime
from tests import reference as ref
from tests import small_models
from tests.conftest import DEMO

CPU = Runtime(device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A square, both oblongs, and a large grey one of odd sides."""
    chosen = sorted((DEMO / "images").glob("*/*"))[:3]
    with Image.open(chosen[1]) as image:
        grey = image.convert("L").resize((501, 333))
    odd = tmp_path_factory.mktemp("pictures") / "odd.png"
    grey.save(odd)
    return [*chosen, odd]


@pytest.fixture(scope="module")
def images(files: list[Path]) -> list[Image.Image]:
    return [decode(file.read_bytes()) for file in files]


def places(folder: Path) -> tuple[Paths, Digests]:
    return Paths(artifacts=str(folder)), Digests(folder / "sha256.json")


# --- CLIP ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    config = ClipConfig(model="ViT-B-32", weights="random:0")
    loaded = Clip(ClipSource(config, *places(tmp_path_factory.mktemp("store"))), CPU)
    small_models.fill(loaded._model.visual, seed=3)
    return loaded


@pytest.fixture(scope="module")
def pixels(clip: Clip, images: list[Image.Image]) -> np.ndarray:
    return np.stack([clip.preprocess(image) for image in images])


@pytest.fixture(scope="module")
def expected(clip: Clip, files: list[Path]) -> Tensor:
    """What open_clip makes of the files, alone: its preprocessing, then its encoder."""
    transform = image_transform_v2(
        PreprocessCfg(**clip._model.visual.preprocess_cfg), is_train=False
    )
    batch = torch.stack([transform(Image.open(file)) for file in files])
    with torch.inference_mode():
        return F.normalize(clip._model.encode_image(batch), dim=-1)


def test_image_embeddings_are_those_of_open_clip(
    clip: Clip, pixels: np.ndarray, expected: Tensor
) -> None:
    found = clip.encode_images(pixels)
    assert (pixels.dtype, pixels.shape[1:]) == (np.uint8, (3, 224, 224))
    assert (found.dtype, found.shape) == (torch.float32, (len(pixels), 512))
    assert (found - expected).abs().max() <= 1e-5
    distances = torch.cdist(expected, expected) + 9 * torch.eye(len(expected))
    assert distances.min() > 0.05


def test_the_encoder_can_be_cut_before_every_block(
    clip: Clip, pixels: np.ndarray, expected: Tensor
) -> None:
    previous = None
    for layer in range(12):
        tokens = clip.tokens_before(pixels[1:2], layer)
        assert tokens.shape == (1, 50, 768)
        assert previous is None or (tokens - previous).abs().max() > 0.01
        assert (clip.finish(tokens, layer) - expected[1:2]).abs().max() <= 1e-5
        previous = tokens


def test_text_embeddings_are_those_of_open_clip(clip: Clip) -> None:
    texts = ["a photo of a white-headed shortbill.", "Its wings are striped.", "a"]
    with torch.inference_mode():
        vectors = clip._model.encode_text(open_clip.get_tokenizer("ViT-B-32")(texts))
    found = clip.encode_texts(texts)
    assert (found - F.normalize(vectors, dim=-1)).abs().max() <= 1e-5
    assert found.norm(dim=-1).numpy() == pytest.approx(1, abs=1e-6)


def squashed(image: Image.Image, side: int) -> np.ndarray:
    return np.moveaxis(np.array(image.resize((side, side), Image.Resampling.BILINEAR)), 2, 0)


def test_a_folder_says_how_its_images_are_resized(
    tmp_path: Path, images: list[Image.Image]
) -> None:
    small_models.write_clip(tmp_path / "m", 56, 8, interpolation="bilinear", resize_mode="squash")
    config = ClipConfig(model=f"local-dir:{tmp_path}/m", weights=None)
    folder = Clip(ClipSource(config, *places(tmp_path)), CPU)
    for image in images:
        assert np.array_equal(folder.preprocess(image), squashed(image, 56))


def test_a_tag_says_how_its_images_are_resized(images: list[Image.Image]) -> None:
    """Tags such as ViT-H-14 dfn5b and ViT-L-14-CLIPA datacomp1b were trained on squashed images."""
    tag = {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    parts = {"model": open_clip.get_model_config("ViT-S-32-alt"), "preprocess": tag}
    source = SimpleNamespace(resolved=Resolved("ViT-S-32-alt", parts, None, seed=0))
    named = Clip(source, CPU)  # type: ignore[arg-type]
    assert named._mean.flatten().tolist() == pytest.approx(tag["mean"])
    for image in images:
        assert np.array_equal(named.preprocess(image), squashed(image, 224))


# --- Attention -------------------------------------------------------------------------------


def vit_of(folder: Path, model: str, weights: str | None = None) -> AttentionVit:
    source = VitSource(VitConfig(model=model, weights=weights), *places(folder))
    return AttentionVit(source, CPU)


def assert_attention(vit: AttentionVit, module: Any, images: list[Image.Image]) -> None:
    found = vit.attention(np.stack([vit.preprocess(image) for image in images]))
    reference = ref.Vit(module)
    assert found.dtype == np.float32
    assert found.shape == (len(images), len(reference.blocks), vit.grid, vit.grid)
    for maps, image in zip(found, images, strict=True):
        exact = np.array(reference.attention(image))
        assert np.abs(maps.reshape(exact.shape) - exact).max() <= 1e-5
        assert exact.std(axis=1).min() > 2e-4


def test_attention_of_dino(tmp_path: Path, images: list[Image.Image]) -> None:
    vit = vit_of(tmp_path, "vit_small_patch16_224.dino", "random:0")
    small_models.fill(vit._model, seed=4, gain=1.3)
    assert (vit.layers, vit.grid) == (12, 14)
    assert np.array_equal(vit.preprocess(images[3]), squashed(images[3], 224))
    assert_attention(vit, vit._model, images[3:])


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("vit_small_patch14_reg4_dinov2", {"img_size": 70}),
        ("vit_small_patch16_224", {"img_size": 64, "qk_norm": True, "depth": 3}),
        ("vit_base_patch16_clip_224", {"img_size": 80, "embed_dim": 96, "num_heads": 4}),
    ],
)
def test_attention_of_other_architectures(
    tmp_path: Path, images: list[Image.Image], architecture: str, sizes: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    small_models.write_vit(folder, architecture, **sizes)
    vit = vit_of(tmp_path, f"local-dir:{folder}")
    assert_attention(vit, small_models.vit_module(folder), images[1:])
