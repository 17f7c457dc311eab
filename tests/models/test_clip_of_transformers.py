"""ALIGN, AltCLIP, GroupViT and BLIP-2: vectors of transformers' own forward, cut at every block."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.inspect.status import plan
from pipeline.kernels.feature_crops import Sequences, finish
from pipeline.models.attention.sources import ClipAttention
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.of_transformers import families
from pipeline.models.clip.of_transformers.towers import tower_of
from pipeline.models.clip.source import ClipSource
from pipeline.models.clip.tokenizer import find_tokenizer
from pipeline.models.config import ClipConfig
from pipeline.models.precision import Choice
from pipeline.run import Run
from tests.helpers import transformers_models
from tests.helpers.methods import FEW, OF_SETS, OF_VECTORS, PUBLISHED_VIEWS
from tests.helpers.plain_vit import one_thread
from tests.helpers.runs import Runner, bytes_of_arrays, make_all, said
from tests.helpers.small_models import CPU, clip_source
from tests.helpers.transformers_models import FAMILIES, SIDE, Family

TEXTS = ["a bird!", "a photo of a cat, 3 times and more, on a mat", "b" * 60]


@dataclass
class Case:
    """A family with its model, as transformers builds it and as it is loaded here."""

    name: str
    family: Family
    folder: Path
    source: ClipSource
    clip: ClipModel
    own: Any
    images: Tensor

    @property
    def tokens(self) -> dict[str, Tensor]:
        """The texts by transformers' own tokenizer, padded to the longest."""
        words = transformers_models.tokenizer(self.name)(TEXTS, padding=True, return_tensors="pt")
        return {name: words[name] for name in ("input_ids", "attention_mask")}

    def outputs(self) -> Any:
        """What transformers' own forward returns, with all tokens of the texts."""
        config = deepcopy(self.own.config)
        if self.name == "blip-2":
            self.own.config.image_token_index = None
        found = self.own(pixel_values=self.clip._normalise(self.images), **self.tokens)
        self.own.config = config
        return found

    def vectors(self) -> Tensor:
        """Vectors of the images by transformers' own forward; all vectors of one in one row."""
        return F.normalize(self.outputs().image_embeds, dim=-1).flatten(1)

    def finished(self, tokens: Tensor, layer: int) -> Tensor:
        """Vectors of tokens that enter a block, by the modules of transformers."""
        prefix = self.family.prefix
        vision = self.own.vision_model
        if self.name == "align":
            grid = self.family.grid
            places = tokens.mT.unflatten(2, (grid, grid))
            for block in vision.encoder.blocks[-self.family.layers :][layer:]:
                places = block(places)
            return F.normalize(vision.pooler(places).flatten(1), dim=-1)
        if self.name == "groupvit":
            first, *stages = vision.encoder.stages
            tokens = torch.cat([tokens[:, prefix:], tokens[:, :prefix]], dim=1)
            for block in first.layers[layer:]:
                tokens = block(tokens, attention_mask=None)
            segments, groups = tokens[:, :-prefix], tokens[:, -prefix:]
            segments = first.downsample(segments, groups)[0]
            for stage in stages:
                segments, groups = stage(segments, groups)[:2]
            pooled = vision.layernorm(segments).mean(dim=1)
            return F.normalize(self.own.visual_projection(pooled), dim=-1)
        for block in vision.encoder.layers[layer:]:
            out = block(tokens, None) if self.name == "altclip" else block(tokens)
            tokens = out[0] if isinstance(out, tuple) else out
        tokens = vision.post_layernorm(tokens)
        if self.name == "altclip":
            return F.normalize(self.own.visual_projection(tokens[:, 0]), dim=-1)
        queries = self.own.query_tokens.expand(len(tokens), -1, -1)
        read = self.own.qformer(
            query_embeds=queries,
            encoder_hidden_states=tokens,
            encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long),
        )[0]
        return F.normalize(self.own.vision_projection(read), dim=-1).flatten(1)


