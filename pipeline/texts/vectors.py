"""Stored text vectors by class, and the classes that they cannot tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipeline.datasets.classes import Classes
    from pipeline.kernels.matching import Descriptions
    from pipeline.stage import Stage
    from pipeline.store.store import Store


def text_vectors(
    store: Store, stages: Mapping[str, Stage], classes: Classes, competing: str
) -> dict[str, Descriptions]:
    """Load the vectors of text sets by class; texts that are equal get equal vectors.

    Args:
        store: Store with the finished text sets.
        stages: Stages of the text sets, by name.
        classes: Classes of the dataset.
        competing: `all` classes, or only those `present`.
    """
    import torch

    present = torch.tensor(classes.present)
    texts = {name: _text_vectors(store, stage, len(present)) for name, stage in stages.items()}
    if competing == "present":
        return {name: vectors.of(present) for name, vectors in texts.items()}
    return texts


def _text_vectors(store: Store, stage: Stage, classes: int) -> Descriptions:
    import torch

    from pipeline.kernels.matching import Descriptions

    artifact = store.open(stage)
    table, vectors = artifact.table("texts"), np.asarray(artifact.array("embeddings")[:])
    # Vectors of equal texts may differ by rounding, depending on their place in a batch.
    vectors = vectors[table.groupby("text")["text_id"].transform("first").to_numpy()]
    labels = torch.from_numpy(table["label"].to_numpy().copy())
    return Descriptions.from_rows(torch.from_numpy(vectors), labels, classes)


def first_equal(texts: Sequence[Descriptions]) -> list[int]:
    """Return, for each class, the first class with equal vectors in all of the text sets."""
    first: dict[tuple[bytes, ...], int] = {}
    classes = range(len(texts[0].present))
    return [
        first.setdefault(tuple(text_set.vectors[c].numpy().tobytes() for text_set in texts), c)
        for c in classes
    ]
