"""Units of a stage follow from arithmetic; they are compared with plain lists of blocks."""

from __future__ import annotations

import random

import pytest

from pipeline.store.units import (
    WHOLE,
    WIDER,
    Unit,
    Units,
    crop_units,
    in_order,
    names_of,
    round_units,
    row_units,
)


def blocks(count: int, block: int) -> list[slice]:
    return [slice(first, min(first + block, count)) for first in range(0, count, block)]


def by_rows(count: int, block: int) -> list[Unit]:
    return [Unit(f"{i:05d}", rows) for i, rows in enumerate(blocks(count, block))]


def by_crops(count: int, block: int, crops: int, crop_block: int) -> list[Unit]:
    starts = range(0, crops, crop_block)
    return [
        Unit(f"{i:05d}-{c:03d}", rows, slice(start, start + crop_block))
        for i, rows in enumerate(blocks(count, block))
        for c, start in enumerate(starts)
    ]


def by_rounds(count: int, block: int, ends: list[int]) -> list[Unit]:
    return [
        Unit(f"r{n:02d}-{i:05d}", rows, slice(first, last), n)
        for n, (first, last) in enumerate(zip([0, *ends], ends, strict=False))
        for i, rows in enumerate(blocks(count, block * (WIDER if n else 1)))
    ]


def drawn(rng: random.Random) -> tuple[Units, list[Unit]]:
    count, block, crops = rng.randrange(60), rng.randrange(1, 9), rng.randrange(1, 30)
    ends = sorted(rng.sample(range(1, 30), rng.randrange(1, 5)))
    return rng.choice(
        [
            (row_units(count, block), by_rows(count, block)),
            (crop_units(count, block, crops, 4), by_crops(count, block, crops, 4)),
            (round_units(count, block, ends), by_rounds(count, block, ends)),
        ]
    )


@pytest.mark.parametrize("seed", range(40))
def test_units_are_those_of_a_plain_list(seed: int) -> None:
    rng = random.Random(seed)
    units, expected = drawn(rng)
    assert list(units) == expected
    assert len(units) == len(expected)
    assert names_of(units) == tuple(unit.name for unit in expected)
    assert units[::-2] == expected[::-2]
    for place in range(-len(expected), len(expected)):
        assert units[place] == expected[place]
    with pytest.raises(IndexError):
        units[len(expected)]


@pytest.mark.parametrize("seed", range(40))
def test_units_that_overlap_are_those_with_a_row_and_a_crop_in_common(seed: int) -> None:
    rng = random.Random(seed)
    units, every = drawn(rng)
    rows = sorted(rng.sample(range(70), rng.randrange(1, 9)))
    first = rng.randrange(30)
    for crops in (None, slice(first, first + rng.randrange(1, 9))):
        expected = [
            unit
            for unit in every
            if set(range(unit.rows.start, unit.rows.stop)) & set(rows)
            and (
                crops is None
                or unit.crops is None
                or set(range(unit.crops.start, unit.crops.stop))
                & set(range(crops.start, crops.stop))
            )
        ]
        assert units.overlapping(rows, crops) == expected


def test_a_stage_that_is_not_divided_has_one_unit() -> None:
    assert list(WHOLE) == [Unit("all", slice(0, 1))]


def test_files_of_units_are_in_the_order_of_rows_beyond_five_digits() -> None:
    names = [f"images.parquet/{name}.parquet" for name in row_units(100_002, 1).names]
    shuffled = random.Random(0).sample(names, len(names))
    assert in_order(shuffled) == names != sorted(names)
