"""Weights files of every kind: what is read, what is refused, and that nothing in them runs."""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import lzma
import math
import os
import pickle
import re
import tarfile
from collections import defaultdict
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import open_clip.factory
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.core.errors import AbsError
from pipeline.models import inert_pickle, weights
from pipeline.models.clip.model import ClipModel
from tests.helpers import small_models
from tests.helpers.small_models import CPU, clip_source, vit_source

OPENAI = {"input_resolution": 56, "context_length": 64, "vocab_size": small_models.VOCABULARY}


@pytest.fixture
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A small architecture that open_clip knows by name, with either activation."""
    names = open_clip.factory._MODEL_CONFIGS
    config = small_models.clip_config(56, 8)
    monkeypatch.setitem(names, "tiny", {**config, "quick_gelu": False})
    monkeypatch.setitem(names, "tiny-quickgelu", config)
    return "tiny"


def clip_module(seed: int = 1) -> nn.Module:
    module = open_clip.CLIP(**small_models.clip_config(56, 8))
    small_models.fill(module, seed)
    return module


def named(module: nn.Module, half: bool = False) -> dict[str, Tensor]:
    return {n: v.detach().half() if half else v.detach() for n, v in module.named_parameters()}


def write_openai(file: Path, tensors: dict[str, Tensor]) -> None:
    """As OpenAI gave out its CLIPs: half precision, sizes among the parameters."""
    sizes = {name: torch.tensor(value) for name, value in OPENAI.items()}
    small_models.write_torchscript(file, {**tensors, **sizes})


def write(file: Path, kind: str, tensors: dict[str, Tensor]) -> None:
    if kind == "safetensors":
        save_file(tensors, file)
    elif kind == "torch":
        torch.save(tensors, file)
    elif kind == "torch before 1.6":
        torch.save(tensors, file, _use_new_zipfile_serialization=False)
    elif kind == "checkpoint":
        wrapped = {f"module.{name}": value for name, value in tensors.items()}
        torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": {"lr": [0.1]}}, file)
    else:
        write_openai(file, tensors)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("safetensors", "w.safetensors"),
        ("torch", "w.pt"),
        ("torch before 1.6", "w.pth"),
        ("checkpoint", "epoch_3.pt"),
        ("OpenAI", "ViT.pt"),
    ],
)
def test_every_kind_of_file_gives_the_tensors_that_are_in_it(
    tmp_path: Path, kind: str, name: str
) -> None:
    tensors = named(clip_module(), half=kind == "OpenAI")
    write(tmp_path / name, kind, tensors)
    found = weights.read(tmp_path / name).tensors
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert weights.is_torchscript(tmp_path / name) == (kind == "OpenAI")


# --- CLIP ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "activation"), [("OpenAI", open_clip.transformer.QuickGELU), ("torch", nn.GELU)]
)
def test_a_file_of_openai_gets_the_activation_it_was_trained_with(
    tmp_path: Path, tiny_name: str, kind: str, activation: type[nn.Module]
) -> None:
    module = clip_module()
    write(tmp_path / "ViT.pt", kind, named(module, half=True))
    source = clip_source(tmp_path, tiny_name, str(tmp_path / "ViT.pt"))
    clip = ClipModel(source, CPU)
    assert source.resolved.name == ("tiny-quickgelu" if kind == "OpenAI" else "tiny")
    assert type(clip._model.transformer.resblocks[0].mlp.gelu) is activation
    first = clip._model.visual.conv1.weight
    assert torch.equal(first, named(module, half=True)["visual.conv1.weight"])
    assert first.dtype == torch.float32


def test_a_file_of_openai_without_its_activation_is_refused(
    tmp_path: Path, tiny_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(open_clip.factory._MODEL_CONFIGS, "tiny-quickgelu")
    write_openai(tmp_path / "ViT.pt", named(clip_module()))
    with pytest.raises(AbsError, match="tiny has another activation than its weights"):
        _ = clip_source(tmp_path, tiny_name, str(tmp_path / "ViT.pt")).resolved


def test_a_torchscript_archive_of_somebody_else_is_refused(tmp_path: Path) -> None:
    small_models.write_torchscript(tmp_path / "mine.pt", named(clip_module()))
    with pytest.raises(AbsError, match=r"mine\.pt cannot be loaded: .*not one of OpenAI's"):
        weights.read(tmp_path / "mine.pt")


def test_weights_of_another_architecture_are_one_line(tmp_path: Path, tiny_name: str) -> None:
    tensors = named(clip_module())
    del tensors["visual.proj"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(AbsError) as caught:
        ClipModel(clip_source(tmp_path, tiny_name, str(tmp_path / "w.safetensors")), CPU)
    assert "w.safetensors" in str(caught.value)
    assert 'Missing key(s) in state_dict: "visual.proj"' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_positions_of_another_grid_are_resampled_as_open_clip_does(
    tmp_path: Path, tiny_name: str
) -> None:
    """The weights are of 7 x 7 tokens, the architecture of 9 x 9."""
    save_file(named(clip_module()), tmp_path / "w.safetensors")
    open_clip.factory._MODEL_CONFIGS["tiny"]["vision_cfg"]["image_size"] = 72
    expected = open_clip.create_model("tiny", pretrained=str(tmp_path / "w.safetensors"))
    clip = ClipModel(clip_source(tmp_path, tiny_name, str(tmp_path / "w.safetensors")), CPU)
    found = clip._model.visual.positional_embedding
    assert found.shape == (82, 32)
    assert torch.equal(found, expected.visual.positional_embedding)


# --- What must not run or is no weights file -------------------------------------------------


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self._marker),)


@pytest.mark.parametrize("how", ["torch", "torch before 1.6", "pickle", "among tensors"])
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "open_clip_pytorch_model.bin"])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, how: str, name: str) -> None:
    marker = tmp_path / "ran"
    trap: Any = {"visual.proj": torch.zeros(2), "x": Trap(marker)}
    if how == "pickle":
        (tmp_path / name).write_bytes(pickle.dumps(trap))
    else:
        trap = trap if how == "among tensors" else Trap(marker)
        torch.save(trap, tmp_path / name, _use_new_zipfile_serialization=how != "torch before 1.6")
    if how == "among tensors":
        assert set(weights.read(tmp_path / name).tensors) == {"visual.proj"}
    else:
        reason = "it is not a mapping" if how == "torch" else ".*as safetensors"
        with pytest.raises(AbsError, match=rf"{name} cannot be loaded: {reason}"):
            weights.read(tmp_path / name)
    assert not marker.exists()
    with suppress(RuntimeError):
        torch.load(tmp_path / name, weights_only=False)
    assert marker.exists()


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        b"<html>404</html>",
        b"PK\x03\x04 no zip after all",
        saved({"a": torch.zeros(9)})[:-40],
        saved([1, 2]),
        saved({}),
        saved({"a": 1}),
        saved(torch.zeros(3)),
    ],
)
def test_what_is_no_weights_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AbsError) as caught:
        weights.read(tmp_path / name)
    assert str(caught.value).startswith(f"weights {tmp_path / name} cannot be loaded: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# --- An attention model ----------------------------------------------------------------------


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, "tar"])
def test_packed_weights_are_named(tmp_path: Path, pack: Any) -> None:
    """Also in tar, which torch would take for its own format before 1.6."""
    file = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(9)}, file)
    if pack == "tar":
        with tarfile.open(tmp_path / "w.tar", "w") as tar:
            tar.add(file, "w.pth")
        file = tmp_path / "w.tar"
    else:
        file.write_bytes(pack(file.read_bytes()))
    with pytest.raises(AbsError, match=r": it is packed \(tar, gzip, ...\); unpack"):
        weights.read(file)


def test_a_part_of_a_models_weights_is_named(tmp_path: Path) -> None:
    for number, count, message in ((2, 3, "it is part 2 of 3; give the folder"), (1, 1, "")):
        file = tmp_path / f"model-{number:05}-of-{count:05}.safetensors"
        save_file({"logit_scale": torch.zeros(1)}, file)
        with pytest.raises(AbsError, match=message) if message else nullcontext():
            assert list(weights.read(file).tensors) == ["logit_scale"]


@pytest.mark.parametrize("extra", [{}, {"mask_token": torch.zeros(1, 1, 192)}])
def test_an_attention_model_takes_a_file_of_its_first_publication(
    tmp_path: Path, extra: dict[str, Tensor]
) -> None:
    """DINO's is named as in timm, DeiT's nested in a checkpoint; DINOv2's has a mask token too."""
    tensors = named(timm.create_model("vit_tiny_patch16_224"))
    torch.save({"model": {**tensors, **extra}} if extra else tensors, tmp_path / "w.pth")
    vit = vit_source(tmp_path, "vit_tiny_patch16_224", str(tmp_path / "w.pth")).load(CPU)
    loaded = named(vit._model)
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert "state_dict" not in vit._model.pretrained_cfg


