"""Families of open_clip: vectors of open_clip's own encoders, cut at every block; or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from pipeline.core.errors import ConfigError, MissingInput
from pipeline.models.attention.sources import ClipAttention
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.preprocess import preprocess_of
from pipeline.models.clip.source import ClipSource
from pipeline.models.clip.timm_towers import TOWERS
from pipeline.models.clip.vision import vision_of
from pipeline.models.cls_attention import ClassRows, StopForward, fuse
from pipeline.models.config import ClipConfig
from tests.helpers import families
from tests.helpers.families import FAMILIES, LAYERS, SIDE, Family
from tests.helpers.plain_vit import one_thread
from tests.helpers.runs import Runner
from tests.helpers.small_models import CPU, clip_source

TEXTS = ["A bird!", "a photo of a cat, 3 times and more", "b" * 90]
GRID = 5


@dataclass
class Case:
    """A family with its model, as open_clip builds it and as it is loaded here."""

    name: str
    family: Family
    folder: Path
    source: ClipSource
    clip: ClipModel
    own: Any
    images: Tensor

    def vectors(self) -> Tensor:
        """Vectors of the images by open_clip's own encoder."""
        return unit(self.own.encode_image(self.clip._normalise(self.images)))

    def finished(self, tokens: Tensor, layer: int) -> Tensor:
        """Vectors of tokens that enter a block, by the modules of open_clip and timm."""
        visual = self.own.visual
        if not isinstance(visual, TimmModel):
            for block in visual.transformer.resblocks[layer:]:
                tokens = block(tokens)
            return unit(visual._pool(tokens)[0] @ visual.proj)
        trunk = visual.trunk
        rope = getattr(trunk, "rope", None)
        for block in trunk.blocks[layer:]:
            tokens = block(tokens, rope=rope.get_embed()) if rope else block(tokens)
        return unit(visual.head(trunk.forward_head(trunk.norm(tokens))))


def unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)


@pytest.fixture(params=FAMILIES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Case]:
    folder, family = tmp_path_factory.mktemp(request.param), FAMILIES[request.param]
    with families.known(family), torch.inference_mode(), one_thread():
        own = families.write(folder / "model", family)
        source = clip_source(folder, f"local-dir:{folder / 'model'}")
        clip = ClipModel(source, CPU)
        values = np.random.default_rng(3).integers(0, 256, (3, 3, SIDE, SIDE), dtype=np.uint8)
        images = torch.from_numpy(values)
        yield Case(request.param, family, folder / "model", source, clip, own, images)


def test_images_have_the_vectors_of_open_clip(case: Case) -> None:
    expected = case.vectors()
    assert (case.clip.encode_images(case.images) - expected).norm(dim=-1).max() <= 1e-6
    alone = torch.cat([case.clip.encode_images(image[None]) for image in case.images])
    assert (alone - expected).norm(dim=-1).max() <= 1e-6
    assert expected.shape[1] == case.source.dim
    assert (expected[0] - expected[1]).norm() > 1e-3


def test_texts_have_the_vectors_of_open_clip(case: Case) -> None:
    text = case.family.config["text_cfg"]
    if text.get("hf_tokenizer_name"):
        tokenizer = open_clip.get_tokenizer(f"local-dir:{case.folder}")
    else:
        merges, length = str(case.folder / "merges.txt.gz"), text["context_length"]
        tokenizer = open_clip.SimpleTokenizer(merges, context_length=length)
    expected = unit(case.own.encode_text(tokenizer(TEXTS)))
    assert tokenizer(TEXTS).shape[1] == text["context_length"]
    assert (case.clip.encode_texts(TEXTS) - expected).norm(dim=-1).max() <= 1e-6
    alone = torch.cat([case.clip.encode_texts([each]) for each in TEXTS])
    assert (alone - expected).norm(dim=-1).max() <= 1e-6


WHOLE_TEXTS = {"siglip", "siglip2-so400m", "clipa", "roberta", "coca"}
"""Families whose texts are read to the context length."""


def test_causal_texts_are_read_to_their_end(case: Case) -> None:
    """Texts of every length, in any order, are as exact as open_clip's; little more is read."""
    text = case.family.config["text_cfg"]
    context = text.get("context_length", 77)
    token = "a" if text.get("hf_tokenizer_name") else " a"
    texts = ["a" + token * count for count in np.random.default_rng(5).permutation(context + 2)]
    tokens = case.clip._tokenizer.loaded(texts)
    with read_tokens(case.clip._model) as read:
        found = case.clip.encode_texts(texts)
    exact = unit(deepcopy(case.own).double().encode_text(tokens))
    rounding = (unit(case.own.encode_text(tokens)).double() - exact).norm(dim=-1).max()
    assert (found.double() - exact).norm(dim=-1).max() <= max(1e-6, 1.5 * rounding)
    longest = len(texts) * context
    assert (sum(read) < 0.75 * longest) == (case.name not in WHOLE_TEXTS), sum(read) / longest
    assert sum(read) <= longest