@pytest.fixture(params=FAMILIES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Case]:
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    with torch.inference_mode(), one_thread():
        own = transformers_models.write(folder / "model", name)
        source = clip_source(folder, f"local-dir:{folder / 'model'}")
        values = np.random.default_rng(3).integers(0, 256, (3, 3, SIDE, SIDE), dtype=np.uint8)
        values[0] //= 3
        images = torch.from_numpy(values)
        clip = ClipModel(source, CPU)
        yield Case(name, FAMILIES[name], folder / "model", source, clip, own, images)


def far(found: Tensor, expected: Tensor) -> float:
    """Largest distance of two vectors."""
    return float((found - expected).norm(dim=-1).max())


def test_images_have_the_vectors_of_transformers(case: Case) -> None:
    expected = case.vectors()
    found = case.clip.encode_images(case.images)
    assert found.shape == (3, case.source.numbers)
    assert far(found, expected) <= 1e-6 * case.family.queries**0.5
    alone = torch.cat([case.clip.encode_images(image[None]) for image in case.images])
    assert far(alone, expected) <= 1e-6 * case.family.queries**0.5
    assert far(expected[:1], expected[1:2]) > 1e-3


def test_texts_have_the_vectors_of_transformers_whatever_they_are_padded_with(case: Case) -> None:
    expected = case.outputs().text_embeds
    assert far(case.clip.encode_texts(TEXTS), expected) <= 1e-6
    alone = torch.cat([case.clip.encode_texts([text]) for text in TEXTS])
    assert far(alone, expected) <= 1e-6
    found = find_tokenizer(case.source.config, case.source.paths)
    padded = torch.from_numpy(found.tokens(TEXTS, found.context_length))
    assert padded.shape == (3, found.context_length)
    by_model = F.normalize(case.clip._model.encode_text(padded), dim=-1)
    assert far(by_model, expected) <= 1e-6


@pytest.mark.parametrize("place", [0, 3, 20, 40])
def test_every_word_of_a_text_counts(case: Case, place: int) -> None:
    words = list("a bird with a long tail and a red crest on its head")
    before = case.clip.encode_texts(["".join(words)])
    words[place] = "z"
    assert far(case.clip.encode_texts(["".join(words)]), before) > 1e-3


def test_blip_2_alone_would_lose_the_first_tokens(case: Case) -> None:
    """The behaviour that is avoided: transformers with a released configuration."""
    if case.name != "blip-2":
        return
    assert case.own.config.image_token_index is not None
    pixels, cut = case.clip._normalise(case.images[:1]), case.family.queries
    tokens = {name: value[1:2] for name, value in case.tokens.items()}
    lost = case.own(pixel_values=pixels, **tokens).text_embeds
    rest = {name: value[:, cut:] for name, value in tokens.items()}
    case.own.config.image_token_index = None
    same = case.own(pixel_values=pixels, **rest).text_embeds
    case.own.config.image_token_index = case.family.config["image_token_index"]
    assert far(lost, same) <= 1e-6
    assert far(lost, case.clip.encode_texts(TEXTS[1:2])) > 0.1


def test_the_encoder_can_be_cut_at_every_block(case: Case) -> None:
    """The whole grid as a window is the image; a part of it is resized, behind the same prefix."""
    expected, prefix, grid = case.vectors(), case.family.prefix, case.family.grid
    windows = [(0, 0, grid, grid), (1, 0, 4, 3), (2, 3, 5, 5)]
    rows = torch.tensor([(image, *window) for image in range(3) for window in windows])
    bound = 2e-6 * case.family.queries**0.5
    for layer in range(case.family.layers):
        tokens = case.clip.tokens_before(case.images, layer)
        assert tokens.shape[:2] == (3, prefix + grid**2)
        assert far(case.finished(tokens, layer), expected) <= bound
        found = case.clip.encode_windows(tokens, rows, layer, "crop", 2.0)
        assert far(found[:: len(windows)], expected) <= bound
        resized = []
        for image, left, top, right, bottom in rows.tolist():
            places = tokens[image, prefix:].unflatten(0, (grid, grid))
            part = places[top:bottom, left:right].permute(2, 0, 1)[None]
            whole = F.interpolate(part, size=(grid, grid), mode="bicubic").flatten(2)[0].T
            resized.append(torch.cat([tokens[image, :prefix], whole]))
        assert far(found, case.finished(torch.stack(resized), layer)) <= bound
    assert tokens.shape[2] == case.source.width == case.family.width


