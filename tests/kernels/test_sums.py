"""Sums in a fixed order against plain loops, and no other sums in the code that runs on a card."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from pipeline.kernels.sums import sums_at, sums_of_others

ROOT = Path(__file__).parents[2]
NO_ORDER = [
    "scatter_add",
    "scatter_reduce",
    "index_add",
    "index_reduce",
    "index_put",
    "put_along_dim",
    "bincount",
    "histc",
    "histogram",
    "histogramdd",
    "cumsum",
    "cumprod",
    "logcumsumexp",
    "kthvalue",
    "nanmedian",
    "grid_sample",
    "embedding_bag",
]
"""Operations that torch documents as of no fixed result on CUDA, `_` at their ends aside."""
FIXED = {
    "pipeline/kernels/matching.py: bincount": "counts labels",
    "pipeline/kernels/sampling.py: cumsum": "of one image's probabilities, on the host",
    "pipeline/methods/boost.py: cumsum": "counts members",
    "pipeline/models/clip/model.py: bincount": "counts windows",
    "pipeline/models/clip/model.py: cumsum": "of these counts",
    "pipeline/bench/plain.py: index_add_": "the baseline of the benchmark",
}
"""Uses that cannot differ between runs, and why."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_at_places(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(0, 5, (3, 7), generator=generator)
    values = torch.rand(3, 7, generator=generator, dtype=dtype)
    found = sums_at(places, values, 6)
    assert (found.shape, found.dtype) == ((3, 6), dtype)
    for row in range(3):
        for place in range(6):
            mine = [float(v) for p, v in zip(places[row], values[row], strict=True) if p == place]
            assert float(found[row, place]) == pytest.approx(sum(mine), abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 10, 17])
def test_sums_of_others(n: int) -> None:
    values = torch.rand(4, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    found = sums_of_others(values)
    for i in range(n):
        others = torch.cat([values[:, :i], values[:, i + 1 :]], dim=1).sum(dim=1)
        assert (found[:, i] - others).abs().max() < 1e-14


def test_what_is_left_out_takes_no_digits_with_it() -> None:
    values = torch.tensor([[1e-20, 1e20, 2e-20, 3e-20]], dtype=torch.float64)
    assert float(sums_of_others(values)[0, 1]) == pytest.approx(6e-20, rel=1e-15)


def test_no_sum_is_left_to_the_order_of_threads() -> None:
    files = [file for folder in ("pipeline", "stages") for file in (ROOT / folder).rglob("*.py")]
    found = {use for file in files for use in uses(file)}
    assert found == set(FIXED), "use pipeline.kernels.sums"


def uses(file: Path) -> set[str]:
    """Return the uses of operations without a fixed order in a file, but for NumPy's."""
    nodes = [
        node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)
    ]
    mine = [
        node.attr
        for node in nodes
        if not (isinstance(node.value, ast.Name) and node.value.id == "np")
    ]
    name = file.relative_to(ROOT).as_posix()
    return {f"{name}: {attribute}" for attribute in mine if attribute.rstrip("_") in NO_ORDER}
