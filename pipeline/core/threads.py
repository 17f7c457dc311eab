"""Threads that work ahead on a bounded number of items, so that memory is bounded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

READERS = min(8, os.cpu_count() or 1)
"""Threads that read and decode files: Python's lock is free while they do."""


@cache
def readers() -> ThreadPoolExecutor:
    """Return the pool of reader threads; a task in it must not submit to it."""
    return ThreadPoolExecutor(READERS, "reader")


def prefetch(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    depth: int,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Yield each item with the future of `function(item)`, in order, up to `depth` items ahead.

    Items are taken in the caller's thread. Errors are in the futures. When the caller stops early,
    futures that have not started are cancelled.
    """
    begun: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            begun.append((item, pool.submit(function, item)))
            if len(begun) > depth:
                yield begun.popleft()
        while begun:
            yield begun.popleft()
    finally:
        for _, future in begun:
            future.cancel()
