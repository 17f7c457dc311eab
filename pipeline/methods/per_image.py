"""Per-image results of one method: prediction, rank, margin and confidence."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.core.errors import AbsError


def per_image_results(
    method: str, logits: np.ndarray, probabilities: np.ndarray, images: Any, classes: np.ndarray
) -> Any:
    """Build a table with one row per image from the scores of a method.

    Columns: prediction, rank of the label (1 is best), top-5 classes, margin (score of the label
    minus the best score of another class) and confidence (probability of the prediction). Among
    equal scores the class that comes first ranks higher.

    Args:
        method: Name of the method.
        logits: Scores (images, classes).
        probabilities: Rows that sum to 1, (images, classes).
        images: Table of the images, with `image_id` and `label`.
        classes: Ascending labels of the columns of `logits` and of the probabilities.

    Raises:
        AbsError: If scores are NaN or infinite.
    """
    import pandas as pd

    if not np.isfinite(logits).all():
        raise AbsError(f"{method}: scores are NaN or infinite; check temperature and weights")
    labels = images["label"].to_numpy()
    columns = np.searchsorted(classes, labels)
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = (order == columns[:, None]).argmax(axis=1) + 1
    score = np.take_along_axis(logits, columns[:, None], axis=1)[:, 0]
    rival = np.where(rank == 1, order[:, min(1, logits.shape[1] - 1)], order[:, 0])
    margin = score - np.take_along_axis(logits, rival[:, None], axis=1)[:, 0]
    table = {
        "image_id": images["image_id"].to_numpy(),
        "label": labels,
        "method": method,
        "pred": classes[order[:, 0]],
        "correct": rank == 1,
        "rank": rank,
        "top5": list(classes[order[:, :5]]),
        "margin": margin.astype(np.float32),
        "confidence": np.take_along_axis(probabilities, order[:, :1], axis=1)[:, 0].astype(
            np.float32
        ),
    }
    return pd.DataFrame(table)
