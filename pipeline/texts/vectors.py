"""Stored vectors of a text set, grouped by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.kernels.matching import Descriptions
    from pipeline.store.arrays import StoredArray
    from pipeline.store.artifact import Artifact


BLOCK = 4096
"""Vectors that are held beside the grouped ones at most."""


def text_vectors(artifact: Artifact, classes: int) -> Descriptions:
    """Load the vectors of a text set by class; texts that are equal get equal vectors.

    Args:
        artifact: Artifact of the stage `descriptions`.
        classes: Number of classes.

    Returns:
        Vectors in float32, on the CPU.
    """
    texts = artifact.table("texts", columns=["text_id", "label", "text"])
    return by_class(texts, artifact.array("embeddings"), classes)


def by_class(texts: pd.DataFrame, vectors: np.ndarray | StoredArray, classes: int) -> Descriptions:
    """Group the vectors of a text set by class; texts that are equal get equal vectors.

    Args:
        texts: text_id, label and text of each text.
        vectors: float32 (texts, dim), row i for text_id i.
        classes: Number of classes.

    Returns:
        Vectors in float32, on the CPU.
    """
    import torch

    from pipeline.kernels.matching import Descriptions

    labels, places = texts["label"].to_numpy(), texts.groupby("label").cumcount().to_numpy()
    counts = np.bincount(labels, minlength=classes)
    grouped = np.zeros((classes, counts.max(), vectors.shape[1]), np.float32)
    for start in range(0, len(texts), BLOCK):
        rows = slice(start, start + BLOCK)
        grouped[labels[rows], places[rows]] = vectors[rows]
    # Vectors of equal texts may differ by rounding, depending on their place in a batch.
    first = texts.groupby("text")["text_id"].transform("first").to_numpy()
    equal = np.flatnonzero(first != np.arange(len(texts)))
    grouped[labels[equal], places[equal]] = grouped[labels[first[equal]], places[first[equal]]]
    return Descriptions(torch.from_numpy(grouped), tuple(counts.tolist()))
