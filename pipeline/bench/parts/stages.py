"""Comparisons of the stages that run a model, one by one, from image files to vectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from pipeline.bench.case import Case
from pipeline.bench.timing import Row, compare


def rows(case: Case, pairs: int) -> Iterator[Row]:
    """Compare stages one by one, from image files to vectors."""
    for name, plain_stage in case.plain_stages.items():
        note = ""
        if name != "attention":  # the plain attention model has other random weights
            (vectors,) = case.work(name).values()
            with torch.inference_mode():
                plain_vectors = plain_stage()
            worst = np.abs(vectors - plain_vectors.cpu().numpy().reshape(vectors.shape)).max()
            note = f"differs by at most {worst:.1e}"
        ours = lambda name=name: case.work(name)  # noqa: E731
        yield compare(f"{name}, from files", ours, plain_stage, pairs, note)
