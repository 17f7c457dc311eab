"""A weights file has the activation and the preprocessing that it was trained with.

They come from the configuration beside it, else from the published file that it is, else they are
assumed, which is said.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import open_clip.factory
import open_clip.pretrained
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from pipeline.core.errors import AbsError, ConfigError
from pipeline.models.clip import names
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.preprocess import OPENAI, preprocess_of, unusual
from pipeline.models.clip.source import ClipSource
from tests.helpers import small_models
from tests.helpers.small_models import CPU, clip_source

HALF = [0.5, 0.5, 0.5]
SQUASHED = {"mean": HALF, "std": HALF, "interpolation": "bilinear", "resize_mode": "squash"}
QUICK = open_clip.transformer.QuickGELU


@pytest.fixture(autouse=True)
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small architecture that open_clip knows by name, with either activation."""
    known = open_clip.factory._MODEL_CONFIGS
    config = small_models.clip_config(56, 8)
    monkeypatch.setitem(known, "tiny", {**config, "quick_gelu": False})
    monkeypatch.setitem(known, "tiny-quickgelu", config)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of the architecture, alone in a folder."""
    module = open_clip.CLIP(**small_models.clip_config(56, 8))
    small_models.fill(module, seed=1)
    (tmp_path / "mine").mkdir()
    save_file({n: v.detach() for n, v in module.named_parameters()}, tmp_path / "mine" / "w.st")
    return (tmp_path / "mine" / "w.st").rename(tmp_path / "mine" / "w.safetensors")


def describe(file: Path, preprocess: Any, quick: bool = True, **vision: Any) -> None:
    """Write open_clip's configuration beside a file."""
    config = {**small_models.clip_config(56, 8, **vision), "quick_gelu": quick}
    content = {"model_cfg": config, "preprocess_cfg": preprocess}
    (file.parent / "open_clip_config.json").write_text(json.dumps(content))


def activation(clip: ClipModel) -> type[nn.Module]:
    """The activation of the text encoder; that of the image encoder is folded."""
    return type(clip._model.transformer.resblocks[0].mlp.gelu)


