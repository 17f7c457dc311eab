"""Work ahead of its turn, in threads: in order, bounded, each error met by its own item."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.core.threads import prefetch


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as threads:
        yield threads


def test_results_come_in_the_order_of_the_items(pool: ThreadPoolExecutor) -> None:
    gates = [threading.Event() for _ in range(4)]
    gates[3].set()

    def square(i: int) -> int:
        assert gates[i + 1].wait(5), "the one after it must run first"
        gates[i].set()
        return i * i

    found = [(i, future.result()) for i, future in prefetch(pool, square, range(3), depth=2)]
    assert found == [(0, 0), (1, 1), (2, 4)]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_than_depth_items_are_begun_before_their_turn(
    pool: ThreadPoolExecutor, depth: int
) -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(10):
            taken.append(i)
            yield i

    for done, (_, future) in enumerate(prefetch(pool, str, items(), depth)):
        assert future.result() == str(done)
        assert len(taken) <= done + 1 + depth
    assert taken == list(range(10))


def test_an_error_is_met_where_its_item_is_and_the_others_are_fine(
    pool: ThreadPoolExecutor,
) -> None:
    found = [future.exception() for _, future in prefetch(pool, (1).__truediv__, [1, 0, 2], 1)]
    assert [type(error) for error in found] == [type(None), ZeroDivisionError, type(None)]


def test_what_is_not_asked_for_any_more_is_not_done() -> None:
    started, gate = [], threading.Event()

    def work(i: int) -> None:
        started.append(i)
        gate.wait(5)

    with ThreadPoolExecutor(1) as pool:
        some = prefetch(pool, work, range(5), depth=3)
        next(some)
        some.close()  # type: ignore[attr-defined]
        gate.set()
    assert started == [0]
