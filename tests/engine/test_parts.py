"""Parts of a stage: they share its units, and each comes to all of them."""

from __future__ import annotations

import pytest

from pipeline.engine.base import Part
from pipeline.store.units import row_units


@pytest.mark.parametrize(("count", "of"), [(10, 3), (3, 5), (1, 2), (0, 2), (7, 1)])
def test_parts_share_units_and_each_comes_to_all_of_them(count: int, of: int) -> None:
    units = list(row_units(count, 1))
    shares = [Part(number, of).order(units) for number in range(1, of + 1)]
    firsts = [name for i, share in enumerate(shares) for name in share[: len(units[i::of])]]
    assert sorted(unit.name for unit in firsts) == [unit.name for unit in units]
    assert all(sorted(share, key=lambda u: u.name) == units for share in shares)
