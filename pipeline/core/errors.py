"""Errors a user can act on: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

OBJECT = re.compile(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>")
"""Representation of an object with its address in memory."""


class AbsError(Exception):
    """Shown as one line without a traceback; the command exits with `exit_code`."""

    exit_code = 1


class ConfigError(AbsError):
    """A setting that does not exist or cannot have the value it was given."""

    exit_code = 2


class MissingInput(AbsError):
    """A file, dataset, model or earlier artifact that a stage reads is not there."""


class Damaged(AbsError):
    """A file of the store differs from what was written."""


class Unreachable(AbsError):
    """The Dask scheduler that should run the units cannot be reached."""


class UnitsFailed(AbsError):
    """Some units of a stage raised; what the others computed is kept."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt `word`: the nearest known one, or the list of all."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"


def one_line(error: Exception) -> str:
    """An exception in one line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def storable_reason(error: Exception) -> str:
    """Return an exception in one line that is the same in every process.

    Representations of objects, such as `<_io.BytesIO object at 0x7f...>`, are left out.
    """
    line = OBJECT.sub("", one_line(error))
    return line.rstrip(" :")