def test_in_float64_the_parts_are_those_of_transformers_to_its_rounding(case: Case) -> None:
    own = deepcopy(case.own).double()
    pixels = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    tower = tower_of(deepcopy(own), case.name, case.source.vision).eval()
    found = finish(tower, Sequences(tower.stem(pixels)), 0)
    own.config.image_token_index = None
    words = case.tokens
    expected = own(pixel_values=pixels, **words).image_embeds
    assert found.dtype == torch.float64
    assert far(F.normalize(found, dim=-1), F.normalize(expected, dim=-1)) <= 1e-12


def test_pixels_are_those_of_transformers_with_pillow(case: Case) -> None:
    """Byte for byte before they are normalised, and as numbers behind it."""
    theirs, rng = transformers_models.processor(case.name), np.random.default_rng(5)
    for height, width in ((70, 191), (97, 31), (SIDE, SIDE), (48, 48), (301, 300)):
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        options = {"do_rescale": False, "do_normalize": False, "include_top": False}
        kept = options if case.name == "align" else {n: options[n] for n in list(options)[:2]}
        expected = np.asarray(theirs(picture, **kept)["pixel_values"][0])
        assert np.array_equal(case.clip.preprocess(picture)[0].numpy(), expected)
        normalised = torch.as_tensor(np.asarray(theirs(picture)["pixel_values"][0]))
        assert (
            case.clip._normalise(case.clip.preprocess(picture))[0] - normalised
        ).abs().max() < 1e-5


PROMPTS = {"align": set(), "altclip": {"highlight-fea", "highlight-attn"}}


def test_prompts_and_attention_without_a_place_are_refused(case: Case) -> None:
    for prompt in ("crop", "mask"):
        case.source.vision.check_prompt("it", prompt, -1)  # type: ignore[arg-type]
    for prompt in ("highlight-fea", "highlight-attn"):
        if prompt in PROMPTS.get(case.name, {"highlight-fea"}):
            case.source.vision.check_prompt("it", prompt, -1)  # type: ignore[arg-type]
            continue
        with pytest.raises(ConfigError, match=rf"feature\.prompt: {prompt} needs .* it lacks"):
            case.source.vision.check_prompt("it", prompt, -1)  # type: ignore[arg-type]
    if case.name in ("align", "groupvit"):
        with pytest.raises(ConfigError, match=r"attention\.model: .* has no class token that its"):
            _ = ClipAttention(case.source).shape
    else:
        grid = case.family.grid
        assert case.clip.cls_attention(case.images).shape == (3, case.family.layers, grid, grid)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near_single(case: Case, precision: Choice) -> None:
    config = ClipConfig(model=case.source.config.model, weights=None, precision=precision)
    half = ClipModel(ClipSource(config, case.source.paths, case.source.digests), CPU)
    if case.name != "groupvit":  # its patches jump from one segment to another
        found = half.encode_images(case.images)
        assert 0 < far(found, case.vectors()) < 0.1 * case.family.queries**0.5
    assert 0 < far(half.encode_texts(TEXTS), case.outputs().text_embeds) < 0.1


def test_the_mean_over_queries_is_one_vector_and_another_identity(case: Case) -> None:
    config = ClipConfig(model=case.source.config.model, weights=None, queries="mean")
    source = ClipSource(config, case.source.paths, case.source.digests)
    if case.family.queries == 1:
        assert source.identity() == case.source.identity()
        return
    assert source.identity() != case.source.identity()
    each = case.vectors().unflatten(1, (case.family.queries, -1))
    found = ClipModel(source, CPU).encode_images(case.images)
    assert found.shape == (3, source.dim) == (3, source.numbers)
    assert far(found, F.normalize(each.mean(dim=1), dim=-1)) <= 1e-6