@contextmanager
def read_tokens(model: Any) -> Iterator[list[int]]:
    """Tokens that enter the first embedding of a model's text encoder, padding included."""
    read: list[int] = []
    (table,) = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)][:1]
    handle = table.register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    try:
        yield read
    finally:
        handle.remove()


@pytest.mark.parametrize("layer", range(LAYERS))
def test_the_encoder_can_be_cut_at_every_block(case: Case, layer: int) -> None:
    """The whole grid as a window is the image; a part of it is resized, behind the same prefix."""
    tokens, prefix = case.clip.tokens_before(case.images, layer), case.source.vision.prefix
    assert tokens.shape == (3, prefix + GRID**2, case.source.width)
    assert (case.finished(tokens, layer) - case.vectors()).norm(dim=-1).max() <= 1e-6
    windows = [(0, 0, GRID, GRID), (1, 0, 4, 3), (2, 3, 5, 5), (4, 4, 5, 5)]
    rows = torch.tensor([(image, *window) for image in range(3) for window in windows])
    found = case.clip.encode_windows(tokens, rows, layer, "crop", 2.0)
    assert (found[:: len(windows)] - case.vectors()).norm(dim=-1).max() <= 1e-6
    for (image, left, top, right, bottom), vector in zip(rows.tolist(), found, strict=True):
        first, grid = tokens[image, :prefix], tokens[image, prefix:].unflatten(0, (GRID, GRID))
        part = grid[top:bottom, left:right].permute(2, 0, 1)[None]
        whole = F.interpolate(part, size=(GRID, GRID), mode="bicubic").flatten(2)[0].T
        expected = case.finished(torch.cat([first, whole])[None], layer)[0]
        assert (vector - expected).norm() <= 2e-6


def test_a_masked_window_keeps_the_prefix(case: Case) -> None:
    tokens, prefix = case.clip.tokens_before(case.images[:1], 1), case.source.vision.prefix
    kept = torch.zeros(GRID, GRID)
    kept[1:3, 2:5] = 1
    masked = tokens * torch.cat([torch.ones(prefix), kept.flatten()])[:, None]
    found = case.clip.encode_windows(tokens, torch.tensor([[0, 2, 1, 5, 3]]), 1, "mask", 2.0)
    assert (found - case.finished(masked, 1)).norm() <= 2e-6


ATTENDING = {"siglip", "siglip2-so400m", "pe-core", "pe-core-gigantic", "coca"}
"""Families that pool by attention."""


def test_windows_enter_a_pooling_by_attention_and_no_other(case: Case) -> None:
    vision, attends = case.source.vision, case.name in ATTENDING
    assert vision.window_layers == LAYERS + attends == case.clip._tower.layers
    for layer in range(-LAYERS - attends, LAYERS + attends):
        vision.check_layer(layer)
    for layer in (-LAYERS - attends - 1, LAYERS + attends):
        said_ = "3 blocks and the pooling" if attends else f"no pooling by {vision.pooling}"
        with pytest.raises(ConfigError, match=rf"feature\.layer: {layer} is not one of .*{said_}"):
            vision.check_layer(layer)


def test_a_layer_has_one_key_where_the_pooling_is_one(run_of: Runner, tmp_path: Path) -> None:
    """Elsewhere keys are those of before: tests/golden."""
    with families.known(FAMILIES["siglip"]):
        families.write(tmp_path / "model", FAMILIES["siglip"])
        clip = [f"clip.model=local-dir:{tmp_path / 'model'}", "clip.weights=null"]
        keys = {}
        for layer in (-1, LAYERS, -2, LAYERS - 1):
            run = run_of(*clip, f"feature.layer={layer}")
            keys[layer] = run.named("embeddings-feature")[0].key
    assert keys[-1] == keys[LAYERS] != keys[-2] == keys[LAYERS - 1]


WINDOWS = [(0, 0, GRID, GRID), (1, 0, 4, 3), (2, 3, 5, 5), (4, 4, 5, 5)]


