"""How far a unit is, from whoever works on it to what shows progress."""

from __future__ import annotations

import threading

import pytest

from pipeline.core.under_way import COMPUTE, LOAD, READ, UnderWay, each, heard, stretch, tell


def test_what_loops_tell_is_heard_in_order() -> None:
    told: list[float] = []
    with heard(told.append):
        assert list(each("abcd", 4)) == list("abcd")
    assert told == [0.25, 0.5, 0.75, 1.0]
    tell(1, 2)  # nobody listens
    assert told[-1] == 1.0


def test_loops_within_loops_share_the_whole() -> None:
    told: list[float] = []
    with heard(told.append):
        for start in (0, 0.5):
            with stretch(start, start + 0.5):
                with stretch(0, 0.5):
                    tell(1, 2)
                tell(3, 4)
        tell(0, 0)  # nothing to do
    assert told == [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]


def test_a_step_that_fails_is_not_told_as_done() -> None:
    told: list[float] = []

    def fail() -> None:
        tell(1, 4)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), heard(told.append), stretch(0, 0.5):
        fail()
    assert told == [0.125]
    tell(1, 1)
    assert told == [0.125]


def test_threads_do_not_hear_each_other() -> None:
    here: list[float] = []
    with heard(here.append):
        other = threading.Thread(target=lambda: tell(1, 2))
        other.start()
        other.join()
    assert here == []


def test_computed_items_of_units_under_way_count_until_they_end() -> None:
    under_way = UnderWay()
    under_way.begin("a", 40)
    under_way.begin("b", 20)
    under_way.tell("a", READ, 0.5)
    assert under_way.items == 0
    under_way.tell("a", COMPUTE, 0.25)
    under_way.tell("b", COMPUTE, 0.5)
    assert under_way.items == 20
    under_way.tell("b", COMPUTE, 1.5)
    assert under_way.items == 30
    under_way.end("a")
    under_way.tell("a", COMPUTE, 0.75)  # a late message
    under_way.tell("c", COMPUTE, 0.75)
    assert under_way.items == 20
    under_way.begin("b", 20)  # once more, after a failure
    assert under_way.items == 0


def test_what_is_done_meanwhile_is_said_while_nothing_is_computed() -> None:
    under_way = UnderWay("ViT-B-32")
    assert under_way.doing == ""
    under_way.begin("a", 40)
    under_way.begin("b", 40)
    under_way.tell("a", LOAD, 0.0)
    assert under_way.doing == "loading ViT-B-32"
    under_way.tell("a", READ, 0.2)
    under_way.tell("b", READ, 0.6)
    assert under_way.doing == "reading 40%"
    under_way.tell("b", COMPUTE, 0.0)
    assert under_way.doing == ""
    under_way.tell("b", COMPUTE, 1.0)  # being written
    assert under_way.doing == "reading 20%"
