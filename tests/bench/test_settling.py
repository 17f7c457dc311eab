"""The measurement of what settling costs: both sides compute all they count, from equal inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench.settling import ALL, ENCODING, TIMED, Pair, Seconds, measure, table
from pipeline.models.clip.model import ClipModel
from tests.helpers.runs import Runner

SETTLED = ("scores.methods=[abs]", "scores.n=20", "scores.settle=0.00001")


@pytest.mark.slow
def test_neither_side_borrows_from_the_other(
    tiny: Path, run_of: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    encode = ClipModel.encode_images

    def counted(self: ClipModel, images: object, full: bool = False) -> object:
        shown.extend([len(images)] if full else [])  # type: ignore[arg-type]
        return encode(self, images, full)  # type: ignore[arg-type]

    settled, whole = run_of(*SETTLED), run_of(*SETTLED[:-1])
    monkeypatch.setattr(ClipModel, "encode_images", counted)
    pair = measure(settled, whole)
    first = sum(shown)
    again = measure(settled, whole)
    assert sum(shown) == 2 * first > 0
    for each in (pair, again):
        assert all(each.settled[part] > 0 for part in TIMED)
        assert sum(map(each.settled.get, TIMED)) <= each.settled[ALL]  # type: ignore[arg-type]
        assert each.whole.keys() == {ALL, *ENCODING}


def test_the_overhead_is_what_is_neither_decoding_nor_encoding() -> None:
    settled = {ALL: 5.0, "decoding": 1.0, "encoding": 3.0, "order": 0.5}
    whole = {ALL: 15.0, "decoding": 2.0, "encoding": 12.0}
    pair = Pair(*(Seconds(float, side) for side in (settled, whole)))
    assert (pair.overhead, pair.saved) == (1.0, 10.0)
    text = table([pair])
    assert text.startswith("10.0 CPU seconds saved (3.00 times faster), 1.00 spent on")
    assert "10.0% of what is saved" in text
    assert text.endswith(
        "| order | 0.50 | 0.00 |\n| looks | 0.00 | 0.00 |\n| scores of crops | 0.00 | 0.00 |\n"
        "| places | 0.00 | 0.00 |\n| the rest | 0.50 | 1.00 |\n| all | 5.00 | 15.00 |"
    )
