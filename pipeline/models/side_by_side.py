"""Batches on a CPU, each in a thread of its own.

Threads that share an operation wait for each other at its end, for every operation of a model, and
spin while they do. Threads that have a batch each wait once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pipeline.core.under_way import each, stretch

AT_ONCE = 4
"""Most batches at once, each of which takes memory; with more threads, several share a batch."""


def side_by_side(
    function: Callable[[Tensor], Tensor], batches: Sequence[Tensor], alone: bool
) -> list[Tensor]:
    """Run a function on batches, several at once, with as many threads in all as torch has.

    Args:
        function: Function of a batch.
        batches: Inputs on the CPU.
        alone: Whether a single batch has all threads. Otherwise every batch has as many as if it
            were one of many: the result of an operation may depend on threads by rounding.
    """
    threads = torch.get_num_threads()
    share = -(-threads // AT_ONCE)
    if share == threads or (alone and len(batches) == 1):
        return list(_in_turn(function, batches))
    inference = torch.is_inference_mode_enabled()

    def result(batch: Tensor) -> Tensor:
        with torch.inference_mode(inference):
            return function(batch)

    pool = ThreadPoolExecutor(threads // share, "batch", torch.set_num_threads, (share,))
    try:
        results = [pool.submit(result, batch) for batch in batches]
        return [done.result() for done in each(results, len(results))]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # threads to come have what the last one was told to have


def _in_turn(function: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the results of batches one after another, each with all threads."""
    for number, batch in enumerate(batches):
        with stretch(number / len(batches), (number + 1) / len(batches)):
            yield function(batch)