@pytest.mark.parametrize(("name", "scale"), [("align", 20.0), ("altclip", 14.285)])
def test_the_scale_is_that_of_the_checkpoint_unless_it_is_given(
    name: str, scale: float, tmp_path: Path, run_of: Runner
) -> None:
    """1 / temperature = 1 / 0.05 of ALIGN; exp(2.6592) of the others."""
    transformers_models.write(tmp_path / "model", name)
    model = [f"clip.model=local-dir:{tmp_path / 'model'}", "clip.weights=null"]
    for given, expected in (("null", scale), ("37", 37.0)):
        run = run_of(*model, f"scores.logit_scale={given}")
        (stage,) = run.named("scores")
        assert stage.identity()["config"]["config"]["logit_scale"] == pytest.approx(expected, 1e-3)
        assert stage.config.scaled_temperature == pytest.approx(3 / expected, 1e-3)
    assert list((tmp_path / "store" / "tiny" / ".memory").parent.parent.rglob("scale-*.json"))


def test_the_demos_scale_is_that_of_its_model_not_of_another(run_of: Runner) -> None:
    (own,) = run_of().named("scores")
    assert own.config.logit_scale == 26.661
    (random,) = run_of("clip.model=ViT-B-32", "clip.weights=random:0").named("scores")
    assert random.config.logit_scale == 100.0


def test_a_model_without_a_scale_needs_one_to_be_given(
    tmp_path: Path, run_of: Runner, tiny: Path
) -> None:
    transformers_models.write(tmp_path / "model", "blip-2")
    model = [f"clip.model=local-dir:{tmp_path / 'model'}", "clip.weights=null"]
    with pytest.raises(ConfigError, match=r"scores\.logit_scale: .* cannot be fitted") as raised:
        run_of(*model, "scores.logit_scale=null")
    assert "scores.temperature that you give" in str(raised.value)
    words = [word for each in [*model, "scores.logit_scale=null"] for word in ("-s", each)]
    told = said("doctor", tiny, *words)
    assert "has no logit scale in its checkpoint" in told.stdout + told.stderr
    assert told.returncode == 1
    assert run_of(*model, "scores.logit_scale=100").named("scores")[0].config.scale == 100.0


# --- Folders -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    transformers_models.write(tmp_path / "model", "blip-2")
    return tmp_path / "model"


def resolved(folder: Path) -> ClipSource:
    source = clip_source(folder.parent, f"local-dir:{folder}")
    _ = source.resolved, source.vision
    return source


