"""Weights of cosines in scores: the sums that `pipeline.kernels.matching` takes, laid open.

Each function returns the weight of every pair of view and description; a class's score is the sum
of weight times cosine over all views and the class's descriptions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.kernels.matching import Descriptions, alignment, mean_view

TINY = 1e-12
"""Smallest norm that a vector is divided by, as in `torch.nn.functional.normalize`."""


def soft_weights(features: Tensor, descriptions: Descriptions, temperature: float) -> Tensor:
    """Compute the weights of soft matching (Eq. 9), jointly over all descriptions of all classes.

    Args:
        features: Unit vectors of crops, (images, crops, dim), of the dtype of `descriptions`.
        descriptions: Embeddings of all classes' descriptions.
        temperature: Divisor of cosines before the softmax.

    Returns:
        Weights (images, crops, classes, most descriptions), zero where padded. Those of a crop sum
            to 1.
    """
    logits = cosines(features, descriptions).div_(temperature)
    logits.masked_fill_(~descriptions.present, -torch.inf)
    return logits.flatten(2).softmax(dim=-1).view_as(logits)


def mean_weights(descriptions: Descriptions) -> Tensor:
    """Compute the weights of descriptions in the cosine with each class's renormalised mean.

    Args:
        descriptions: Embeddings of all classes' descriptions.

    Returns:
        Weights (classes, most descriptions), zero where padded.
    """
    return _renormalised(descriptions.vectors, descriptions.present.to(descriptions.vectors.dtype))


def aligned_image_weights(image: Tensor, crops: Tensor, scale: float) -> Tensor:
    """Compute the weights of crops in `pipeline.kernels.matching.aligned_image`.

    Args:
        image: Unit vectors of whole images, (images, dim).
        crops: Unit vectors of crops, (images, crops, dim).
        scale: Factor of the cosine between crop and image before the softmax over crops.

    Returns:
        Weights (images, crops).
    """
    return _renormalised(crops, alignment(image, crops, scale))


def aligned_text_weights(labels: Tensor, descriptions: Descriptions, scale: float) -> Tensor:
    """Compute the weights of descriptions in `pipeline.kernels.matching.aligned_texts`.

    Args:
        labels: Unit vectors of each class's plain label, (classes, dim).
        descriptions: Embeddings of all classes' descriptions.
        scale: Factor of the cosine between description and label before the softmax over the
            class's descriptions.

    Returns:
        Weights (classes, most descriptions), zero where padded.
    """
    weights = alignment(labels, descriptions.vectors, scale, descriptions.present)
    return _renormalised(descriptions.vectors, weights)


def cosines(features: Tensor, descriptions: Descriptions) -> Tensor:
    """Compute the cosine of every view with every description, zero where padded.

    Args:
        features: Unit vectors of views, (images, views, dim), of the dtype of `descriptions`.
        descriptions: Embeddings of all classes' descriptions.

    Returns:
        Cosines (images, views, classes, most descriptions).
    """
    return torch.einsum("ivd,cmd->ivcm", features, descriptions.vectors)


def _renormalised(vectors: Tensor, weights: Tensor) -> Tensor:
    """Divide weights by the length of the vector that they sum to.

    Takes vectors (groups, members, dim) and weights (groups, members); returns (groups, members).
    """
    length: Tensor = mean_view(vectors, weights).norm(dim=-1, keepdim=True)
    return weights / length.clamp(min=TINY)
