"""Work done ahead and behind: a thread that reads what comes next, one that writes what is done.

Both are bounded, so that memory is, and both hand their errors to whoever waits for them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

READERS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
"""Threads that read and decode files: Python's lock is free while they do."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], depth: int, threads: int = 1
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item with the future of `function(item)`, in order, at most `depth` further ones begun.

    With a depth of 0 nothing runs until it is asked for, and in this thread.
    """
    if depth == 0:
        for item in items:
            yield item, _now(function, item)
        return
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                begun.append((item, pool.submit(function, item)))
                if len(begun) > depth:
                    yield begun.popleft()
            while begun:
                yield begun.popleft()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _now(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    future: Future[Result] = Future()
    try:
        future.set_result(function(item))
    except Exception as error:  # handed to whoever waits for it, as from a thread
        future.set_exception(error)
    return future