def test_a_window_at_the_pooling_is_read_by_its_query_alone(case: Case) -> None:
    """Attention over the prefix and the window's tokens, by open_clip's and timm's own modules."""
    if case.name not in ATTENDING:
        return
    tokens, prefix = case.clip.tokens_before(case.images, LAYERS), case.source.vision.prefix
    rows = torch.tensor([(image, *window) for image in range(3) for window in WINDOWS])
    found = case.clip.encode_windows(tokens, rows, LAYERS, "crop", 2.0)
    assert (found[:: len(WINDOWS)] - case.vectors()).norm(dim=-1).max() <= 1e-6
    for (image, left, top, right, bottom), vector in zip(rows.tolist(), found, strict=True):
        first, grid = tokens[image, :prefix], tokens[image, prefix:].unflatten(0, (GRID, GRID))
        kept = torch.cat([first, grid[top:bottom, left:right].flatten(0, 1)])
        assert (vector - case.finished(kept[None], LAYERS)[0]).norm() <= 1e-6
    assert (found[1] - found[2]).norm() > 1e-3
    some = torch.tensor([1, 3, 6, 11])
    again = case.clip.encode_windows(tokens, rows[some], LAYERS, "crop", 2.0)
    assert torch.equal(again.half(), found[some].half())


def test_prompts_at_the_pooling_are_those_of_its_attention(case: Case) -> None:
    """`mask` by their own modules; highlights of no strength change nothing, others do."""
    if case.name not in ATTENDING:
        return
    tokens, prefix = case.clip.tokens_before(case.images, LAYERS), case.source.vision.prefix
    rows = torch.tensor([[1, 2, 1, 5, 3]])
    kept = torch.zeros(GRID, GRID)
    kept[1:3, 2:5] = 1
    masked = tokens[1:2] * torch.cat([torch.ones(prefix), kept.flatten()])[:, None]
    found = case.clip.encode_windows(tokens, rows, LAYERS, "mask", 2.0)
    assert (found - case.finished(masked, LAYERS)).norm() <= 1e-6
    image, crop = case.vectors()[1], case.clip.encode_windows(tokens, rows, LAYERS, "crop", 2.0)[0]
    for prompt in ("highlight-fea", "highlight-attn"):
        case.source.vision.check_prompt("it", prompt, -1)
        by_gain = [
            case.clip.encode_windows(tokens, rows, LAYERS, prompt, gain)[0]
            for gain in (1.0, 3.0, 1e4)
        ]
        assert (by_gain[0] - image).norm() <= 1e-6
        assert (by_gain[1] - image).norm() > 1e-3
        if prompt == "highlight-attn" and not prefix:  # almost all attention is in the window
            assert (by_gain[2] - crop).norm() < 1e-2


HIGHLIGHTED = {
    "highlight-fea": set(FAMILIES) - {n for n in FAMILIES if n.startswith(("eva", "pe-core"))},
    "highlight-attn": {"mobileclip-b", "mobileclip2-l", "metaclip2", "dfn", "roberta"},
}


def test_prompts_without_a_place_in_the_blocks_are_refused(case: Case) -> None:
    for prompt in ("crop", "mask"):
        case.source.vision.check_prompt("it", prompt, 0)  # type: ignore[arg-type]
    for prompt, families_ in HIGHLIGHTED.items():
        if case.name in families_:
            case.source.vision.check_prompt("it", prompt, 0)  # type: ignore[arg-type]
            continue
        with pytest.raises(ConfigError, match=rf"feature\.prompt: {prompt} needs .* it lacks"):
            case.source.vision.check_prompt("it", prompt, 0)  # type: ignore[arg-type]


def test_attention_is_that_of_the_class_token_or_refused(case: Case) -> None:
    if not case.source.vision.prefix or case.source.vision.pooling == "mean":
        with pytest.raises(ConfigError, match=r"attention\.model: .* has no class token that its"):
            _ = ClipAttention(case.source).shape
        return
    assert ClipAttention(case.source).shape == (LAYERS, GRID)
    if isinstance(case.own.visual, TimmModel):
        fuse(case.own.modules())
        with ClassRows(stop_after=LAYERS) as rows, pytest.raises(StopForward):
            case.own.encode_image(case.clip._normalise(case.images))
        expected = rows.maps("it", LAYERS, 1, GRID)
        found = case.clip.cls_attention(case.images)
        assert np.abs(found - expected.numpy()).max() <= 1e-6


def test_preprocessing_is_that_of_open_clip(case: Case) -> None:
    given = case.source.resolved.architecture["preprocess"]
    theirs = image_transform_v2(PreprocessCfg(size=SIDE, **given), is_train=False)
    rng = np.random.default_rng(5)
    for height, width in ((70, 190), (97, 31), (SIDE, SIDE)):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        found = case.clip._normalise(case.clip.preprocess(picture))[0]
        assert (found - theirs(picture)).abs().max() <= 1e-6


