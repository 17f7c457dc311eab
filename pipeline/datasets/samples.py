"""Paths and labels of a dataset's images, in columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from pipeline.core.columns import Column, TextColumn


class Samples(Column[tuple[str, int]]):
    """(path below the root, label) of each image."""

    def __init__(self, pairs: Iterable[tuple[str, int]] = ()) -> None:
        self.paths = TextColumn()
        self.labels = array("i")
        self.extend(pairs)

    @classmethod
    def of(cls, paths: TextColumn, labels: Iterable[int]) -> Samples:
        """Return samples that share a column of paths."""
        samples = cls()
        samples.paths, samples.labels = paths, array("i", labels)
        return samples

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(self.paths, self.labels, strict=True)

    def extend(self, pairs: Iterable[tuple[str, int]]) -> None:
        """Add samples at the end."""
        for path, label in pairs:
            self.paths.append(path)
            self.labels.append(label)

    def _at(self, place: int) -> tuple[str, int]:
        return self.paths[place], self.labels[place]


def relabelled(
    samples: Sequence[tuple[str, int]], labels: Sequence[int], dropped: set[int]
) -> Samples:
    """Return samples with `labels[label]` for their labels, without those at some places."""
    if not dropped and isinstance(samples, Samples):
        return Samples.of(samples.paths, (labels[label] for label in samples.labels))
    numbered = enumerate(samples)
    return Samples((p, labels[label]) for n, (p, label) in numbered if n not in dropped)
