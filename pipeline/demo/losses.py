"""What the demo's CLIP is trained on.

Two losses make the model: captions against views, with every caption that is true of a view counted
as right, and the values of each attribute against the view. A third keeps the sentences of all
values apart: without it "a red head" is but the sum of red and head, and no picture can tell it
from a red tail beside another head. Two more are a scaffold that fades out: the values of all
attributes against the patch tokens, right where they are true of the part that a token lies on, and
the class token's attention in the block before the last. The last block is reached through the
class token alone, as in any CLIP, and no loss tells it where to look.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.demo.attributes import ATTRIBUTES, PARTS, part_of
from pipeline.demo.lessons import Batch
from pipeline.demo.towers import Towers


def losses(towers: Towers, batch: Batch, scaffold: float, spread: bool) -> dict[str, Tensor]:
    """The losses of a batch by name, those of the scaffold weighted."""
    captions = len(batch.captions)
    with torch.autocast("cpu", torch.bfloat16):
        pixels, tokens = (
            batch.pixels.float() / 127.5 - 1,
            torch.cat([batch.captions, batch.questions]),
        )
        encoded = towers(pixels, tokens)
    texts = encoded.texts.float() * towers.clip.logit_scale.exp()
    told, asked = texts[:captions].T, texts[captions:].T
    views, patches = encoded.views.float(), encoded.patches.float()
    found = {
        "captions": matching_loss(views @ told, batch.truth),
        "attributes": answer_loss(views @ asked, batch.answers),
    }
    if spread:
        found["spread"] = spread_loss(encoded.texts[captions:].float())
    if scaffold:
        found["patches"] = scaffold * patch_loss(patches @ asked, batch)
        found["glance"] = scaffold * glance_loss(encoded.glance, batch.patches > 0)
    return found


def matching_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Contrastive loss in both directions, (views, captions), where several may be true of one."""
    sides = []
    for scores, right in ((logits, truth), (logits.T, truth.T)):
        target = right / right.sum(1, keepdim=True).clamp(min=1)
        sides.append(-(target * scores.log_softmax(1)).sum(1).mean())
    return (sides[0] + sides[1]) / 2


def answer_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy among the values of an attribute, mean of attributes.

    Logits are (n, values of all attributes), answers (n, attributes) with -100 for unknown.
    """
    scores = torch.split(logits, [len(values) for values in ATTRIBUTES.values()], 1)
    each = [
        F.cross_entropy(score, answer, reduction="sum") / (answer >= 0).sum().clamp(min=1)
        for score, answer in zip(scores, answers.T, strict=True)
    ]
    return torch.stack(each).mean()


def spread_loss(texts: Tensor) -> Tensor:
    """How alike the sentences of different values are but for what all share; (values, dim)."""
    apart = F.normalize(texts - texts.mean(0), dim=-1)
    return ((apart @ apart.T).square().sum(1) - 1).mean()


def patch_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of patches with what is true of the part they lie on, among all values.

    Logits are (views, patches, values of all attributes); patches that lie on no part do not count.
    """
    sizes = [len(values) for values in ATTRIBUTES.values()]
    facts = [a[:, None] == torch.arange(n) for a, n in zip(batch.answers.T, sizes, strict=True)]
    parts = [1 + PARTS.index(part_of(name)) for name, values in ATTRIBUTES.items() for _ in values]
    true = torch.cat(facts, 1)[:, None] & (batch.patches[:, :, None] == torch.tensor(parts))
    known = true.any(2)
    target = true[known] / true[known].sum(1, keepdim=True)
    return -(target * logits[known].log_softmax(1)).sum(1).mean()


def glance_loss(attention: Tensor, on_bird: Tensor) -> Tensor:
    """Minus the log of the attention that falls on the bird; both are (n, patches)."""
    falls = attention.mul(on_bird).sum(1)
    return -falls[on_bird.any(1)].clamp(min=1e-4).log().mean()
