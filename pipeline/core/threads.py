"""Work done ahead by threads: a bounded number of things at once, so that memory is bounded too."""

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
    """The threads for reading files; what they run must not use them itself."""
    return ThreadPoolExecutor(READERS, "reader")


def prefetch(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    depth: int,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item with the future of `function(item)`, in order; up to `depth` further ones begun.

    Items are taken in the caller's thread. Errors are in the futures. What was begun and is not
    asked for any more is cancelled, or runs to its end unseen.
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