def change(file: Path, **values: Any) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_what_decides_the_output_is_in_the_identity(folder: Path) -> None:
    before = resolved(folder).identity()
    change(folder / "config.json", transformers_version="4.0", torch_dtype="float16")
    assert resolved(folder).identity() == before
    for file, values in (
        ("preprocessor_config.json", {"resample": 2}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("config.json", {"num_query_tokens": 6}),
    ):
        change(folder / file, **values)
        changed = resolved(folder).identity()
        assert changed != before
        before = changed


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("config.json", {"architectures": ["Blip2ForConditionalGeneration"]}, "no vectors of"),
        ("config.json", {"vision_config": {"image_size": [40, 30]}}, "do not fit together"),
        ("preprocessor_config.json", {"size": {"height": 64, "width": 64}}, "not end at the 40"),
        ("preprocessor_config.json", {"resample": 0}, "neither bilinear"),
        ("preprocessor_config.json", {"image_processor_type": "ViTImageProcessor"}, "has a ViT"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(
    folder: Path, file: str, values: dict[str, Any], words: str
) -> None:
    change(folder / file, **values)
    with pytest.raises(AbsError, match=words) as raised:
        resolved(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("model.safetensors", "weights of CLIP not found"),
    ],
)
def test_a_folder_without_a_file_is_refused(folder: Path, file: str, words: str) -> None:
    (folder / file).unlink()
    with pytest.raises(AbsError, match=words):
        resolved(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(AbsError, match="no files of the tokenizer"):
        resolved(folder)


@pytest.mark.parametrize(
    ("changed", "words"),
    [("missing", "the file has no query_tokens"), ("more", "has a needless x"), ("shape", "fit")],
)
def test_weights_of_another_model_are_refused(folder: Path, changed: str, words: str) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    if changed == "missing":
        del tensors["query_tokens"]
    elif changed == "more":
        tensors["x"] = torch.zeros(1)
    else:
        tensors["query_tokens"] = torch.zeros(1, 4, 32)
    save_file(tensors, file)
    with pytest.raises(AbsError, match=words) as raised:
        ClipModel(resolved(folder), CPU)
    assert "\n" not in str(raised.value)


def test_texts_are_padded_behind_whatever_side_the_folder_has(folder: Path) -> None:
    expected = ClipModel(resolved(folder), CPU).encode_texts(TEXTS)
    change(folder / "tokenizer_config.json", padding_side="left")
    assert far(ClipModel(resolved(folder), CPU).encode_texts(TEXTS), expected) == 0


def test_a_padding_that_the_model_would_read_is_refused(folder: Path) -> None:
    text = FAMILIES["blip-2"].config["qformer_config"]
    change(folder / "config.json", qformer_config={**text, "pad_token_id": 7})
    with pytest.raises(AbsError, match="pads with token 0, its model with 7"):
        ClipModel(resolved(folder), CPU).encode_texts(TEXTS)
    change(folder / "config.json", qformer_config={**text, "pad_token_id": None})
    assert ClipModel(resolved(folder), CPU).encode_texts(TEXTS).shape == (3, 24)


@pytest.mark.parametrize(
    "changes",
    [
        {"rescale_factor": 0},
        {"image_mean": 0.5},
        {"image_mean": [0.5, 0.5]},
        {"image_std": [0, 1, 1]},
        {"resample": [3]},
    ],
)
def test_an_image_processor_with_values_that_cannot_be_is_refused(
    folder: Path, changes: dict[str, Any]
) -> None:
    change(folder / "preprocessor_config.json", **changes)
    with pytest.raises(AbsError, match=r"three (channels|numbers|positive)|has resample"):
        resolved(folder)


def test_a_padding_that_is_null_is_the_tokenizers(tmp_path: Path) -> None:
    """transformers fails at an AltCLIP without one, where it counts the positions of a text."""
    transformers_models.write(tmp_path / "model", "altclip")
    expected = ClipModel(resolved(tmp_path / "model"), CPU).encode_texts(TEXTS)
    text = FAMILIES["altclip"].config["text_config"]
    change(tmp_path / "model" / "config.json", text_config={**text, "pad_token_id": None})
    found = ClipModel(resolved(tmp_path / "model"), CPU).encode_texts(TEXTS)
    assert torch.equal(found, expected)


def test_parts_of_an_older_configuration_overrule(tmp_path: Path) -> None:
    """As in transformers, which builds the model by them; read alone, they give its dimensions."""
    transformers_models.write(tmp_path / "altclip", "altclip")
    expected = ClipModel(resolved(tmp_path / "altclip"), CPU).encode_texts(TEXTS)
    own = FAMILIES["altclip"].config
    older = {f"{name}_config_dict": own[f"{name}_config"] for name in ("text", "vision")}
    change(tmp_path / "altclip" / "config.json", **older, text_config={}, vision_config=None)
    source = resolved(tmp_path / "altclip")
    assert source.grid == FAMILIES["altclip"].grid
    assert far(ClipModel(source, CPU).encode_texts(TEXTS), expected) == 0


@pytest.mark.parametrize("part", ["text_config", "text_config_dict"])
def test_a_padding_that_is_null_is_that_of_the_family(tmp_path: Path, part: str) -> None:
    transformers_models.write(tmp_path / "altclip", "altclip")
    expected = ClipModel(resolved(tmp_path / "altclip"), CPU).encode_texts(TEXTS)
    text = FAMILIES["altclip"].config["text_config"]
    change(tmp_path / "altclip" / "config.json", **{part: {**text, "pad_token_id": None}})
    assert far(ClipModel(resolved(tmp_path / "altclip"), CPU).encode_texts(TEXTS), expected) == 0


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.tensor(math.nan), "the logit scale nan"),
        (torch.tensor(1000.0), "the logit scale inf"),
        (torch.tensor(-math.inf), "the logit scale 0.0"),
        (torch.ones(2), "has no logit scale"),
    ],
)
def test_a_logit_scale_that_cannot_be_is_refused(
    tmp_path: Path, tensor: Tensor, words: str
) -> None:
    transformers_models.write(tmp_path / "altclip", "altclip")
    file = tmp_path / "altclip" / "model.safetensors"
    save_file({**load_file(file), "logit_scale": tensor}, file)
    with pytest.raises(ConfigError, match=words):
        resolved(tmp_path / "altclip").scale(None)
    assert resolved(tmp_path / "altclip").scale(50.0) == 50


