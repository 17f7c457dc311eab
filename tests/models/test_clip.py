"""CLIP's wrapper against open_clip's own encoders and preprocessing.

Architectures are the real ones, weights are noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from pipeline.datasets.images import decode
from pipeline.models.clip.model import ClipModel
from pipeline.models.resolved import Resolved
from tests.helpers import small_models
from tests.helpers.runs import DEMO
from tests.helpers.small_models import CPU, clip_source


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


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipModel:
    loaded = ClipModel(clip_source(tmp_path_factory.mktemp("store"), "ViT-B-32", "random:0"), CPU)
    small_models.fill(loaded._model.visual, seed=3)
    return loaded


@pytest.fixture(scope="module")
def pixels(clip: ClipModel, images: list[Image.Image]) -> Tensor:
    return torch.cat([clip.preprocess(image) for image in images])


@pytest.fixture(scope="module")
def expected(clip: ClipModel, files: list[Path]) -> Tensor:
    """What open_clip makes of the files, alone: its preprocessing, then its encoder."""
    transform = image_transform_v2(PreprocessCfg(size=224), is_train=False)
    batch = torch.stack([transform(Image.open(file)) for file in files])
    with torch.inference_mode():
        return F.normalize(clip._model.encode_image(batch), dim=-1)


@pytest.mark.slow
def test_image_embeddings_are_those_of_open_clip(
    clip: ClipModel, pixels: Tensor, expected: Tensor
) -> None:
    found = clip.encode_images(pixels)
    assert (pixels.dtype, pixels.shape[1:]) == (torch.uint8, (3, 224, 224))
    assert (found.dtype, found.shape) == (torch.float32, (len(pixels), 512))
    assert (found - expected).abs().max() <= 1e-5
    distances = torch.cdist(expected, expected) + 9 * torch.eye(len(expected))
    assert distances.min() > 0.05


@pytest.mark.slow
def test_the_encoder_can_be_cut_before_every_block(
    clip: ClipModel, pixels: Tensor, expected: Tensor
) -> None:
    previous = None
    for layer in range(12):
        tokens = clip.tokens_before(pixels[1:2], layer)
        assert tokens.shape == (1, 50, 768)
        assert previous is None or (tokens - previous).abs().max() > 0.01
        assert (small_models.finished(clip, tokens, layer) - expected[1:2]).abs().max() <= 1e-5
        previous = tokens


def test_text_embeddings_are_those_of_open_clip(clip: ClipModel) -> None:
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
    folder = ClipModel(clip_source(tmp_path, f"local-dir:{tmp_path}/m"), CPU)
    for image in images:
        assert np.array_equal(folder.preprocess(image)[0], squashed(image, 56))


def test_a_tag_says_how_its_images_are_resized(tmp_path: Path, images: list[Image.Image]) -> None:
    """Tags such as ViT-H-14 dfn5b and ViT-L-14-CLIPA datacomp1b were trained on squashed images."""
    tag = {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    parts = {"model": open_clip.get_model_config("ViT-S-32-alt"), "preprocess": tag}
    source = clip_source(tmp_path, "ViT-S-32-alt", "random:0")
    source.__dict__["resolved"] = Resolved("ViT-S-32-alt", parts, None, seed=0)
    named = ClipModel(source, CPU)
    assert named._normalise._mean.flatten().tolist() == pytest.approx(tag["mean"])
    for image in images:
        assert np.array_equal(named.preprocess(image)[0], squashed(image, 224))
