"""Confidence of predictions: entropies, in nats, of softmax distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.kernels.sums import sums_of_others


def entropy(logits: Tensor) -> Tensor:
    """Compute the entropy of softmax(logits) over the last axis, from 0 to log(classes).

    Args:
        logits: (..., classes), finite.

    Returns:
        Nats, (...).
    """
    logs = logits.log_softmax(dim=-1)
    return -(logs.exp() * logs).sum(dim=-1)


def entropy_with(logits: Tensor, others: Tensor) -> Tensor:
    """Compute the entropy of softmax(logits) with one class's logit replaced by another.

    Sums over the classes that stay are formed without subtraction, so that a class of nearly all
    probability can be replaced without loss.

    Args:
        logits: (images, classes), finite.
        others: Logits that replace that of their class, one at a time, (images, classes, each).

    Returns:
        Nats, (images, classes, each), of the dtype of `others`.
    """
    if logits.shape[1] == 1:
        return torch.zeros_like(others)
    rest, centre = (each[..., None] for each in _without_each(logits.double()))
    new = others.double()
    total = torch.logaddexp(rest, new)
    result = (rest - total).exp() * (total - centre) + (new - total).exp() * (total - new)
    return result.to(others.dtype)


def _without_each(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Compute log-sum-exp and expected logit of all classes but one, for each: (images, classes).

    Differences are taken from the highest logit of those that stay.
    """
    values, places = logits.topk(2, dim=1)
    top = places[:, :1]
    highest = values[:, :1].expand_as(logits).scatter(1, top, values[:, 1:])
    apart = logits - values[:, :1]
    below = (logits - values[:, 1:]).scatter(1, top, -torch.inf)
    mass, product = sums_of_others(apart.exp()), sums_of_others(apart.exp() * apart)
    own = below.exp()
    mass = mass.scatter(1, top, own.sum(dim=1, keepdim=True))
    product = product.scatter(1, top, torch.where(own > 0, own * below, 0).sum(1, keepdim=True))
    return highest + mass.log(), highest + product / mass