def test_half_precision_stays_near_single(case: Case) -> None:
    config = ClipConfig(model=case.source.config.model, weights=None, precision="bfloat16")
    half = ClipModel(ClipSource(config, case.source.paths, case.source.digests), CPU)
    found = half.encode_images(case.images)
    assert 0 < (found - case.vectors()).norm(dim=-1).max() < 0.05
    tokens, rows = half.tokens_before(case.images, 1), torch.tensor([[1, 0, 0, GRID, GRID]])
    assert (half.encode_windows(tokens, rows, 1, "crop", 2.0) - found[1]).norm() < 0.02


def test_the_scale_is_that_of_the_checkpoint(case: Case) -> None:
    assert case.clip._model.logit_scale == case.own.logit_scale
    assert (case.own.logit_bias is None) == ("init_logit_bias" not in case.family.model)


CHEAP = ("eva02_base_patch16_clip_224", "vit_base_mci_224", "vit_pe_core_tiny_patch16_384")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in CHEAP else [pytest.mark.slow])
        for name in sorted(TOWERS)
    ],
)
def test_a_listed_encoder_has_the_dimensions_that_timm_builds(name: str) -> None:
    import timm

    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0)
    tower, grid = TOWERS[name], trunk.patch_embed.grid_size
    assert grid == (tower.image_size // tower.patch_size,) * 2
    assert trunk.patch_embed.img_size == (tower.image_size,) * 2
    assert (len(trunk.blocks), trunk.embed_dim) == (tower.layers, tower.width)
    assert trunk.num_prefix_tokens == tower.prefix
    assert (type(trunk.blocks[0]).__name__ != "Block") == tower.eva


def test_every_served_tag_has_the_preprocessing_that_open_clip_states() -> None:
    served = 0
    for name, tag in open_clip.list_pretrained():
        try:
            vision_of(name, open_clip.get_model_config(name))
        except ConfigError:
            continue
        stated = open_clip.get_pretrained_cfg(name, tag)
        found, served = preprocess_of(name, stated), served + 1
        assert tuple(found.mean) == tuple(stated.get("mean") or OPENAI_DATASET_MEAN), (name, tag)
        assert tuple(found.std) == tuple(stated.get("std") or OPENAI_DATASET_STD), (name, tag)
    assert served > 100


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """SigLIP as a name of open_clip, with weights and tokenizer in a folder of weights."""
    family = FAMILIES["siglip"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-siglip", family.config)
    with families.known(family):
        families.write(tmp_path / "tiny" / "siglip", family)
        yield tmp_path


def test_a_name_takes_its_tokenizer_from_the_folder_of_weights(named: Path) -> None:
    file = str(named / "tiny" / "siglip" / "open_clip_model.safetensors")
    source = clip_source(named / "a", "tiny-siglip", file, weights_dir=named)
    assert ClipModel(source, CPU).encode_texts(TEXTS).shape == (3, source.dim)
    before = source.identity()
    tokenizer = named / "tiny" / "siglip" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    assert clip_source(named / "b", "tiny-siglip", file, weights_dir=named).identity() != before
    random = clip_source(named / "c", "tiny-siglip", "random:0", weights_dir=named)
    assert ClipModel(random, CPU).encode_texts(TEXTS).shape == (3, source.dim)
    assert random.identity()["extra"]


def test_a_tokenizer_that_is_nowhere_is_missed_before_any_work(
    named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file = str(named / "tiny" / "siglip" / "open_clip_model.safetensors")
    (named / "tiny" / "siglip" / "tokenizer_config.json").unlink()
    (named / "tiny" / "siglip" / "open_clip_config.json").unlink()
    for weights in (file, "random:0"):
        source = clip_source(named / "c", "tiny-siglip", weights, weights_dir=named)
        with pytest.raises(MissingInput, match=r"tiny/siglip: tokenizer_config\.json, tokenizer\."):
            _ = source.resolved


def test_a_file_without_a_configuration_has_the_preprocessing_of_its_names_tags(
    named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = named / "tiny" / "siglip" / "open_clip_model.safetensors"
    file.with_name("open_clip_config.json").unlink()
    tag = {"hf_hub": "tiny/siglip/", **families.squashed("bicubic")}
    for tags, mode in (({"a": tag, "b": tag}, "squash"), ({"a": tag, "b": {}}, "shortest")):
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-siglip", tags)
        source = clip_source(named / mode, "tiny-siglip", str(file), weights_dir=named)
        assert source.resize_mode == mode
        assert ("squashed" in source.note) == (mode == "squash")
