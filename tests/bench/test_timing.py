"""The ratio of two implementations in turns; nothing is timed."""

from __future__ import annotations

from pipeline.bench.timing import in_turns


def test_a_ratio_is_the_median_of_pairs_and_the_first_pair_warms_up() -> None:
    ours, against = iter([90.0, 1.0, 2.0, 4.0]), iter([1.0, 3.0, 4.0, 4.0])
    row = in_turns("", lambda: next(ours), lambda: next(against), 3)
    assert (row.ours, row.against, row.ratio) == (2.0, 4.0, 2.0)