def picture() -> Image.Image:
    noise = np.random.default_rng(5).integers(0, 256, (70, 190, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def published(
    monkeypatch: pytest.MonkeyPatch, file: Path, digits: int, **settings: Any
) -> dict[str, Any]:
    """Publish a file under its checksum, as a tag of another name."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    url = {64: f"https://example.org/models/{sha256}/T.pt", 8: f"https://e.org/t-{sha256[:8]}.pt"}
    tag = {"url": url[digits], "hf_hub": "owner/tiny/", **settings}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-quickgelu", {"some": tag})
    return tag


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", ["tiny", "tiny-quickgelu"])
def test_the_configuration_beside_a_file_counts(
    tmp_path: Path, file: Path, name: str, quick: bool
) -> None:
    describe(file, SQUASHED, quick)
    source = clip_source(tmp_path, name, str(file))
    clip = ClipModel(source, CPU)
    assert activation(clip) is (QUICK if quick else nn.GELU)
    assert source.activation == ("QuickGELU" if quick else "GELU")
    assert clip._normalise._mean.flatten().tolist() == HALF
    assert clip._normalise._std.flatten().tolist() == HALF
    small = picture().resize((56, 56), Image.Resampling.BILINEAR)
    assert np.array_equal(clip.preprocess(picture())[0], np.moveaxis(np.array(small), 2, 0))
    assert source.note == ""


def test_a_file_is_the_same_model_as_the_folder_that_it_lies_in(tmp_path: Path, file: Path) -> None:
    describe(file, SQUASHED)
    shutil.copy(file, file.with_name("open_clip_model.safetensors"))
    alone = clip_source(tmp_path, "tiny", str(file)).identity()
    assert alone == clip_source(tmp_path, f"local-dir:{file.parent}").identity()


def test_a_configuration_that_says_the_usual_changes_no_key(tmp_path: Path, file: Path) -> None:
    """Files without one had this key before configurations counted, and keep it."""
    before = clip_source(tmp_path / "a", "tiny", str(file)).identity()
    for preprocess in (None, {}, OPENAI, {"interpolation": None}):
        describe(file, preprocess, quick=False)
        found = clip_source(tmp_path / "b", "tiny", str(file)).identity()
        assert found == before
    describe(file, {**OPENAI, "resize_mode": "squash"}, quick=False)
    assert clip_source(tmp_path / "b", "tiny", str(file)).identity() != before


def test_a_configuration_that_comes_or_goes_is_noticed(tmp_path: Path, file: Path) -> None:
    """Resolutions are cached between runs."""

    def source() -> ClipSource:
        return clip_source(tmp_path, "tiny", str(file))

    assert (source().activation, source().resize_mode) == ("GELU", "shortest")
    describe(file, SQUASHED)
    assert (source().activation, source().resize_mode) == ("QuickGELU", "squash")
    describe(file, {**SQUASHED, "resize_mode": "longest"})
    assert source().resize_mode == "longest"
    (file.parent / "open_clip_config.json").unlink()
    assert (source().activation, source().resize_mode) == ("GELU", "shortest")


def test_a_cached_resolution_imports_no_library(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(file, SQUASHED)
    (file.parent / "merges.txt.gz").write_bytes(b"merges")
    first = clip_source(tmp_path, "tiny", str(file)).identity()
    assert first["extra"] == [hashlib.sha256(b"merges").hexdigest()]
    monkeypatch.delattr(names, "resolve")
    assert clip_source(tmp_path, "tiny", str(file)).identity() == first


def test_a_configuration_of_another_model_is_refused(tmp_path: Path, file: Path) -> None:
    describe(file, {}, patch_size=14)
    with pytest.raises(ConfigError, match=r"tiny is another model than .*open_clip_config\.json"):
        _ = clip_source(tmp_path, "tiny", str(file)).resolved


@pytest.mark.parametrize("digits", [64, 8])
@pytest.mark.parametrize("name", ["tiny", "tiny-quickgelu"])
def test_a_published_file_is_known_by_its_checksum(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, digits: int, name: str
) -> None:
    published(monkeypatch, file, digits, quick_gelu=True, **SQUASHED)
    source = clip_source(tmp_path, name, str(file))
    assert source.activation == "QuickGELU"
    assert source.preprocess == preprocess_of("tiny", SQUASHED)
    assert source.note == ""


def test_a_configuration_that_contradicts_the_published_file_is_refused(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, file, 64, quick_gelu=True)
    describe(file, OPENAI, quick=False)
    with pytest.raises(ConfigError, match=r"publishes with QuickGELU.*says GELU.*; move one of"):
        _ = clip_source(tmp_path, "tiny", str(file)).resolved
    describe(file, OPENAI)
    assert clip_source(tmp_path, "tiny", str(file)).activation == "QuickGELU"


@pytest.mark.parametrize(("name", "assumed"), [("tiny", "GELU"), ("tiny-quickgelu", "QuickGELU")])
def test_what_is_assumed_is_said(tmp_path: Path, file: Path, name: str, assumed: str) -> None:
    for _ in range(2):  # resolved, then from the cache
        assert clip_source(tmp_path, name, str(file)).note == (
            f"{file}: no open_clip_config.json beside it; assumed {assumed}, OpenAI mean and std, "
            "bicubic, shortest side"
        )


def test_a_folder_as_weights_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(AbsError, match=r"is a folder; set clip\.model to local-dir:"):
        _ = clip_source(tmp_path, "tiny", str(file.parent)).resolved


# --- Preprocessing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"resize_mode": "crop"}, "resize_mode 'crop'; supported: shortest, longest, squash"),
        ({"interpolation": "nearest"}, "interpolation 'nearest'; supported: bicubic, bilinear"),
        ({"interpolation": ["bicubic"]}, "interpolation"),
        ({"mode": "L"}, "mode 'L'; supported: RGB"),
        ({"mean": [0.5]}, r"mean \[0\.5\]; expected three numbers"),
        ({"mean": [0.5, 0.5, "0.5"]}, "expected three numbers"),
        ({"std": [0.5, 0.5, 0]}, "expected three positive numbers"),
        ({"mean": [123.7, 116.3, 103.5]}, "expected three numbers"),
        ({"mean": [0.5, 0.5, float("nan")]}, "expected three numbers"),
        ({"std": [0.5, 0.5, float("inf")]}, "expected three positive numbers"),
        ([], "a preprocess_cfg that is not a mapping"),
    ],
)
def test_preprocessing_that_is_not_supported_is_refused(
    tmp_path: Path, file: Path, config: Any, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        preprocess_of("mine", config)
    describe(file, config)
    file.rename(file.with_name("open_clip_model.safetensors"))
    for each in (f"local-dir:{file.parent}", "tiny"):
        weights = None if each != "tiny" else f"{file.parent}/open_clip_model.safetensors"
        with pytest.raises(ConfigError, match=reason):
            _ = clip_source(tmp_path, each, weights).resolved


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("kind", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("fill", [0, 99])
def test_pixels_are_those_of_open_clip(
    tmp_path: Path, file: Path, mode: str, kind: str, fill: int
) -> None:
    config = {"interpolation": kind, "resize_mode": mode, "fill_color": fill}
    describe(file, config)
    clip = ClipModel(clip_source(tmp_path, "tiny", str(file)), CPU)
    cfg = PreprocessCfg(size=56, mean=(0,) * 3, std=(1,) * 3, **config)
    expected = image_transform_v2(cfg, is_train=False)(picture()) * 255
    assert np.array_equal(clip.preprocess(picture())[0], expected.round().byte())


def test_every_tag_of_open_clip_has_the_preprocessing_of_the_registry(tmp_path: Path) -> None:
    """Among them 0.5 for LAION's ViT-L-14, squashing for DFN's ViT-H-14, no mean for MobileCLIP."""
    tags = [open_clip.get_pretrained_cfg(*pair) for pair in open_clip.list_pretrained()]
    for tag in tags:
        found = preprocess_of("tag", tag)
        assert (list(found.mean), list(found.std)) == (list(tag["mean"]), list(tag["std"]))
        assert (found.interpolation, found.resize_mode) == (
            tag["interpolation"],
            tag["resize_mode"],
        )
        assert preprocess_of("tag", unusual(tag)) == found
    assert len({preprocess_of("tag", tag) for tag in tags}) > 5


@pytest.mark.parametrize(
    ("name", "tag", "activation", "said"),
    [
        ("ViT-L-14", "laion2b_s32b_b82k", "GELU", "mean 0.5 0.5 0.5, std 0.5 0.5 0.5, bicubic"),
        ("ViT-H-14", "dfn5b", "QuickGELU", "OpenAI mean and std, bicubic, squashed"),
        ("ViT-H-14-378", "dfn5b", "QuickGELU", "squashed"),
        ("ViT-B-16", "dfn2b", "QuickGELU", "shortest side"),
        ("ViT-L-14", "dfn2b_s39b", "GELU", "shortest side"),
        ("ViT-B-32", "laion400m_e32", "QuickGELU", "shortest side"),
        ("ViT-bigG-14", "metaclip_fullcc", "QuickGELU", "shortest side"),
        ("ViT-L-14-336", "openai", "QuickGELU", "OpenAI mean and std, bicubic, shortest side"),
    ],
)
def test_tags_have_their_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tag: str, activation: str, said: str
) -> None:
    monkeypatch.setattr(names, "_file_of", lambda *_: None)
    source = clip_source(tmp_path, name, tag)
    assert source.activation == activation
    assert said in str(source.preprocess)


def test_checksums_are_found_in_every_address_that_has_one() -> None:
    """open_clip checks the downloads of two publishers in this way."""
    checked = 0
    for pair in open_clip.list_pretrained():
        url = open_clip.get_pretrained_cfg(*pair).get("url", "")
        found = names.CHECKSUM.search(url)
        if "openaipublic" in url:
            assert found
            assert found[1] == url.split("/")[-2]
        elif "mlfoundations" in url:
            assert found
            assert found[2] == Path(url).stem.split("-")[-1]
        else:
            assert not found
        checked += bool(found)
    assert checked > 30
