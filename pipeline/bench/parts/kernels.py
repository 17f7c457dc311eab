"""Comparisons of the arithmetic: matrix products, crops, soft matching."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.bench import plain
from pipeline.bench.case import Case, N
from pipeline.bench.timing import Row, compare
from pipeline.datasets.images import decode
from pipeline.kernels.matching import Descriptions, soft_match
from pipeline.kernels.resize import Resizer, planes

ROWS, INNER, COLUMNS = 2048, 768, 3072
"""Sizes of the matrices that are multiplied, as in a block of a ViT-B."""
CLASSES, TEXTS_PER_CLASS, DIM = 1000, 50, 512
"""Size of the text set for soft matching, as for ImageNet."""


def rows(case: Case, pairs: int) -> Iterator[Row]:
    """Compare matrix products, crops and soft matching."""
    device = case.plain.device
    a, b = torch.randn(ROWS, INNER, device=device), torch.randn(INNER, COLUMNS, device=device)
    half = a.bfloat16(), b.bfloat16()
    operations = 2 * a.numel() * b.shape[1]
    row = compare(
        "matrix product, bfloat16 against float32",
        lambda: [torch.mm(*half) for _ in range(4)],
        lambda: [torch.mm(a, b) for _ in range(4)],
        4 * pairs,
    )
    rates = [4 * operations / seconds / 1e9 for seconds in (row.ours, row.against)]
    yield replace(row, note=f"{rates[0]:.0f} and {rates[1]:.0f} GFLOP/s")
    yield _crops(case, pairs)
    yield _matching(device, pairs)


def _crops(case: Case, pairs: int) -> Row:
    """Compare cropping and resizing with Pillow on one thread, and count differing bytes."""
    image = decode(case.files[0].read_bytes())
    pixels, generator = planes(image).to(case.plain.device), np.random.default_rng(0)
    shares = generator.random((2, N, 2))
    sides = ((0.5 + 0.4 * shares[0]) * min(image.size)).astype(int)
    corners = (shares[1] * (np.array(image.size) - sides)).astype(int)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    resizer, by_pillow = Resizer(224), case.plain.geometry
    expected = np.stack([np.asarray(by_pillow(image.crop(tuple(box)))) for box in boxes.tolist()])
    differing = int((resizer(pixels, boxes).cpu().numpy() != expected.transpose(0, 3, 1, 2)).sum())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    row = compare(
        f"crop and resize of {N} boxes, against Pillow",
        lambda: resizer(pixels, boxes),
        lambda: [np.asarray(by_pillow(image.crop(tuple(box)))) for box in boxes.tolist()],
        2 * pairs,
        f"{differing} differing bytes",
    )
    torch.set_num_threads(threads)
    return row


def _matching(device: torch.device, pairs: int) -> Row:
    """Compare soft matching with its matrix product and with the plain implementation."""
    texts = F.normalize(torch.randn(CLASSES * TEXTS_PER_CLASS, DIM), dim=-1)
    labels = torch.arange(CLASSES).repeat_interleave(TEXTS_PER_CLASS)
    crops = F.normalize(torch.randn(8, 2 * N, DIM), dim=-1)
    table = Descriptions.from_rows(texts, labels, CLASSES).to(device)
    texts, labels, crops = texts.to(device), labels.to(device), crops.to(device)
    rows, out = crops.flatten(0, 1), torch.empty(8 * 2 * N, 5000, device=device)

    def product() -> None:
        for start in range(0, len(texts), 5000):
            torch.mm(rows, texts[start : start + 5000].T, out=out)

    against_product = compare(
        "soft matching, against its matrix product alone",
        lambda: soft_match(crops, table, 0.03),
        product,
        2 * pairs,
    )
    against_plain = compare(
        "", lambda: soft_match(crops, table, 0.03),
        lambda: plain.soft_match(crops, texts, labels, 0.03), pairs,
    )  # fmt: skip
    note = f"{against_plain.ratio:.1f} times as fast as the plain implementation"
    return replace(against_product, note=note)
