"""TPT against a plain text tower and a plain step of AdamW, in float64."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.runtime import Runtime
from pipeline.datasets.classes import Classes
from pipeline.methods.base import MethodInputs, ViewVectors
from pipeline.methods.config import ScoresConfig
from pipeline.methods.tpt import Tpt
from pipeline.models.clip.context import ContextEncoder
from pipeline.models.clip.tokenizer import Tokenizer
from pipeline.run import Run
from stages.descriptions import DescriptionsStage
from stages.scores import Scores
from tests.helpers import families, transformers_models
from tests.helpers.runs import DEMO, Runner, make_all
from tests.reference import rivals as ref
from tests.reference.case import array

FOLDER = DEMO / "models" / "clip"
CLOSE = pytest.approx
PROMPTS = ["a photo of a red crow.", "a photo of a heron.", "a photo of a small blue finch."]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of the demo's CLIP, in float64."""
    weights = load_file(FOLDER / "open_clip_model.safetensors")
    return {name: value.double() for name, value in weights.items()}


def plain_vectors(state: dict[str, Tensor], tokens: Tensor, context: Tensor) -> Tensor:
    """Encode texts whose second to fifth token are replaced by a context, by plain products."""
    config = json.loads((FOLDER / "open_clip_config.json").read_text())["model_cfg"]
    heads, length = config["text_cfg"]["heads"], tokens.shape[1]
    quick = config.get("quick_gelu", False)
    x = state["token_embedding.weight"][tokens].clone()
    x = torch.cat([x[:, :1], context.expand(len(x), -1, -1), x[:, 5:]], dim=1)
    x = x + state["positional_embedding"]
    future = torch.ones(length, length).triu(1).bool()

    def norm(values: Tensor, name: str) -> Tensor:
        mean, spread = values.mean(-1, keepdim=True), values.var(-1, unbiased=False, keepdim=True)
        scaled = (values - mean) / (spread + 1e-5).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(values: Tensor, name: str, weight: str = "weight", bias: str = "bias") -> Tensor:
        return values @ state[f"{name}{weight}"].T + state[f"{name}{bias}"]

    for block in range(config["text_cfg"]["layers"]):
        at = f"transformer.resblocks.{block}."
        qkv = linear(norm(x, f"{at}ln_1"), f"{at}attn.", "in_proj_weight", "in_proj_bias")
        q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2))
        logits = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).masked_fill(future, -math.inf)
        mixed = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{at}attn.out_proj.")
        hidden = linear(norm(x, f"{at}ln_2"), f"{at}mlp.c_fc.")
        hidden = hidden * torch.sigmoid(1.702 * hidden) if quick else F.gelu(hidden)
        x = x + linear(hidden, f"{at}mlp.c_proj.")
    ends = norm(x, "ln_final")[torch.arange(len(x)), tokens.argmax(dim=1)]
    vectors = ends @ state["text_projection"]
    return vectors / vectors.norm(dim=1, keepdim=True)


def plain_scores(
    f: Tensor, state: dict[str, Tensor], tokens: Tensor, scale: float, share: float, rate: float
) -> list[float]:
    """Cosines of the first view after one step of AdamW, whose averages are of one gradient."""
    context = state["token_embedding.weight"][tokens[0, 1:5]].clone().requires_grad_()
    logits = scale * f @ plain_vectors(state, tokens, context).T
    doubt = [ref.entropy(row) for row in logits.tolist()]
    kept = sorted(range(len(f)), key=lambda i: doubt[i])[: max(1, int(share * len(f)))]
    mean = torch.stack([logits[i].softmax(0) for i in kept]).mean(dim=0)
    (g,) = torch.autograd.grad(-(mean * mean.log()).sum(), context)
    with torch.no_grad():
        stepped = context * (1 - rate * 0.01) - rate * g / (g.abs() + 1e-8)
        found: list[float] = (plain_vectors(state, tokens, stepped) @ f[0]).tolist()
    return found


def exact_encoder(run_of: Runner, prompts: list[str]) -> ContextEncoder:
    """The encoder of the demo's CLIP, in float64."""
    stage = run_of("scores.methods=[clip]").named("descriptions-clip")[0]
    assert isinstance(stage, DescriptionsStage)
    encoder = ContextEncoder(stage.clip, Runtime(), prompts)
    encoder._model.double()
    encoder._embedded = encoder._embedded.double()
    return encoder


def views(seed: int, count: int, dim: int) -> Tensor:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2, count, dim)) + rng.normal(size=dim)
    return F.normalize(torch.from_numpy(vectors), dim=-1)


