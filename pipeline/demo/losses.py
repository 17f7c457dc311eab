"""Training losses of the demo's CLIP.

Two losses define the task: a contrastive loss between captions and views, in which every caption
that is true of a view is a positive, and a cross-entropy over the values of each attribute. A third
pushes the sentences of different values apart: without it the vector of "a red head" is no more
than the sum of red and head, which also fits a red tail beside another head.

Two auxiliary losses, the scaffold, fade out during training. One classifies patch tokens by the
values that are true of the part they lie on. The other draws the class token's attention in the
last but one block to the bird. As in any CLIP, the last block gets gradients through the class
token only: no loss determines where it attends.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.demo.attributes import ATTRIBUTES, PARTS, part_of
from pipeline.demo.towers import Towers
from pipeline.demo.training_data import Batch


def losses(towers: Towers, batch: Batch, scaffold: float, spread: bool) -> dict[str, Tensor]:
    """Compute the losses of a batch by name.

    `scaffold` is the weight of the auxiliary losses, which 0 leaves out; `spread` adds the loss
    that separates sentences.
    """
    captions = len(batch.captions)
    with torch.autocast("cpu", torch.bfloat16):
        pixels, tokens = (
            batch.pixels.float() / 127.5 - 1,
            torch.cat([batch.captions, batch.attribute_texts]),
        )
        encoded = towers(pixels, tokens)
    texts = encoded.texts.float() * towers.clip.logit_scale.exp()
    caption_vectors, value_vectors = texts[:captions].T, texts[captions:].T
    views, patches = encoded.views.float(), encoded.patches.float()
    terms = {
        "captions": contrastive_loss(views @ caption_vectors, batch.caption_matches),
        "attributes": attribute_loss(views @ value_vectors, batch.labels),
    }
    if spread:
        terms["spread"] = spread_loss(encoded.texts[captions:].float())
    if scaffold:
        terms["patches"] = scaffold * patch_loss(patches @ value_vectors, batch)
        terms["attention"] = scaffold * attention_loss(encoded.attention, batch.patch_parts > 0)
    return terms


def contrastive_loss(logits: Tensor, matches: Tensor) -> Tensor:
    """Compute the symmetric contrastive loss, with several positives per row or column.

    Logits and `matches`, which is True for positives, are (views, captions).
    """
    directions = []
    for scores, positives in ((logits, matches), (logits.T, matches.T)):
        target = positives / positives.sum(1, keepdim=True).clamp(min=1)
        directions.append(-(target * scores.log_softmax(1)).sum(1).mean())
    return (directions[0] + directions[1]) / 2


def attribute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy over the values of each attribute, mean over attributes.

    Logits are (n, values of all attributes), labels (n, attributes) with -100 for unknown.
    """
    scores = torch.split(logits, [len(values) for values in ATTRIBUTES.values()], 1)
    terms = [
        F.cross_entropy(score, label, reduction="sum") / (label >= 0).sum().clamp(min=1)
        for score, label in zip(scores, labels.T, strict=True)
    ]
    return torch.stack(terms).mean()


def spread_loss(texts: Tensor) -> Tensor:
    """Compute the squared cosines between texts of different values, after removing their mean.

    Texts are (values, dim); the result is summed over the other values, mean over values.
    """
    centred = F.normalize(texts - texts.mean(0), dim=-1)
    return ((centred @ centred.T).square().sum(1) - 1).mean()


def patch_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Compute the cross-entropy of patch tokens with the values true of the part they lie on.

    Logits are (views, patches, values of all attributes), with one softmax over all values. Patches
    that lie on no part are left out.
    """
    sizes = [len(values) for values in ATTRIBUTES.values()]
    facts = [
        label[:, None] == torch.arange(size)
        for label, size in zip(batch.labels.T, sizes, strict=True)
    ]
    parts = [1 + PARTS.index(part_of(name)) for name, values in ATTRIBUTES.items() for _ in values]
    true = torch.cat(facts, 1)[:, None] & (batch.patch_parts[:, :, None] == torch.tensor(parts))
    known = true.any(2)
    target = true[known] / true[known].sum(1, keepdim=True)
    return -(target * logits[known].log_softmax(1)).sum(1).mean()


def attention_loss(attention: Tensor, on_bird: Tensor) -> Tensor:
    """Compute the negative log of the attention that falls on the bird; both are (n, patches)."""
    share = attention.mul(on_bird).sum(1)
    return -share[on_bird.any(1)].clamp(min=1e-4).log().mean()
