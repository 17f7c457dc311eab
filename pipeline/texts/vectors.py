"""Stored vectors of a text set, grouped by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.kernels.matching import Descriptions
    from pipeline.store.artifact import Artifact


def text_vectors(artifact: Artifact, classes: int) -> Descriptions:
    """Load the vectors of a text set by class; texts that are equal get equal vectors.

    Args:
        artifact: Artifact of the stage `descriptions`.
        classes: Number of classes.

    Returns:
        Vectors in float32, on the CPU.
    """
    return by_class(artifact.table("texts"), artifact.array("embeddings")[:], classes)


def by_class(texts: pd.DataFrame, vectors: np.ndarray, classes: int) -> Descriptions:
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

    # Vectors of equal texts may differ by rounding, depending on their place in a batch.
    vectors = vectors[texts.groupby("text")["text_id"].transform("first").to_numpy()]
    labels = torch.from_numpy(texts["label"].to_numpy().copy())
    return Descriptions.from_rows(torch.from_numpy(vectors), labels, classes)