def test_a_folder_of_an_attention_model_may_hold_a_pickle_of_tensors(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    small_models.write_vit(folder, "vit_tiny_patch16_224", img_size=64, depth=2)
    image = torch.zeros((1, 3, 64, 64), dtype=torch.uint8)
    safe = vit_source(tmp_path, f"local-dir:{folder}").load(CPU).attention(image)
    torch.save(weights.read(folder / "model.safetensors").tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = vit_source(tmp_path, f"local-dir:{folder}").load(CPU).attention(image)
    assert np.array_equal(found, safe)


def test_weights_of_another_attention_model_are_one_line(tmp_path: Path) -> None:
    small_models.write_vit(tmp_path / "m", "vit_tiny_patch16_224", img_size=64, depth=2)
    file = str(tmp_path / "m" / "model.safetensors")
    with pytest.raises(AbsError, match=r"attention weights .*model\.safetensors do not fit: .+"):
        vit_source(tmp_path, "vit_tiny_patch16_224", file).load(CPU)


# --- Checkpoints as they are published --------------------------------------------------------

SMALL = "vit_tiny_patch16_224"


class Trainer:
    """An object of a training run, beside its tensors."""

    def __init__(self) -> None:
        self.arch, self.best = "tiny", np.float64(0.5)


def behind(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def published(kind: str, plain: dict[str, Tensor]) -> Any:
    """A checkpoint of one kind that holds the tensors `plain`."""
    other = {name: value + 1 for name, value in plain.items()}
    backbone = behind("backbone.", plain)
    heads = {"head.mlp.0.weight": torch.zeros(8, 192), "head.last_layer.weight_g": torch.zeros(8)}
    student = behind("module.backbone.", other)
    chunked = {re.sub(r"^blocks\.", "blocks.0.", name): value for name, value in plain.items()}
    lightning = behind("student.backbone.", other) | behind("teacher.backbone.", plain)
    first = [n for n in plain if not n.startswith("blocks.") or n.startswith("blocks.0.")]
    decoder = {"mask_token": torch.zeros(1, 1, 9), "decoder_blocks.0.norm1.weight": torch.zeros(9)}
    return {
        "teacher": {"teacher": {**backbone, **heads}},
        "both": {"student": student, "teacher": {**backbone, **heads}, "epoch": 9},
        "objects": {"teacher": backbone, "args": argparse.Namespace(arch="tiny"), "t": Trainer()},
        "scalars": {"model": plain, "best": np.float32(3), "history": {np.int64(1): [Trainer()]}},
        "backbone": backbone,
        "ema": {
            "state_dict": other,
            "state_dict_ema": behind("module.", plain),
        },
        "lightning": {"state_dict": lightning, "hyper_parameters": {"lr": 0.1}},
        "chunks": {"model": chunked},
        "other head": {**plain, "head.weight": torch.ones(10, 192), "head.bias": torch.ones(10)},
        "tensor beside": {"state_dict": plain, "best_acc1": torch.tensor(7.0)},
        "ema of settings": {"model": plain, "ema": {"decay": torch.tensor(0.99)}},
        "ema of another depth": {"model": plain, "ema": {n: plain[n] for n in first}},
        "ema of another width": {"model": plain, "ema": {n: v[..., :9] for n, v in plain.items()}},
        "quantised ema": {"model": plain, "ema": {n: v.to(torch.int8) for n, v in plain.items()}},
        "twice": {"model": plain, "net": {n: v.clone() for n, v in plain.items()}},
        "net": {"net": plain},
        "model_state_dict": {"model_state_dict": plain},
        "encoder": {"encoder": {"backbone": plain}},
        "defaultdict": {"model": defaultdict(Trainer, plain)},
        "ema in Lightning": {"state_dict": behind("model.", other) | behind("ema_model.", plain)},
        "MoCo v3": {
            "state_dict": behind("module.base_encoder.", {**plain, **heads})
            | behind("module.momentum_encoder.", other)
            | {"module.predictor.0.weight": torch.zeros(3)}
        },
        "MAE": {"model": {**plain, **decoder}},
        "compiled": behind("module._orig_mod.", plain),
        "no head": {name: value for name, value in plain.items() if "head" not in name},
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["teacher", "both", "objects", "scalars", "backbone", "ema", "lightning", "chunks",
     "other head", "no head", "tensor beside", "ema of settings", "ema of another depth",
     "ema of another width", "quantised ema", "twice", "net", "model_state_dict", "encoder",
     "defaultdict", "ema in Lightning", "MoCo v3", "MAE", "compiled"],
)  # fmt: skip
def test_published_checkpoints_give_the_backbones_weights(tmp_path: Path, kind: str) -> None:
    plain = named(timm.create_model(SMALL))
    torch.save(published(kind, plain), tmp_path / "w.pth")
    loaded = named(vit_source(tmp_path, SMALL, str(tmp_path / "w.pth")).load(CPU)._model)
    inner = {name for name in plain if not name.startswith("head")}
    assert all(torch.equal(loaded[name], plain[name]) for name in inner)


def test_a_file_is_read_by_its_content_whatever_its_suffix(tmp_path: Path) -> None:
    save_file({"a": torch.arange(3.0)}, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / "w.pth")
    assert torch.equal(weights.read(tmp_path / "w.pth").tensors["a"], torch.arange(3.0))


def test_an_archive_of_torch_is_read_whatever_its_suffix(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    torch.save({"state_dict": {"a": torch.arange(3.0)}, "args": argparse.Namespace()}, file)
    assert torch.equal(weights.read(file).tensors["a"], torch.arange(3.0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
            "a Git LFS pointer",
        ),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html></html>", "an HTML or XML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an HTML or XML page"),
        (b"Entry not found", "text, not weights; it begins with 'Entry not found'"),
        (b"", "empty"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_was_saved_in_place_of_weights_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AbsError, match=f"{name} cannot be loaded: it is {message}"):
        weights.read(tmp_path / name)


def test_a_missing_tensor_is_an_error_and_not_left_random(tmp_path: Path) -> None:
    plain = named(timm.create_model(SMALL))
    torch.save(
        {name: plain[name] for name in plain if name != "blocks.3.norm1.weight"}, tmp_path / "w.pth"
    )
    with pytest.raises(AbsError, match=r"do not fit: .*blocks\.3\.norm1\.weight"):
        vit_source(tmp_path, SMALL, str(tmp_path / "w.pth")).load(CPU)


def test_a_folder_with_other_classes_than_its_file_lacks_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    small_models.write_vit(folder, SMALL, img_size=64, depth=2, num_classes=7)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"num_classes": 1000, "classifier": "head"}
    (folder / "config.json").write_text(json.dumps(config))
    plain = load_file(folder / "model.safetensors")
    source = vit_source(tmp_path, f"local-dir:{folder}")
    assert torch.equal(source.load(CPU)._model.norm.weight, plain["norm.weight"])
    lost = {name: plain[name] for name in plain if name != "blocks.1.mlp.fc1.weight"}
    save_file(lost, folder / "model.safetensors")
    with pytest.raises(AbsError, match=r"do not fit: .*blocks\.1\.mlp\.fc1\.weight"):
        vit_source(tmp_path, f"local-dir:{folder}").load(CPU)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("vit_small_patch16_224", "the file has width 384, the model 192"),
        ("vit_tiny_patch16_224", "the file has depth 2, the model 12"),
        ("vit_small_patch14_reg4_dinov2", "the file has register tokens 4, the model 0"),
        ("vit_tiny_patch16_384", "image size 384, the model 224; .*=vit_tiny_patch16_384$"),
    ],
)
def test_what_does_not_fit_is_said_in_words(tmp_path: Path, other: str, message: str) -> None:
    depth = {"depth": 2} if other == SMALL else {}
    torch.save(named(timm.create_model(other, **depth)), tmp_path / "w.pth")
    with pytest.raises(AbsError, match=message):
        vit_source(tmp_path, SMALL, str(tmp_path / "w.pth")).load(CPU)


def refusal(folder: Path, model: str, tensors: Any) -> str:
    """The error that a file of `tensors` gives for a model of attention."""
    torch.save(tensors, folder / "w.pth")
    with pytest.raises(AbsError) as caught:
        vit_source(folder, model, str(folder / "w.pth")).load(CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "other", "message"),
    [
        ("vit_small_patch16_224.dino", "vit_small_patch8_224", "patch size 8, the model 16"),
        ("vit_small_patch8_224.dino", "vit_small_patch16_224", "patch size 16, the model 8"),
        ("vit_small_patch16_224", "vit_small_patch32_224", "patch size 32, the model 16"),
    ],
)
def test_another_patch_size_is_refused_and_its_model_named(
    tmp_path: Path, model: str, other: str, message: str
) -> None:
    found = refusal(tmp_path, model, named(timm.create_model(other, depth=12)))
    assert found.endswith(f"the file has {message}; it may be of attention.model={other}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "sizes", "message"),
    [
        ("beit_base_patch16_224", {"img_size": 384}, "image size 384, the model 224"),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 224}, "image size 224, the model 518"),
    ],
)
def test_positions_of_another_image_size_are_refused(
    tmp_path: Path, model: str, sizes: dict[str, int], message: str
) -> None:
    assert message in refusal(tmp_path, model, named(timm.create_model(model, **sizes)))