def test_a_head_that_no_vector_depends_on_may_be_missing(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({name: v for name, v in tensors.items() if not name.startswith("itm_head")}, file)
    assert ClipModel(resolved(folder), CPU).encode_texts(["a bird"]).shape == (1, 24)


def test_a_name_of_the_hub_that_is_nowhere_is_missed_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = clip_source(tmp_path, "hf-hub:kakaobrain/align-base", weights_dir=tmp_path)
    with pytest.raises(
        MissingInput, match=r"kakaobrain/align-base: .*set clip\.model to local-dir"
    ):
        _ = source.resolved


PUBLISHED = {
    "align": ({"vision_config": {"image_size": 289, "hidden_dim": 640}}, (9, 16, 640, 0, 1)),
    "altclip": (
        {"vision_config": {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14}},
        (16, 24, 1024, 1, 1),
    ),
    "groupvit": ({}, (14, 6, 384, 64, 1)),
    "blip-2": ({}, (16, 39, 1408, 1, 32)),
}
"""Published sizes: the configuration, then grid, blocks, width, tokens before the patches, queries.

Those of ALIGN and GroupViT are the sizes that transformers' own model has (below).
"""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_known_without_building_a_model(name: str) -> None:
    config, expected = PUBLISHED[name]
    vision = families.vision_of("it", {"model_type": name, **config})
    found = vision.grid, vision.layers, vision.width, vision.prefix, vision.queries
    assert found == expected


@pytest.mark.slow
def test_the_map_of_align_is_that_of_transformers() -> None:
    """Its size behind each stride depends on padding that differs from layer to layer."""
    import transformers

    for side, padding in ((289, []), (224, []), (77, [0, 4, 11])):
        config = {"vision_config": {"image_size": side, "depthwise_padding": padding}}
        vision = families.vision_of("it", {"model_type": "align", **config})
        described = transformers.AlignVisionConfig(image_size=side, depthwise_padding=padding)
        with torch.device("meta"):
            model = transformers.AlignVisionModel(described)
            places = model.embeddings(torch.zeros(1, 3, side, side))
            sizes = [places := block(places) for block in model.encoder.blocks]
        assert places.shape[1:] == (vision.dim, vision.grid, vision.grid)
        entering = [each.shape[2] for each in sizes[:-1]]
        assert entering[-vision.layers :] == [vision.grid] * vision.layers
        assert entering[-vision.layers - 1] > vision.grid


# --- A dataset from end to end -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        pytest.param(name, "max", marks=[] if name == "blip-2" else pytest.mark.slow)
        for name in FAMILIES
    ]
    + [pytest.param("blip-2", "mean", marks=pytest.mark.slow)],
)
def test_a_dataset_runs_from_end_to_end(
    name: str, queries: str, tiny: Path, run_of: Runner, tmp_path: Path
) -> None:
    """Methods of each kind, for one model all; computed again, everything is the same."""
    transformers_models.write(tmp_path / "model", name)
    several = FAMILIES[name].queries > 1 and queries == "max"
    chosen = OF_VECTORS if name == "altclip" else [*OF_SETS, *([] if several else ["mta-crops"])]
    methods = ",".join(chosen)
    changes = [
        f"clip.model=local-dir:{tmp_path / 'model'}",
        "clip.weights=null",
        f"clip.queries={queries}",
        f"scores.methods=[{methods}]",
        "scores.logit_scale=50",
        *([] if several else PUBLISHED_VIEWS),
        *FEW,
    ]
    with one_thread():
        run = run_of(*changes)
        planned = {row["stage"]: row["writes"] for row in plan(run.store, run.stages)}
        make_all(run)
        _check_bytes(run, planned)
        words = ["--dataset", str(tiny), *(word for each in changes for word in ("--set", each))]
        assert said("verify", "--deep", *words).returncode == 0
        refused = said("run", *words, "--set", "feature.prompt=highlight-attn")
        if name != "altclip":
            assert refused.returncode == 2
            assert "feature.prompt: highlight-attn needs" in refused.stderr
            planned = said("plan", *words, "--set", "feature.prompt=highlight-attn")
            assert (planned.returncode, planned.stderr) == (2, refused.stderr)
        if several:
            _check_sets(run_of(*changes), words)


