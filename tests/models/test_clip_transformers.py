"""CLIPs in transformers' layout: the same vectors as there, or refused by what they are."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import open_clip.tokenizer
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core.errors import AbsError
from pipeline.models.clip.model import ClipModel
from tests.helpers import small_models
from tests.helpers.small_models import CPU, clip_source

TEXTS = ["a photo of a bird.", "Its wings are striped.", "a"]
SIDE, PATCH = 48, 8

CONFIG: dict[str, Any] = {
    "architectures": ["CLIPModel"],
    "model_type": "clip",
    "projection_dim": 20,
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
    },
    "text_config": {
        "hidden_size": 24,
        "intermediate_size": 50,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 40,
        "layer_norm_eps": 1e-3,
    },
}
PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.25],
}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a CLIPModel."""
    found: dict[str, tuple[int, ...]] = {"logit_scale": ()}
    for kind in ("vision", "text"):
        tower, dim = config[f"{kind}_config"], config["projection_dim"]
        width, inner, start = tower["hidden_size"], tower["intermediate_size"], f"{kind}_model."
        found[f"{kind.replace('vision', 'visual')}_projection.weight"] = (dim, width)
        norms = {
            "vision": ("pre_layrnorm", "post_layernorm"),
            "text": ("final_layer_norm",),
        }[kind]
        linear = {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
        linear |= {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
        for layer in range(tower["num_hidden_layers"]):
            block = f"{start}encoder.layers.{layer}."
            found |= {f"{block}{name}.weight": shape for name, shape in linear.items()}
            found |= {f"{block}{name}.bias": shape[:1] for name, shape in linear.items()}
            norms += tuple(f"encoder.layers.{layer}.layer_norm{number}" for number in (1, 2))
        for norm in norms:
            found |= {f"{start}{norm}.{part}": (width,) for part in ("weight", "bias")}
    vision, text = config["vision_config"], config["text_config"]
    inside = "vision_model.embeddings."
    count = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    patch = (vision["hidden_size"], 3, vision["patch_size"], vision["patch_size"])
    found |= {
        f"{inside}class_embedding": (vision["hidden_size"],),
        f"{inside}patch_embedding.weight": patch,
        f"{inside}position_embedding.weight": (count, vision["hidden_size"]),
        "text_model.embeddings.token_embedding.weight": (49408, text["hidden_size"]),
        "text_model.embeddings.position_embedding.weight": (
            text["max_position_embeddings"],
            text["hidden_size"],
        ),
    }
    return found


def write(
    folder: Path, config: dict[str, Any] = CONFIG, processor: dict[str, Any] | None = None
) -> Path:
    """Write a CLIP with seeded noise in transformers' layout; return its folder."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    rng = np.random.default_rng(4)
    tensors = {}
    for name, shape in shapes(CONFIG).items():
        scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.3
        noise = rng.standard_normal(shape) * (1.0 if "token_embedding" in name else scale)
        tensors[name] = torch.as_tensor(noise + ("norm" in name and "weight" in name)).float()
    old = {f"{kind}_model.embeddings.position_ids": torch.arange(4) for kind in ("text", "vision")}
    save_file({**tensors, **old}, folder / "model.safetensors")
    lines = gzip.decompress(Path(open_clip.tokenizer.default_bpe()).read_bytes()).decode()
    merges = lines.split("\n")[1:48895]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clip") / "m", processor=PROCESSOR)


# --- An independent reference: plain float64 ----------------------------------------------------


class Plain:
    """CLIP by its formulas, from tensors under transformers' names."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        loaded = load_file(folder / "model.safetensors")
        self.weights = {name: value.double() for name, value in loaded.items()}
        self.config = config

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: Tensor, kind: str) -> Tensor:
        epsilon = self.config[f"{kind}_config"].get("layer_norm_eps", 1e-5)
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def activated(self, x: Tensor, kind: str) -> Tensor:
        if self.config[f"{kind}_config"].get("hidden_act", "quick_gelu") == "quick_gelu":
            return x / (1 + (-1.702 * x).exp())
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    def blocks(self, x: Tensor, kind: str, causal: bool) -> Tensor:
        """Run all blocks on one sequence, (tokens, width)."""
        tower = self.config[f"{kind}_config"]
        for layer in range(tower["num_hidden_layers"]):
            block = f"{kind}_model.encoder.layers.{layer}."
            y = self.norm(f"{block}layer_norm1", x, kind)
            q, k, v = (self.linear(f"{block}self_attn.{part}_proj", y) for part in "qkv")
            heads = []
            for qh, kh, vh in zip(
                *(t.chunk(tower["num_attention_heads"], -1) for t in (q, k, v)), strict=True
            ):
                logits = qh @ kh.T / math.sqrt(qh.shape[-1])
                if causal:
                    logits = logits.masked_fill(torch.ones_like(logits).triu(1) > 0, -math.inf)
                heads.append(logits.softmax(-1) @ vh)
            x = x + self.linear(f"{block}self_attn.out_proj", torch.cat(heads, -1))
            inner = self.linear(f"{block}mlp.fc1", self.norm(f"{block}layer_norm2", x, kind))
            x = x + self.linear(f"{block}mlp.fc2", self.activated(inner, kind))
        return x

    def image(self, pixels: Tensor) -> Tensor:
        """Encode one normalised image, (3, side, side), to a unit vector."""
        inside, patch = "vision_model.embeddings.", self.config["vision_config"]["patch_size"]
        patches = pixels.unfold(1, patch, patch).unfold(2, patch, patch).flatten(1, 2)
        kernel = self.weights[f"{inside}patch_embedding.weight"]
        tokens = torch.einsum("cpij,wcij->pw", patches, kernel)
        tokens = torch.cat([self.weights[f"{inside}class_embedding"][None], tokens])
        tokens = tokens + self.weights[f"{inside}position_embedding.weight"]
        tokens = self.norm("vision_model.pre_layrnorm", tokens, "vision")
        first = self.blocks(tokens, "vision", causal=False)[0]
        pooled = self.norm("vision_model.post_layernorm", first, "vision")
        vector = pooled @ self.weights["visual_projection.weight"].T
        return vector / vector.norm()

    def text(self, tokens: list[int]) -> Tensor:
        """Encode the tokens of one text, start and end among them, to a unit vector."""
        inside = "text_model.embeddings."
        x = self.weights[f"{inside}token_embedding.weight"][tokens]
        x = x + self.weights[f"{inside}position_embedding.weight"][: len(tokens)]
        last = self.blocks(x, "text", causal=True)[-1]
        pooled = self.norm("text_model.final_layer_norm", last, "text")
        vector = pooled @ self.weights["text_projection.weight"].T
        return vector / vector.norm()


def noise(count: int) -> Tensor:
    values = np.random.default_rng(8).integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)
    return torch.from_numpy(values)


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(PROCESSOR[key])[:, None, None] for key in ("image_mean", "image_std"))
    return (images.double() / 255 - mean) / std


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("where", ["config", "config_dict"])
def test_vectors_are_those_of_the_formulas(tmp_path: Path, act: str, where: str) -> None:
    towers = {kind: {**CONFIG[f"{kind}_config"], "hidden_act": act} for kind in ("vision", "text")}
    config = {**CONFIG, **{f"{kind}_config": tower for kind, tower in towers.items()}}
    given = {**CONFIG, **{f"{kind}_{where}": tower for kind, tower in towers.items()}}
    folder = write(tmp_path / "m", given, PROCESSOR)
    source = clip_source(tmp_path, f"local-dir:{folder}")
    clip, plain = ClipModel(source, CPU), Plain(folder, config)
    expected = torch.stack([plain.image(image) for image in normalised(noise(3))])
    assert (clip.encode_images(noise(3)) - expected).abs().max() < 1e-6
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=40)(TEXTS).tolist()
    expected = torch.stack([plain.text([t for t in row if t]) for row in tokens])
    assert (clip.encode_texts(TEXTS) - expected).abs().max() < 1e-6
    assert torch.cdist(expected, expected).fill_diagonal_(1).min() > 0.05
    assert source.note == ""


@pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="needs transformers")
def test_vectors_are_those_of_transformers(folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPModel

    theirs = CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
    clip = ClipModel(clip_source(tmp_path, f"local-dir:{folder}"), CPU)
    tokens = clip._tokenizer.loaded(TEXTS)
    with torch.inference_mode():
        images = theirs.get_image_features(pixel_values=normalised(noise(3)).float())
        texts = theirs.get_text_features(input_ids=tokens)
    for found, other in ((clip.encode_images(noise(3)), images), (clip.encode_texts(TEXTS), texts)):
        vectors = getattr(other, "pooler_output", other)  # a tensor before transformers 5
        assert (found - torch.nn.functional.normalize(vectors, dim=-1)).abs().max() < 1e-6


def test_weights_of_that_layout_may_be_given_as_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = clip_source(tmp_path, f"local-dir:{folder}")
    known = {**direct.resolved.architecture["model"], "quick_gelu": False}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", known)
    source = clip_source(tmp_path, "tiny", f"{folder}/model.safetensors")
    assert source.activation == "QuickGELU"
    assert source.preprocess == direct.preprocess
    found, expected = (ClipModel(each, CPU).encode_images(noise(1)) for each in (source, direct))
    assert torch.equal(found, expected)


def test_a_repository_may_be_in_that_layout(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    small_models.write_repository(folder, tmp_path / "cache", "owner/clip")
    found = clip_source(tmp_path, "hf-hub:owner/clip").identity()
    assert found == clip_source(tmp_path, f"local-dir:{folder}").identity()


def test_what_such_a_folder_lacks_is_assumed_and_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / "merges.txt").unlink()
    assert clip_source(tmp_path, f"local-dir:{folder}").note == (
        f"{folder}: no preprocessor_config.json; assumed OpenAI mean and std, bicubic, shortest "
        "side; no merges.txt or tokenizer.json; assumed OpenAI's tokenizer"
    )


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (PROCESSOR, "mean 0.5 0.4 0.3, std 0.2 0.3 0.25, bicubic, shortest side"),
        ({**PROCESSOR, "size": SIDE, "crop_size": SIDE, "resample": 2}, "bilinear, shortest side"),
        (
            {**PROCESSOR, "size": {"height": SIDE, "width": SIDE}, "do_center_crop": False},
            "bicubic, squashed",
        ),
        ({**PROCESSOR, "image_mean": None, "image_std": None}, "OpenAI mean and std, bicubic"),
        ({**PROCESSOR, "do_normalize": False}, "mean 0 0 0, std 1 1 1"),
    ],
)
def test_preprocessing_is_that_of_the_image_processor(
    folder: Path, tmp_path: Path, processor: dict[str, Any], expected: str
) -> None:
    write(tmp_path / "old", processor=processor)
    write(tmp_path / "new")
    (tmp_path / "new" / "processor_config.json").write_text(
        json.dumps({"image_processor": processor})
    )
    for place in ("old", "new"):
        found = clip_source(tmp_path, f"local-dir:{tmp_path}/{place}").preprocess
        assert expected in str(found)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "siglip", "architectures": ["SiglipModel"]}, r"SiglipModel .*type siglip"),
        ({"model_type": "blip"}, r"a model of transformers \(model_type blip\)"),
        ({"model_type": "chinese_clip"}, r"a model of transformers \(model_type chinese_clip\)"),
        (
            {"model_type": "clip", "architectures": ["CLIPVisionModelWithProjection"]},
            "a CLIPVisionModelWithProjection of transformers",
        ),
        ({"architecture": "vit_base_patch16_224"}, "timm's vit_base_patch16_224"),
        ({"a": 1}, "no model configuration of transformers"),
        ([], "is not a mapping"),
    ],
)
def test_another_model_is_named(tmp_path: Path, config: Any, reason: str) -> None:
    write(tmp_path / "m", config)
    with pytest.raises(AbsError, match=reason) as caught:
        _ = clip_source(tmp_path, f"local-dir:{tmp_path}/m").resolved
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "values", "reason"),
    [
        ("vision_config", {"hidden_act": "gelu"}, "hidden_act gelu and quick_gelu"),
        ("text_config", {"hidden_act": "gelu_new"}, "hidden_act gelu_new and quick_gelu"),
        ("vision_config", {"num_channels": 1}, r"vision_config\.num_channels 1, not 3"),
        ("text_config", {"vocab_size": 250002}, r"text_config\.vocab_size 250002, not 49408"),
        ("text_config", {"eos_token_id": 7}, r"text_config\.eos_token_id 7"),
        ("vision_config", {"num_attention_heads": 5}, "sizes that do not fit together"),
        ("vision_config", {"num_attention_heads": 0}, "sizes that do not fit together"),
        ("vision_config", {"hidden_size": "32"}, "sizes that do not fit together"),
        ("vision_config", {"image_size": [48, 32]}, "not a square"),
    ],
)
def test_options_without_a_counterpart_are_refused(
    tmp_path: Path, part: str, values: dict[str, Any], reason: str
) -> None:
    write(tmp_path / "m", {**CONFIG, part: {**CONFIG[part], **values}})
    with pytest.raises(AbsError, match=reason):
        _ = clip_source(tmp_path, f"local-dir:{tmp_path}/m").resolved


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        ({"image_processor_type": "SiglipImageProcessor"}, "a SiglipImageProcessor, not a CLIP"),
        ({"size": {"shortest_edge": 64}}, "a resizing that does not end at 48 pixels"),
        ({"crop_size": 40}, "a resizing that does not end at 48 pixels"),
        ({"do_center_crop": False}, "a resizing that does not end at 48 pixels"),
        ({"do_resize": False}, "a resizing that does not end at 48 pixels"),
        ({"size": {"longest_edge": SIDE}}, "a resizing that does not end at 48 pixels"),
        ({"resample": 1}, "resample 1, neither bilinear nor bicubic"),
        ({"do_rescale": False}, "pixels that are not rescaled"),
        ({"rescale_factor": 1.0}, "pixels that are not rescaled"),
    ],
)
def test_preprocessing_without_a_counterpart_is_refused(
    tmp_path: Path, processor: dict[str, Any], reason: str
) -> None:
    write(tmp_path / "m", processor={**PROCESSOR, **processor})
    with pytest.raises(AbsError, match=reason):
        _ = clip_source(tmp_path, f"local-dir:{tmp_path}/m").resolved


@pytest.mark.parametrize("name", ["merges.txt", "tokenizer.json"])
@pytest.mark.parametrize("pairs", [True, False])
def test_merges_must_be_those_of_openai(tmp_path: Path, name: str, pairs: bool) -> None:
    folder = write(tmp_path / "m", processor=PROCESSOR)
    lines = (folder / "merges.txt").read_text().split("\n")

    def change(merges: list[str]) -> None:
        (folder / "merges.txt").unlink(missing_ok=True)
        content = [merge.split() for merge in merges] if pairs else merges
        tokenizer = json.dumps({"model": {"merges": content}})
        text = "\n".join([lines[0], *merges, ""])
        (folder / name).write_text(text if name == "merges.txt" else tokenizer)

    change(lines[1:-1])
    assert clip_source(tmp_path, f"local-dir:{folder}").note == ""
    change([lines[2], lines[1], *lines[3:-1]])
    with pytest.raises(AbsError, match=rf"{name} has other merges than OpenAI's"):
        _ = clip_source(tmp_path, f"local-dir:{folder}").resolved
