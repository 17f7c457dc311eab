"""Optimal transport between views and descriptions, with an entropy term (Sinkhorn)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.kernels.matching import Descriptions

MOST_STEPS = 1000
"""Steps after which a plan is taken as it is."""
ELEMENTS = 2**22
"""Similarities held at once, if those of one image are not more: 16 MiB in float32."""


def similarity_blocks(views: Tensor, texts: Descriptions) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute the similarities of a few images at a time.

    Args:
        views: Unit vectors, (images, views, dim).
        texts: Descriptions of all classes.

    Yields:
        Views of some images, and their cosines with all texts, 0 where padded: (images, classes,
        views, most).
    """
    table = texts.vectors.flatten(0, 1).T
    for some in views.split(max(1, ELEMENTS // (views.shape[1] * table.shape[1]))):
        cosines = (some @ table).unflatten(2, texts.present.shape)
        yield some, cosines.transpose(1, 2).contiguous()


@torch.no_grad()
def transported(
    similarities: Tensor,
    rows: Tensor,
    columns: Tensor,
    eps: float,
    tolerance: float = 1e-6,
    steps: int | None = None,
) -> Tensor:
    """Sum similarities over the plan that transports the weights of rows to those of columns.

    Factors start at 1, or at 0 without weight; a step renews those of rows, then those of columns,
    so that sums of columns are exact. Each problem stops by itself, once no factor of its rows
    changed by more than `tolerance` of its size: a result depends on no other problem of the batch.

    Args:
        similarities: Cosines, (images, classes, rows, columns).
        rows: Weights of rows, not negative, that sum to 1: (images, rows).
        columns: Weights of columns, not negative, that sum to 1: (images, classes, columns).
        eps: Factor of the entropy term; costs are 1 - similarities.
        tolerance: Largest relative change of a row's factor in the last step.
        steps: Fixed number of steps; None to stop by `tolerance`.

    Returns:
        (images, classes).
    """
    kernel, r, c = _factors(similarities, rows, columns, eps, tolerance, steps)
    moved = torch.bmm(kernel.mul_(similarities.flatten(0, 1)), c[..., None])[..., 0]
    return (r * moved).sum(dim=1).view(similarities.shape[:2])


@torch.no_grad()
def transport_plan(
    similarities: Tensor,
    rows: Tensor,
    columns: Tensor,
    eps: float,
    tolerance: float = 1e-6,
    steps: int | None = None,
) -> Tensor:
    """Return the plan that `transported` sums over, of the same arguments.

    Returns:
        What each row gives to each column, (images, classes, rows, columns).
    """
    kernel, r, c = _factors(similarities, rows, columns, eps, tolerance, steps)
    return (r[..., None] * kernel * c[:, None]).view_as(similarities)


def _factors(
    similarities: Tensor,
    rows: Tensor,
    columns: Tensor,
    eps: float,
    tolerance: float,
    steps: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the kernel (problems, rows, columns), and the factors of its rows and columns."""
    shape = similarities.shape[:2]
    rows = rows[:, None].expand(*shape, -1).flatten(0, 1)
    columns = columns.flatten(0, 1)
    kernel = ((similarities.flatten(0, 1) - 1) / eps).exp_()
    turned = kernel.transpose(1, 2)
    r, c = ((weights > 0).to(kernel.dtype) for weights in (rows, columns))
    running = torch.ones(len(rows), 1, dtype=torch.bool, device=rows.device)
    for _ in range(MOST_STEPS if steps is None else steps):
        renewed = rows / torch.bmm(kernel, c[..., None])[..., 0]
        change = (renewed - r).abs() > tolerance * r
        r = torch.where(running, renewed, r)
        c = torch.where(running, columns / torch.bmm(turned, r[..., None])[..., 0], c)
        if steps is None:
            running = running & change.any(dim=1, keepdim=True)
            if not running.any():
                break
    return kernel, r, c
