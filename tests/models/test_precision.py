"""What models are given and in which numbers: precision, batches that fit, exact preprocessing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline import settings
from pipeline.core.errors import AbsError
from pipeline.core.runtime import Runtime
from pipeline.kernels import resize
from pipeline.models import precision
from pipeline.models.attention.vit_source import VitSource
from pipeline.models.batches import Batches
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.source import ClipSource
from pipeline.models.config import ClipConfig, VitConfig
from pipeline.models.preprocessing import squashed
from pipeline.run import Run
from tests.helpers.runs import Runner, make_all
from tests.helpers.small_models import CPU, clip_source, vit_source

MODEL = "ViT-S-32-alt"


def loaded(folder: Path, name: str) -> ClipModel:
    source = clip_source(folder, MODEL, "random:0")
    config = ClipConfig(model=MODEL, weights="random:0", precision=name)  # type: ignore[arg-type]
    return ClipModel(ClipSource(config, source.paths, source.digests), CPU)


def noise(count: int, side: int = 224) -> Tensor:
    values = np.random.default_rng(1).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(values)


# --- Precision -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_stays_near_single(tmp_path: Path, name: str) -> None:
    """Whole images, windows of the last block and of one before it, and texts."""
    half, single = (loaded(tmp_path, each) for each in (name, "float32"))
    images, rows = noise(3), torch.tensor([[0, 0, 0, 7, 7], [0, 1, 2, 5, 6], [2, 1, 2, 5, 6]])
    assert half._tower.blocks[0].attn.in_proj_weight.dtype == getattr(torch, name)
    assert half._tower.blocks[-1].attn.in_proj_weight.dtype == torch.float32
    pairs = [
        (half.encode_images(images), single.encode_images(images)),
        (half.encode_texts(["a bird", "wings"]), single.encode_texts(["a bird", "wings"])),
    ]
    for layer in (len(half._tower.blocks) - 1, 1):
        tokens = [clip.tokens_before(images, layer) for clip in (half, single)]
        cut = [
            clip.encode_windows(own, rows, layer, "crop", 2.0)
            for clip, own in zip((half, single), tokens, strict=True)
        ]
        pairs.append((cut[0], cut[1]))
    for short, exact in pairs:
        assert short.dtype == torch.float32
        assert (short * exact).sum(dim=-1).min() > 0.999
        assert not torch.equal(short, exact)


def test_attention_in_half_precision(tmp_path: Path) -> None:
    source = vit_source(tmp_path, "vit_tiny_patch16_224", "random:0")
    config = VitConfig(model="vit_tiny_patch16_224", weights="random:0", precision="bfloat16")
    half = VitSource(config, source.paths, source.digests).load(CPU).attention(noise(2))
    exact = source.load(CPU).attention(noise(2))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.05 * exact.max()


@pytest.mark.slow
def test_clip_itself_as_a_source_of_attention_in_half_precision(tmp_path: Path) -> None:
    half, exact = (
        loaded(tmp_path, name).cls_attention(noise(2)) for name in ("bfloat16", "float32")
    )
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.05 * exact.max()


def test_precision_is_part_of_the_keys_of_what_it_changes(run_of: Runner) -> None:
    single = {stage.name: stage.key for stage in run_of().stages}
    explicit = {s.name: s.key for s in run_of("clip.precision=float32").stages}
    half = {stage.name: stage.key for stage in run_of("clip.precision=bfloat16").stages}
    assert explicit == single
    changed = {name for name in single if half[name] != single[name]}
    assert {"index", "attention", "crops-raw", "crops-feature"}.isdisjoint(changed)
    assert {n for n in single if n.startswith(("embeddings", "descriptions"))} <= changed


def test_auto_is_settled_before_anything_is_keyed_and_says_why(
    run_of: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(settings, "best", lambda device: ("bfloat16", f"{device} likes it"))
    run = run_of("clip.precision=auto", "attention.precision=auto", "runtime.device=cpu")
    assert run.settings.clip.precision == run.settings.attention.precision == "bfloat16"
    keys = [stage.key for stage in run.stages]
    named = run_of("clip.precision=bfloat16", "attention.precision=bfloat16")
    assert keys == [stage.key for stage in named.stages]
    run.execute(run.named("index"), [], quiet=False)
    assert "clip.precision: bfloat16, since cpu likes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"amx_bf16", "avx512_bf16"}, "bfloat16"), ({"avx512_bf16"}, "bfloat16"), (set(), "float32")],
)
def test_what_serves_a_cpu(flags: set[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_flags", lambda: flags)
    assert precision.best("cpu")[0] == expected
    assert precision.best("mps")[0] == "float32"


@pytest.mark.slow
def test_a_run_in_half_precision_ends_like_one_in_single(run_of: Runner, made: Run) -> None:
    run = run_of("clip.precision=bfloat16", "attention.precision=bfloat16")
    make_all(run)
    tables = [each.store.open(each.named("scores")[0]).table("scores") for each in (run, made)]
    assert (tables[0]["pred"] == tables[1]["pred"]).mean() > 0.8


# --- Batches ---------------------------------------------------------------------------------


def batches_of(size: int, device: str = "cpu") -> Batches:
    return Batches(Runtime(batch_size=size), torch.device(device))


def test_the_device_decides_how_many_images_a_batch_has() -> None:
    assert [Batches(Runtime(), torch.device(name)).size for name in ("cpu", "meta")] == [16, 256]
    assert batches_of(7).size == 7


def test_full_batches_are_all_of_one_size_a_multiple_of_16_on_a_cpu() -> None:
    sizes = []

    def model(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return batch * 2

    values = torch.arange(40)
    assert torch.equal(batches_of(7)(model, values, full=True), values * 2)
    assert sizes == [16, 16, 16]
    sizes.clear()
    batches_of(7)(model, values)
    assert sizes == [7, 7, 7, 7, 7, 5]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [5, 16])
def test_a_vector_does_not_depend_on_what_it_is_encoded_with(
    tmp_path: Path, precision: str, size: int
) -> None:
    """To the bit: at another place, among others, and as one of fewer. Whole images, and windows
    of the last block and of the one before it."""
    clip = loaded(tmp_path, precision)
    clip._in_batches.size = size
    images = noise(20)
    vectors = clip.encode_images(images, full=True)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(clip.encode_images(images[order], full=True), vectors[order])
    assert torch.equal(clip.encode_images(images[3:10], full=True), vectors[3:10])
    ends = [(i, j, k, m) for i in (0, 2) for j in (0, 1) for k in (4, 7) for m in (3, 6)]
    rows = torch.tensor([(image, *end) for image in range(3) for end in ends])
    for layer in (len(clip._tower.blocks) - 1, len(clip._tower.blocks) - 2):
        tokens = clip.tokens_before(images[:3], layer)
        all_of_them = clip.encode_windows(tokens, rows, layer, "crop", 2.0).half()
        some = torch.arange(1, len(rows), 3)
        few = clip.encode_windows(tokens, rows[some], layer, "crop", 2.0).half()
        assert torch.equal(few, all_of_them[some])


def test_a_batch_that_does_not_fit_is_halved_and_it_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = []

    def model(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch * 2

    batches, values = batches_of(8, "cuda"), torch.arange(11)
    assert torch.equal(batches(model, values), values * 2)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert batches.size == 2
    assert "continuing with runtime.batch_size=2" in capsys.readouterr().err


def test_one_image_that_does_not_fit_is_an_error() -> None:
    def model(batch: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(AbsError, match="out of memory with batch size 1"):
        batches_of(4, "cuda")(model, torch.arange(4))


# --- Preprocessing ---------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_crops_have_the_bytes_of_pillow_even_of_one_that_resizes_otherwise(
    known: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Pillow that takes its passes in another order than the kernel is found out at once."""
    if not known:
        monkeypatch.setattr(resize, "COLUMNS_FIRST", not resize.COLUMNS_FIRST)
    values = np.random.default_rng(2).integers(0, 256, (500, 90, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    preprocess = squashed(48, "bilinear", torch.device("cpu"))
    assert preprocess.exact == known
    assert ("using Pillow itself" in capsys.readouterr().err) != known
    boxes = np.array([(0, 0, 90, 500), (5, 7, 80, 400)])
    expected = [
        np.asarray(image.crop(tuple(b)).resize((48, 48), Image.Resampling.BILINEAR)) for b in boxes
    ]
    assert np.array_equal(preprocess(image, boxes), np.stack(expected).transpose(0, 3, 1, 2))
    assert torch.equal(preprocess(image), preprocess(image, boxes[:1]))