def scores(f: Tensor, encoder: ContextEncoder, scale: float, **values: Any) -> Tensor:
    method = Tpt(n=f.shape[1] - 1, **values)
    config = ScoresConfig(logit_scale=scale)
    scorer = method.scorer(MethodInputs({}, config, prompts=lambda name: encoder))
    with torch.inference_mode():
        return scorer(
            slice(0, 2), {"image": ViewVectors(f[:, :1]), "augmented": ViewVectors(f[:, 1:])}
        )


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_against_a_plain_tower(run_of: Runner, state: dict[str, Tensor], share: float) -> None:
    encoder = exact_encoder(run_of, PROMPTS)
    tokens = Tokenizer.of(encoder_source(run_of).resolved).loaded(PROMPTS)
    f = views(3, 20, state["text_projection"].shape[1])
    found = scores(f, encoder, 26.66, share=share, rate=0.02)
    before = f[:, 0] @ encoder(encoder.context).T
    for row, unlearned, own in zip(found, before, f, strict=True):
        expected = plain_scores(own, state, tokens, 26.66, share, 0.02)
        assert row.tolist() == CLOSE(expected, abs=1e-10)
        assert (row - unlearned).abs().max() > 1e-4
    again = scores(f.flip(0), encoder, 26.66, share=share, rate=0.02)
    assert torch.equal(again.flip(0), found)  # the prompt of one image is forgotten for the next


def encoder_source(run_of: Runner) -> Any:
    stage: Any = run_of("scores.methods=[clip]").named("descriptions-clip")[0]
    return stage.clip


def test_the_loss_is_the_entropy_of_the_mean_of_the_surest(state: dict[str, Tensor]) -> None:
    """By hand: of ten views one is kept at a tenth, two at a fifth."""
    logits = torch.full((10, 2), 0.0).double()
    logits[4, 0], logits[7, 1] = 2.0, 1.5
    p, q = 1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(1.5))
    for share, first in ((0.1, p), (0.2, (p + q) / 2)):
        expected = -first * math.log(first) - (1 - first) * math.log(1 - first)
        assert Tpt(share=share).entropy_of_mean(logits).item() == CLOSE(expected, abs=1e-12)


def test_prompts_must_begin_with_the_same_words(run_of: Runner) -> None:
    with pytest.raises(AbsError, match=r"descriptions\.clip: a context can be learned where all"):
        exact_encoder(run_of, [PROMPTS[0], "the photo of a heron."])


def test_many_classes_are_refused(run_of: Runner) -> None:
    stage = run_of("scores.methods=[tpt]").named("scores")[0]
    assert isinstance(stage, Scores)
    stage.check()
    names = tuple(f"class {i}" for i in range(201))
    many = Classes(names, tuple((name,) for name in names), (True,) * 201)
    object.__setattr__(stage, "classes", many)
    with pytest.raises(ConfigError, match=r"tpt learns prompts .* at most 200 classes and not 201"):
        stage.check()


def test_several_prompts_of_a_class_are_refused(run_of: Runner) -> None:
    change = "descriptions.clip.templates=['a photo of a {}.', 'a photo of a big {}.']"
    stage = run_of("scores.methods=[tpt]", change).named("scores")[0]
    with pytest.raises(ConfigError, match=r"descriptions\.clip: tpt learns one prompt of a class"):
        stage.check()


@pytest.mark.parametrize("kind", ["transformers", "custom"])
def test_text_encoders_of_another_kind_are_refused_before_any_work(
    run_of: Runner, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "model"
    family = families.FAMILIES["mobileclip-b"]
    with families.known(family):
        if kind == "transformers":
            transformers_models.write(folder, "altclip")
        else:
            families.write(folder, family)
        changes = (f"clip.model=local-dir:{folder}", "clip.weights=null", "scores.logit_scale=50")
        stage = run_of("scores.methods=[tpt]", *changes).named("scores")[0]
        with pytest.raises(ConfigError, match=r"clip\.model: tpt learns .* is not CLIP's own"):
            stage.check()


def test_it_scores_what_is_stored(made: Run, run_of: Runner, tmp_path: Path) -> None:
    run = run_of("scores.methods=[clip, tpt]", "methods.tpt.n=3")
    assert make_all(run)
    plain, learned = array(run, "scores", "logits").swapaxes(0, 1)
    assert np.abs(learned - plain).max() < 0.3
    assert (learned != plain).all()