@pytest.mark.slow
def test_weights_that_timm_translates_are_not_resampled_either(tmp_path: Path) -> None:
    """A CLIP of 56 px, with patches of 8, for a model of patches of 16."""
    module = clip_module()
    message = refusal(tmp_path, "vit_base_patch16_clip_224", module.state_dict())
    assert message.endswith("for another patch size or image size than the model")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float8_e4m3fn, torch.complex64])
def test_quantised_weights_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    plain = named(timm.create_model(SMALL))
    message = refusal(tmp_path, SMALL, {name: value.to(dtype) for name, value in plain.items()})
    assert message.endswith(f"its weights are {str(dtype)[6:]}; only floats can be used")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_without_a_value_are_refused(tmp_path: Path, value: float) -> None:
    plain = named(timm.create_model(SMALL))
    plain["blocks.1.attn.qkv.weight"][3, 5] = value
    message = refusal(tmp_path, SMALL, plain)
    assert message.endswith(
        "blocks.1.attn.qkv.weight has NaN or infinite values; take another checkpoint"
    )


@pytest.mark.slow
def test_what_was_taken_of_several_models_is_said(tmp_path: Path) -> None:
    plain = named(timm.create_model(SMALL))
    other = {name: value + 1 for name, value in plain.items()}
    content = {"student": other, "teacher": {"backbone": plain}}
    for models, taken in [(content, {"weights": "teacher.backbone, not student"}),
                          ({"student": other}, {}), (plain, {}),
                          ({"net": plain, "best": plain}, {})]:  # fmt: skip
        torch.save(models, tmp_path / "w.pth")
        vit = vit_source(tmp_path, SMALL, str(tmp_path / "w.pth")).load(CPU)
        assert {k: v for k, v in vit.environment.items() if k == "weights"} == taken


