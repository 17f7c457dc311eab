"""Images in tar files, each read at its offset."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.columns import TextColumn
from pipeline.core.errors import AbsError
from pipeline.core.files import version_of


class Members:
    """Members of shards, in columns: path `<shard>/<member>`, place, and number of the label."""

    def __init__(self) -> None:
        self.paths = TextColumn()
        self.labels = array("i")
        self._shards: list[str] = []
        self._shard, self._offset, self._size = array("i"), array("q"), array("q")

    def append(self, path: str, place: tuple[str, int, int], label: int) -> None:
        """Add a member; `place` is its shard, its offset there and its size.

        The members of a shard are added one after the other.
        """
        shard, offset, size = place
        self.paths.append(path)
        if self._shards[-1:] != [shard]:
            self._shards.append(shard)
        self._shard.append(len(self._shards) - 1)
        self._offset.append(offset)
        self._size.append(size)
        self.labels.append(label)

    def in_order(self) -> Members:
        """Return the members sorted by path."""
        order = self.paths.order()
        if order is None:
            return self
        found, places = Members(), order.tolist()
        found._shards, found.paths = self._shards, TextColumn(self.paths[i] for i in places)
        for name in ("labels", "_shard", "_offset", "_size"):
            column = getattr(self, name)
            setattr(found, name, array(column.typecode, (column[i] for i in places)))
        return found

    def find(self, path: str) -> tuple[str, int, int] | None:
        """Return shard, offset and size of a member of a sorted list; None without one."""
        row = self.paths.find(path)
        if row is None:
            return None
        return self._shards[self._shard[row]], self._offset[row], self._size[row]


@dataclass(frozen=True)
class ShardContents:
    """Members of tar files; their paths are `<shard>/<member>`."""

    root: Path
    members: Members
    _versions: dict[str, list[int]] = field(default_factory=dict, compare=False, repr=False)
    """Version of each shard, looked at once."""

    def has(self, path: str) -> bool:
        """Return whether the member exists."""
        return self.members.find(path) is not None

    def group(self, path: str) -> str:
        """Return the shard."""
        return self._place(path)[0]

    def where(self, path: str) -> str:
        """Return the shard's full path, followed by the member's name."""
        return str(self.root / path)

    def read(self, path: str) -> bytes:
        """Return the member's bytes; AbsError if the shard is shorter than it was when listed."""
        shard, offset, size = self._place(path)
        with open(self.root / shard, "rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise AbsError(f"{self.where(path)}: the shard ends before the member does")
        return content

    def version(self, path: str) -> list[int]:
        """Return the shard's size, times and inode, then the member's offset and size."""
        shard, offset, size = self._place(path)
        if shard not in self._versions:
            self._versions[shard] = version_of(self.root / shard)
        return [*self._versions[shard], offset, size]

    def _place(self, path: str) -> tuple[str, int, int]:
        """Return shard, offset and size of a member; KeyError for a path that is not listed."""
        place = self.members.find(path)
        if place is None:
            raise KeyError(path)
        return place
