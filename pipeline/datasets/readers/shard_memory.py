"""Memory of the content of each shard of a dataset; a changed shard is read again, alone.

The rows of a shard lie in a file of their own, which may be deleted at any time. They are used
again where the shard has the size, times and inode that it had before it was read, and the code
that lists is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.core.hashing import digest
from pipeline.datasets.listing import Columns
from pipeline.datasets.remembered import code_that_lists

Rows = list[list[Any]]


def rows_of(shard: Path, columns: Columns, memory: Path | None, read: Callable[[], Rows]) -> Rows:
    """Return the rows that `read` finds in a shard, as JSON has them, or those kept in `memory`.

    A memory that cannot be written keeps nothing.
    """
    if memory is None:
        return read()
    file = memory / digest([str(shard), columns.image, columns.label])
    seen = [code_that_lists(), *files.version_of(shard)]
    with suppress(AbsError):
        kept = files.read_sealed(file, "a remembered shard")
        if kept["seen"] == seen:
            return list(kept["rows"])
    rows = read()
    with suppress(OSError):
        memory.mkdir(parents=True, exist_ok=True)
        files.write_sealed(file, {"seen": seen, "rows": rows}, files.rendered_by_line)
    return rows
