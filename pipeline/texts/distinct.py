"""Choose texts of a class that are not much alike, in a shuffled order.

BiFTA (2026) publishes text files that look as if they were made so: no text of theirs comes twice,
at most 50 belong to a class, and their order is not that of the files they come from. Its code and
its encoder are not published, so that these texts cannot be said to be its own.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def kept_rows(
    texts: pd.DataFrame, vectors: np.ndarray, threshold: float, most: int | None, seed: int
) -> list[int]:
    """Choose texts of every class.

    The order of a text depends on the seed and the text alone.

    Args:
        texts: text_id, label and text of each text.
        vectors: Unit vectors (texts, dim), row i for text_id i.
        threshold: Largest cosine of two kept texts of a class.
        most: Most texts of a class that are kept; None for all.
        seed: Seed of the shuffle.

    Returns:
        Rows of `texts` by ascending label, and within a class in the order of the shuffle.
    """
    drawn = texts["text"].map(lambda text: hashlib.sha256(f"{seed}:{text}".encode()).hexdigest())
    order = texts.assign(row=range(len(texts)), drawn=drawn).sort_values(["label", "drawn", "row"])
    kept: list[int] = []
    for _, own in order.drop_duplicates(["label", "text"]).groupby("label"):
        some = vectors[own["text_id"].to_numpy()].astype(np.float64)
        kept += own["row"].iloc[distinct(some @ some.T, threshold, most)].tolist()
    return kept


def distinct(cosines: np.ndarray, threshold: float, most: int | None) -> list[int]:
    """Keep texts in turn, each if it is not much like any that is kept.

    Args:
        cosines: (n, n).
        threshold: Largest cosine of two kept texts.
        most: Most texts that are kept; None for all.

    Returns:
        Kept places, ascending; the first is always kept.
    """
    kept: list[int] = []
    for i, row in enumerate(cosines):
        if len(kept) == most:
            break
        if (row[kept] <= threshold).all():
            kept.append(i)
    return kept