def test_two_models_of_one_rank_are_refused(tmp_path: Path) -> None:
    plain = named(timm.create_model(SMALL))
    other = {name: value + 1 for name, value in plain.items()}
    message = refusal(tmp_path, SMALL, {"net": plain, "best": other, "student": other})
    assert "different models in net and best; save one of them alone" in message


def test_a_folder_that_chooses_its_image_size_has_positions_resampled(tmp_path: Path) -> None:
    """As timm does; patches stay as they are, unless the folder chooses their size too."""
    folder = tmp_path / "m"
    small_models.write_vit(folder, SMALL, img_size=64, depth=2)
    module = timm.create_model(SMALL, img_size=96, depth=2, num_classes=0)
    save_file(named(module), folder / "model.safetensors")
    vit = vit_source(tmp_path, f"local-dir:{folder}").load(CPU)
    expected = timm.layers.resample_abs_pos_embed(module.pos_embed, [4, 4])
    assert torch.equal(vit._model.pos_embed, expected)
    module = timm.create_model(SMALL, img_size=64, patch_size=8, depth=2, num_classes=0)
    save_file(named(module), folder / "model.safetensors")
    with pytest.raises(AbsError, match="the file has patch size 8, the model 16"):
        vit_source(tmp_path, f"local-dir:{folder}").load(CPU)


def test_a_folder_that_timm_cannot_build_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    small_models.write_vit(folder, SMALL, img_size=64, depth=2)
    (folder / "config.json").write_text('{"architecture": "vit_of_nobody"}')
    with pytest.raises(AbsError, match=r"timm cannot build local-dir:.*vit_of_nobody"):
        vit_source(tmp_path, f"local-dir:{folder}").load(CPU)


def test_a_pickle_cannot_change_what_rebuilds_tensors(tmp_path: Path) -> None:
    """State for an allowed function is refused, and the function stays as it is."""
    function = torch._utils._rebuild_tensor_v2
    before = function.__defaults__
    content = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__Ns\x86b."
    with pytest.raises(pickle.UnpicklingError):
        inert_pickle.Unpickler(io.BytesIO(content)).load()
    assert function.__defaults__ == before