def _check_bytes(run: Run, planned: dict[str, int]) -> None:
    """What was planned on an empty store is what was written, also of several vectors a view."""
    for stage in run.stages:
        if stage.name.startswith("embeddings"):
            assert planned[stage.name] == bytes_of_arrays(run, stage.name) > 0


def _check_sets(run: Run, words: list[str]) -> None:
    """Scores are those of the definition, from the stored vectors; what needs one is refused."""
    (raw,) = run.named("embeddings-raw")
    array = run.store.open(raw).array("embeddings")
    assert array.shape == (8, 2, FAMILIES["blip-2"].queries, 24)
    (stage,) = run.named("scores")
    worker = stage.worker(run.store)
    parts = [worker.read(unit) for unit in stage.units(run.store)]
    views = {
        name: np.concatenate([part[name][0] for part in parts])[:, :2].astype(np.float64)
        for name in ("image", "raw", "feature")
    }
    cupl = run.store.open(run.named("descriptions-cupl")[0])
    texts, label = cupl.array("embeddings")[:], cupl.table("texts")["label"].to_numpy()
    logits = run.store.open(stage).array("logits")[:]
    place = {name: number for number, name in enumerate(stage.methods)}
    of_class = np.stack([texts[label == c].mean(axis=0) for c in range(logits.shape[2])])
    of_class /= np.linalg.norm(of_class, axis=1, keepdims=True)
    expected = (views["image"][:, 0] @ of_class.T).max(axis=1)
    assert np.abs(logits[:, place["cupl"]] - expected).max() < 1e-5
    crops = np.concatenate([views["raw"], views["feature"]], axis=1)
    cosines = (crops @ texts.T).max(axis=2)
    weights = np.exp(cosines / (0.03 * 2))
    weights /= weights.sum(axis=2, keepdims=True)
    by_text = (weights * cosines).sum(axis=1)
    by_class = [by_text[:, label == c].sum(axis=1) for c in range(logits.shape[2])]
    assert np.abs(logits[:, place["abs"]] - np.stack(by_class, axis=1)).max() < 1e-4
    for setting, reason in (
        ("scores.methods=[mta]", "takes one vector of a view"),
        ("scores.settle=0.1", "scores.settle: .* gives a crop 5 vectors"),
    ):
        refused = said("run", *words, "--set", setting)
        assert refused.returncode == 2
        assert re.search(reason, refused.stderr)
    refused = said("explain", "1", *words)
    assert refused.returncode == 2
    assert "cannot be explained" in refused.stderr
