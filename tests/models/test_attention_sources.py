"""Where attention comes from: CLIP against float64, chance by its stream, both in the pipeline."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.core.errors import ConfigError
from pipeline.datasets.contents import FolderContents
from pipeline.datasets.images import Images
from pipeline.models.attention.clip import ClipMaps
from pipeline.models.attention.random import RandomMaps
from pipeline.models.attention.sources import attention_source
from pipeline.models.config import VitConfig
from tests.helpers import small_models
from tests.helpers.runs import ROOT, Runner
from tests.helpers.small_models import CPU, assert_attention, clip_source, places
from tests.reference import formulas as ref

# --- CLIP ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_attention_of_clip(tmp_path: Path, images: Images, pictures: list[Image.Image]) -> None:
    folder = tmp_path / "clip"
    small_models.write_clip(folder, 72, 8)
    clip = clip_source(tmp_path, f"local-dir:{folder}")
    module, config, preprocess, _ = small_models.clip_parts(folder)
    reference = ref.Clip(module, config, preprocess["mean"], preprocess["std"])
    source = attention_source(VitConfig(model="clip"), clip, *places(tmp_path))
    maps = source.load(CPU)
    assert isinstance(maps, ClipMaps)
    assert_attention(maps, images, [reference.attention(picture) for picture in pictures])


def test_attention_of_clip_is_another_artifact_than_clip_itself(tmp_path: Path) -> None:
    identities = []
    for side in (72, 80):
        small_models.write_clip(tmp_path / f"m{side}", side, 8)
        clip = clip_source(tmp_path, f"local-dir:{tmp_path}/m{side}")
        source = attention_source(VitConfig(model="clip"), clip, *places(tmp_path))
        identities += [clip.identity(), source.identity()]
    assert identities[1] == {**identities[0], "view": "squashed"}
    assert identities[1] != identities[3]


# --- Chance ----------------------------------------------------------------------------------


def random_maps(model: str, folder: Path) -> RandomMaps:
    clip = clip_source(folder, "never looked at")
    maps = attention_source(VitConfig(model=model), clip, *places(folder)).load(CPU)
    assert isinstance(maps, RandomMaps)
    return maps


def test_attention_by_chance_is_each_images_own_stream(
    tmp_path: Path, images: Images, pictured: pd.DataFrame
) -> None:
    maps = random_maps("random:3", tmp_path)
    found = maps.attention(maps.read(images, slice(1, 3)))
    assert (found.dtype, found.shape, maps.layers, maps.grid) == (np.float32, (2, 1, 14, 14), 1, 14)
    for noise, sha256 in zip(found, pictured["sha256"][1:], strict=True):
        key = hashlib.blake2b(f"3:attention:{sha256}".encode(), digest_size=16).digest()
        philox = np.random.Philox(key=int.from_bytes(key, "little"))
        expected = np.random.Generator(philox).random(196, dtype=np.float32) * np.float32(2 / 196)
        assert np.array_equal(noise.flatten(), expected)


def test_attention_by_chance_prefers_no_patch(tmp_path: Path) -> None:
    """The top 20 of 2000 images: each patch is in 204 of them, give or take 14."""
    maps = random_maps("random", tmp_path).attention([f"image {i}" for i in range(2000)])
    assert maps.min() >= 0
    assert maps.max() < np.float32(2 / 196)
    assert maps.mean() == pytest.approx(1 / 196, rel=0.01)
    tops = np.argsort(-maps.reshape(2000, -1), axis=1)[:, :20]
    counts = np.bincount(tops.flatten(), minlength=196)
    assert counts.min() > 204 - 5 * 14
    assert counts.max() < 204 + 5 * 14


def test_the_seed_of_chance(tmp_path: Path) -> None:
    clip = clip_source(tmp_path, "never looked at")
    parts = clip, *places(tmp_path)
    names = ("random", "random:0", "random:1")
    bare, zero, one = (attention_source(VitConfig(model=name), *parts) for name in names)
    assert bare.identity() == zero.identity() != one.identity()
    for name in ("random:", "random:x", "random:-1", "random:1.5", "random:²"):
        with pytest.raises(ConfigError, match=r"attention\.model: .*whole number"):
            attention_source(VitConfig(model=name), *parts)


def test_no_image_is_read_for_chance(tmp_path: Path) -> None:
    nowhere = Images(
        FolderContents(tmp_path), pd.DataFrame({"path": ["gone.png"], "sha256": ["0" * 64]})
    )
    maps = random_maps("random", tmp_path)
    assert maps.attention(maps.read(nowhere, slice(0, 1))).shape == (1, 1, 14, 14)


# --- In the pipeline -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "shape"),
    [("random:2", (8, 1, 14, 14)), ("clip", (8, 4, 10, 10))],
)
def test_the_stage_stores_whatever_the_source_makes(
    run_of: Runner, model: str, shape: tuple[int, ...]
) -> None:
    run = run_of(f"attention.model={model}", "attention.weights=anything")
    stages = [run.named("index")[0], run.named("attention")[0]]
    run.execute(stages, [], quiet=True)
    stored = run.store.open(stages[1]).array("attention")[:]
    assert stored.shape == shape
    assert np.isfinite(stored).all()
    assert stages[1].key != run_of().named("attention")[0].key


@pytest.mark.subprocess
def test_sources_are_known_without_torch(tmp_path: Path) -> None:
    small_models.write_clip(tmp_path / "m", 56, 8)
    code = f"""
import sys
from pathlib import Path
from pipeline.models.attention.sources import attention_source
from pipeline.models.config import VitConfig
sys.path.insert(0, {str(ROOT)!r})
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.models.clip.source import ClipSource
from pipeline.models.config import ClipConfig
parts = Paths(artifacts={str(tmp_path)!r}), HashCache(Path({str(tmp_path / "d.json")!r}))
clip = ClipSource(ClipConfig(model="local-dir:{tmp_path}/m", weights=None), *parts)
for name in ("clip", "random"):
    attention_source(VitConfig(model=name), clip, *parts).identity()
print(clip.grid, sorted({{"torch", "open_clip", "timm", "huggingface_hub"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "7 []", done.stderr
