"""The text of a sealed ledger: all receipts of a finished artifact in one file, a line for each.

    <checksum of the rest of the line> <unit> <receipt as JSON>
    ...
    <checksum of all bytes before this line>

The last line makes every byte count and is quick to compare; the checksum of each line tells which
receipts of a damaged file can still be trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from pipeline.core.files import seal_in, seal_of

LAST = len(seal_of(b"")) + 1
"""Bytes of the last line."""


def lines(receipts: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the lines of a file of receipts, given by unit as JSON without line breaks."""
    body = hashlib.sha256()
    for unit in sorted(receipts):
        line = _line(unit, receipts[unit])
        body.update(line)
        yield line
    yield seal_in(body).encode() + b"\n"


def is_whole(content: bytes) -> bool:
    """Return whether a file has the bytes that were written."""
    body, last = content[:-LAST], content[-LAST:]
    return last == seal_of(body).encode() + b"\n"


def receipts(content: bytes) -> dict[str, bytes]:
    """Return the receipts in a file by unit; of a damaged file those whose lines are whole."""
    whole = is_whole(content)
    lines = content[:-LAST].split(b"\n")[:-1] if whole else content.split(b"\n")
    parts = (line.partition(b" ") for line in lines)
    kept = (rest for seal, _, rest in parts if whole or seal == seal_of(rest).encode())
    named = (rest.partition(b" ") for rest in kept)
    return {unit.decode(): text for unit, _, text in named if text}


def _line(unit: str, text: bytes) -> bytes:
    rest = unit.encode() + b" " + text
    return seal_of(rest).encode() + b" " + rest + b"\n"
