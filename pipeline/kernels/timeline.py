"""Caches over a stream of images: which images they hold when, from one number per image.

What a cache keeps depends on the label and the doubt of each image alone, never on the cache's own
answers. So who is in it at any time follows from one pass over two numbers an image, and the
images of a stream can then be scored in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Members:
    """Images that are in a cache at some time, each once."""

    image: Tensor
    """Index of the image, int64 (members,)."""
    label: Tensor
    """Class that it is cached for, int64 (members,)."""
    enters: Tensor
    """Time from which it is there, int64 (members,)."""
    leaves: Tensor
    """Time from which it is there no more, int64 (members,)."""

    def present(self, times: Tensor) -> Tensor:
        """Return whether members are there at some times (times,): bool (times, members)."""
        return (self.enters <= times[:, None]) & (times[:, None] < self.leaves)

    def to(self, device: torch.device | str) -> Members:
        """Copy to a device."""
        parts = self.image, self.label, self.enters, self.leaves
        return Members(*(part.to(device) for part in parts))


def members(
    labels: Sequence[int], doubts: Sequence[float], times: Sequence[int], room: int
) -> Members:
    """Follow a cache that keeps the images of least doubt of each class.

    An image enters as long as its class has room; from then on, if its doubt is less than the
    largest of its class, which leaves. Among equal doubts, the image that came last leaves first.

    Args:
        labels: Class of each image that may enter; a negative one never does.
        doubts: Doubt about each image, such as an entropy.
        times: Time of each image in the stream, a permutation.
        room: Most images of a class.

    Returns:
        Members, by time of entry.
    """
    end = len(times)
    order = [0] * end
    for image, time in enumerate(times):
        order[time] = image
    inside: dict[int, list[tuple[float, int]]] = {}
    leaves: dict[int, int] = {}
    for time, image in enumerate(order):
        if (label := labels[image]) < 0:
            continue
        held, new = inside.setdefault(label, []), (doubts[image], time)
        if len(held) == room:
            worst = max(held)
            if new[0] >= worst[0]:
                continue
            held.remove(worst)
            leaves[worst[1]] = time
        held.append(new)
        leaves[time] = end
    entries = sorted(leaves)
    entered = [order[time] for time in entries]
    columns = entered, [labels[image] for image in entered], entries, map(leaves.get, entries)
    return Members(*(torch.tensor(list(column), dtype=torch.int64) for column in columns))
