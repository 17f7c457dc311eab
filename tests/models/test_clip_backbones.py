"""Which CLIPs can be split for feature crops: what is served runs, what is refused is told why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from pipeline.core.errors import ConfigError
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.source import ClipSource
from pipeline.models.clip.vision import vision_of
from tests.helpers import small_models
from tests.helpers.small_models import CPU, clip_source


def assert_cut_anywhere(clip: ClipModel, source: ClipSource) -> None:
    """Split at any block, the encoder is open_clip's own; and it is what the source says."""
    side = source.image_size
    values = np.random.default_rng(0).integers(0, 256, (1, 3, side, side), dtype=np.uint8)
    image = torch.from_numpy(values)
    with torch.inference_mode():
        expected = F.normalize(clip._model.encode_image(clip._normalise(image)), dim=-1)
    assert expected.shape == (1, source.dim)
    for layer in (0, source.layers // 2, source.layers - 1):
        tokens = clip.tokens_before(image, layer)
        assert tokens.shape[1] == 1 + source.grid**2
        assert (small_models.finished(clip, tokens, layer) - expected).abs().max() <= 1e-5
    assert (clip.encode_images(image) - expected).abs().max() <= 1e-5
    assert len(clip._tower.blocks) == source.layers


@pytest.mark.parametrize(
    "vision",
    [
        {"no_ln_pre": True, "final_ln_after_pool": True},
        {"patch_dropout": 0.5, "output_tokens": False},
        {"ls_init_value": 0.1, "mlp_ratio": 2.5, "pos_embed_type": "sin_cos_2d"},
        {"image_size": [50, 50], "patch_size": [8, 8], "norm_kwargs": {"eps": 1e-3}},
    ],
)
def test_every_option_of_a_vit_is_honoured(tmp_path: Path, vision: dict[str, Any]) -> None:
    small_models.write_clip(tmp_path / "m", 56, 8, vision)
    source = clip_source(tmp_path, f"local-dir:{tmp_path}/m")
    assert source.grid == (6 if "image_size" in vision else 7)
    assert_cut_anywhere(ClipModel(source, CPU), source)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-S-32-alt", "ViT-M-32", "ViT-M-16-alt", "ViT-B-32-256"])
def test_small_models_of_open_clip_run(tmp_path: Path, name: str) -> None:
    source = clip_source(tmp_path, name, "random:0")
    clip = ClipModel(source, CPU)
    assert_cut_anywhere(clip, source)
    assert clip.encode_texts(["a bird"]).shape == (1, source.dim)


SERVED = """
EVA01-g-14 EVA01-g-14-plus EVA02-B-16 EVA02-E-14 EVA02-E-14-plus EVA02-L-14 EVA02-L-14-336
MobileCLIP-B MobileCLIP2-B MobileCLIP2-L-14 PE-Core-B-16 PE-Core-L-14-336 PE-Core-S-16-384
PE-Core-T-16-384 PE-Core-bigG-14-448 coca_ViT-B-32 coca_ViT-L-14 coca_base
vit_medium_patch16_gap_256
ViT-B-16 ViT-B-16-plus ViT-B-16-plus-240 ViT-B-16-quickgelu ViT-B-32 ViT-B-32-256
ViT-B-32-plus-256 ViT-B-32-quickgelu ViT-H-14 ViT-H-14-378 ViT-H-14-378-quickgelu
ViT-H-14-quickgelu ViT-H-16 ViT-L-14 ViT-L-14-280 ViT-L-14-336 ViT-L-14-336-quickgelu
ViT-L-14-quickgelu ViT-L-16 ViT-L-16-320 ViT-M-16 ViT-M-16-alt ViT-M-32 ViT-M-32-alt ViT-S-16
ViT-S-16-alt ViT-S-32 ViT-S-32-alt ViT-bigG-14 ViT-bigG-14-quickgelu ViT-e-14 ViT-g-14
"""


SIGLIP = "vit_base_patch16_siglip_224"


def refusal(name: str, config: Any) -> str:
    """Why a model is refused; empty if it is served."""
    try:
        vision_of(name, config)
    except ConfigError as error:
        return str(error)
    return ""


def test_each_name_of_open_clip_is_served_or_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.models.clip.vision.find_spec", lambda name: None)
    names = open_clip.list_models()
    refusals = {name: refusal(name, open_clip.get_model_config(name)) for name in names}
    assert {name for name in names if not refusals[name]} == set(SERVED.split())
    for name in set(names) - set(SERVED.split()):
        assert refusals[name].startswith(f"clip.model: {name} ")
        assert "(such as ViT-B-16)" in refusals[name]
        assert "\n" not in refusals[name]


def test_a_served_name_has_the_measures_that_its_source_says() -> None:
    for name in ("ViT-L-14-336", "ViT-H-14-378", "ViT-g-14", "ViT-bigG-14-quickgelu"):
        config = open_clip.get_model_config(name)
        found = vision_of(name, config)
        with torch.device("meta"):
            visual = open_clip.CLIP(**config).visual
        assert visual.grid_size == (found.grid, found.grid)
        assert visual.image_size == (found.image_size, found.image_size)
        assert len(visual.transformer.resblocks) == found.layers
        assert visual.proj.shape[1] == found.dim


@pytest.mark.parametrize(
    ("vision", "reason"),
    [
        ({"layers": [3, 4, 6, 3]}, "is a ResNet"),
        ({"timm_model_name": "convnext_base"}, "is built on timm's convnext_base, which is no pl"),
        ({"timm_model_name": SIGLIP, "timm_pool": "token"}, "pools the tokens of .* by .* 'tok"),
        ({"timm_model_name": SIGLIP, "timm_pool": "map"}, r"image_size 56, and timm's .*224 224"),
        ({"attentional_pool": "cascade"}, r"pools its tokens twice \(attentional_pool 'cascade'"),
        ({"pool_type": "max"}, "pools its tokens by pool_type 'max'"),
        ({"image_size": [224, 288]}, r"has the image_size \[224, 288\], not a square"),
        ({"patch_size": [16]}, r"has the patch_size \[16\], not a square"),
        ({"qk_norm": True}, r"has blocks that cannot be split \(qk_norm\)"),
        ({"block_type": "custom"}, "has blocks that cannot be split"),
        ({"layers": "12"}, r"layers, embed_dim, width of \[56, 8, '12', 24, 32\]"),
        ({"layers": 12.5}, "expected whole numbers"),
        ({"image_size": None}, "expected whole numbers"),
        ({"image_size": 7}, "a patch within the image"),
    ],
)
def test_what_cannot_be_split_is_refused_for_its_reason(
    vision: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=rf"clip\.model: mine .*{reason}"):
        vision_of("mine", small_models.clip_config(56, 8, **vision))


@pytest.mark.parametrize("config", [None, [], {}, {"vision_cfg": 3, "text_cfg": {}}])
def test_a_configuration_of_something_else_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="has no vision_cfg and text_cfg"):
        vision_of("mine", config)


def test_a_text_encoder_of_another_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_models.clip_config(56, 8)
    config["text_cfg"]["hf_model_name"] = "google/mt5-base"
    with pytest.raises(ConfigError, match="encodes texts with google/mt5-base of transformers"):
        vision_of("mine", config)
    config["text_cfg"] = {"hf_tokenizer_name": "google/mt5-base"}
    monkeypatch.setattr("pipeline.models.clip.vision.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install transformers"):
        vision_of("mine", config)


def test_a_model_is_refused_before_its_weights_are_looked_for(tmp_path: Path) -> None:
    for weights in ("openai", "random:0", "/nowhere/RN50.pt"):
        with pytest.raises(ConfigError, match=r"clip\.model: RN50(-quickgelu)? is a ResNet"):
            _ = clip_source(tmp_path, "RN50", weights).resolved
    assert not list(tmp_path.iterdir())
