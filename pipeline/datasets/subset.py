"""Choice of a few images that stand for a dataset."""

from __future__ import annotations


def evenly(samples: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """Take up to `count` images with their class: the first of every class, then the second.

    If there are more classes than images, the classes are spread over all of them.
    """
    by_class: dict[str, list[tuple[str, str]]] = {}
    for path, label in samples:
        by_class.setdefault(label, []).append((path, label))
    groups = [by_class[label] for label in sorted(by_class)]
    if len(groups) > count:
        groups = [groups[number * len(groups) // count] for number in range(count)]
    rounds = max(map(len, groups))
    in_turn = [group[turn] for turn in range(rounds) for group in groups if turn < len(group)]
    return sorted(in_turn[:count])
