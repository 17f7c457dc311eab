"""Columns of texts and digests: they read like lists and take the memory of their bytes.

A Python object takes 50 bytes beside its content, and a list of a million paths 100 MB.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    import numpy as np

Value = TypeVar("Value")
SHA256 = 32
"""Bytes of a sha256."""


class Column(Sequence[Value]):
    """Base of columns, whose values are made when they are asked for."""

    @abstractmethod
    def _at(self, place: int) -> Value:
        """Make the value at a place, which is not negative."""

    @overload
    def __getitem__(self, place: int) -> Value: ...

    @overload
    def __getitem__(self, place: slice) -> list[Value]: ...

    def __getitem__(self, place: int | slice) -> Value | list[Value]:
        found = range(len(self))[place]
        return self._at(found) if isinstance(found, int) else [self._at(each) for each in found]

    def __iter__(self) -> Iterator[Value]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(one == another for one, another in zip(self, other, strict=True))


class TextColumn(Column[str]):
    """Texts in UTF-8, one behind the other."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._starts = bytearray(), array("q", [0])
        self._last = 0
        for text in texts:
            self.append(text)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def append(self, text: str) -> None:
        """Add a text at the end."""
        self._bytes += text.encode(errors="surrogatepass")
        self._starts.append(len(self._bytes))

    def find(self, text: str) -> int | None:
        """Return the place of a text in a sorted column; None if it is not there.

        Quickest for the text that was found last, and the one after it.
        """
        wanted, near = text.encode(errors="surrogatepass"), self._last
        for place in range(near, min(near + 2, len(self))):
            if self._encoded(place) == wanted:
                self._last = place
                return place
        place = bisect_left(range(len(self)), wanted, key=self._encoded)
        if place == len(self) or self._encoded(place) != wanted:
            return None
        self._last = place
        return place

    def order(self) -> np.ndarray | None:
        """Return the places of all texts in the order of their code points, int64 (n,); None if
        they lie so.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        buffers = [None, pa.py_buffer(self._starts), pa.py_buffer(self._bytes)]
        texts = pa.Array.from_buffers(pa.large_binary(), len(self), buffers)
        if pc.all(pc.less_equal(texts[:-1], texts[1:])).as_py() is not False:
            return None
        return np.asarray(pc.sort_indices(texts)).astype(np.int64)

    def _encoded(self, place: int) -> bytes:
        return bytes(self._bytes[self._starts[place] : self._starts[place + 1]])

    def _at(self, place: int) -> str:
        return self._encoded(place).decode(errors="surrogatepass")


class DigestColumn(Column[str]):
    """sha256 in hex, of some number of contents; those not set yet are zeros."""

    def __init__(self, count: int) -> None:
        self._bytes = bytearray(SHA256 * count)

    def __len__(self) -> int:
        return len(self._bytes) // SHA256

    def __setitem__(self, place: int, sha256: str) -> None:
        self._bytes[SHA256 * place : SHA256 * (place + 1)] = bytes.fromhex(sha256)

    def _at(self, place: int) -> str:
        return self._bytes[SHA256 * place : SHA256 * (place + 1)].hex()
