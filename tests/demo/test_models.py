"""The demo's models: folders that open_clip and timm load, and what the cards claim of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.demo.attention import class_attention, from_clip, object_ratio, squashed, timm_weights
from pipeline.demo.build import ATTENTION, CLIP, DEMO
from pipeline.demo.dataset import class_folder
from pipeline.demo.losses import losses
from pipeline.demo.species import descriptions, species
from pipeline.demo.tokenizer import HEADER, learn_merges, load_tokenizer, write_merges
from pipeline.demo.towers import TRAINED_CONTEXT, Towers, new_model
from pipeline.demo.training_data import SIDE, TrainingBatches


@pytest.fixture(scope="module")
def clip() -> open_clip.CLIP:
    return open_clip.create_model(f"local-dir:{CLIP}").eval()


def test_clip_opens_with_its_own_preprocessing_and_vocabulary() -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{CLIP}")
    assert type(model) is open_clip.CLIP
    assert preprocess(Image.new("RGB", (208, 144), (255, 255, 255))).eq(1).all()
    assert model.vocab_size == load_tokenizer(CLIP).vocab_size


def test_every_description_fits_the_positions_that_were_trained() -> None:
    texts = [text for told in descriptions(0.25).values() for text in told]
    tokens = load_tokenizer(CLIP)(texts)
    assert tokens.argmax(1).max() < TRAINED_CONTEXT


def test_towers_are_open_clip_only_quicker(clip: open_clip.CLIP) -> None:
    pixels, tokens = (
        torch.randn(3, 3, SIDE, SIDE),
        load_tokenizer(CLIP)(["a red bird.", "no crest"]),
    )
    with torch.no_grad():
        encoded = Towers(clip)(pixels, tokens)
        torch.testing.assert_close(encoded.views, clip.encode_image(pixels, normalize=True))
        torch.testing.assert_close(encoded.texts, clip.encode_text(tokens, normalize=True))


def test_the_last_block_hears_of_nothing_but_the_class_token() -> None:
    towers, batch = Towers(new_model(CLIP)), TrainingBatches(CLIP, scenes=2, crops=1)[0]
    found = losses(towers, batch, scaffold=1.0, spread=True)
    last = list(towers.clip.visual.transformer.resblocks[-1].parameters())
    scaffold = found["patches"] + found["attention"]
    assert torch.autograd.grad(scaffold, last, retain_graph=True, allow_unused=True) == (
        (None,) * len(last)
    )
    assert all(g is not None for g in torch.autograd.grad(found["captions"], last))


@pytest.mark.slow
def test_class_names_find_their_pictures_far_oftener_than_chance(clip: open_clip.CLIP) -> None:
    names = [one.name.text for one in species()]
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{CLIP}")
    with torch.no_grad():
        texts = clip.encode_text(load_tokenizer(CLIP)([f"a photo of a {n}." for n in names]), True)
        images = clip.encode_image(torch.stack([preprocess(image) for image in pictures(5)]), True)
    right = (images @ texts.T).argmax(1) == torch.arange(len(names)).repeat_interleave(5)
    assert right.float().mean() > 3 / len(names)


def pictures(per_class: int) -> list[Image.Image]:
    folders = [DEMO / "images" / class_folder(one.name.text) for one in species()]
    return [Image.open(path) for folder in folders for path in sorted(folder.iterdir())[:per_class]]


@pytest.mark.slow
def test_attention_opens_in_timm_and_looks_at_the_bird() -> None:
    model = timm.create_model(f"local-dir:{ATTENTION}", pretrained=True).eval()
    names = [class_folder(one.name.text) for one in species()]
    masks = [Image.open(DEMO / "masks" / n / f"{i:02d}.png") for n in names for i in range(4)]
    seen = [np.asarray(mask.resize((SIDE, SIDE))) for mask in masks]
    pixels = torch.from_numpy(np.stack([squashed(image) for image in pictures(4)]))
    rows = class_attention(model, pixels.permute(0, 3, 1, 2) / 127.5 - 1)[:, -1]
    assert object_ratio(rows, torch.from_numpy(np.stack(seen))) >= 2


def test_a_clip_tower_keeps_its_values_under_timms_names(clip: open_clip.CLIP) -> None:
    model, pixels = from_clip(CLIP, depth=4), torch.randn(2, 3, SIDE, SIDE)
    assert "blocks.3.attn.qkv.weight" in timm_weights(
        load_file(CLIP / "open_clip_model.safetensors"), 4
    )
    with torch.no_grad():
        ours = model.forward_features(pixels)[:, 0] @ clip.visual.proj
        torch.testing.assert_close(ours, clip.encode_image(pixels), rtol=1e-4, atol=1e-5)


def test_merges_are_learned_by_frequency_and_written_the_same_every_time(tmp_path: Path) -> None:
    merges = learn_merges(["a red red bird", "red"])
    assert merges[0] == ("e", "d</w>")
    assert ("r", "ed</w>") in merges
    for name in ("one", "two"):
        write_merges(tmp_path / name, merges)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert HEADER.startswith("#version")
