"""Errors a user can act on: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

SHOWN = 10
"""Number of problems or names that a message lists."""
WORD = re.compile(r"[\W_]+")
"""Separators of the words of a name."""
OBJECT = re.compile(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>")
"""Representation of an object with its address in memory."""


class AbsError(Exception):
    """Error that is shown as one line without a traceback; the command exits with `exit_code`."""

    exit_code = 1
    problems: tuple[str, ...] = ()
    """Lines of several errors that are shown as one; empty for a single one."""


class ConfigError(AbsError):
    """A setting that does not exist or cannot have the value it was given."""

    exit_code = 2


Error = TypeVar("Error", bound=AbsError)


class MissingInput(AbsError):
    """A file, dataset, model or earlier artifact that a stage reads is not there."""


class Damaged(AbsError):
    """A file of the store differs from what was written."""


class Unreachable(AbsError):
    """The Dask scheduler that should run the units cannot be reached."""


class UnitsFailed(AbsError):
    """Some units of a stage raised; what the others computed is kept."""


def together(errors: Iterable[Error]) -> Error:
    """Return several errors as one, each line once: the first ten, and how many more there are.

    A single error is returned as it is. One wrong setting makes the whole a ConfigError.
    """
    errors = list(errors)
    lines = tuple(dict.fromkeys(line for each in errors for line in each.problems or (str(each),)))
    if len(lines) == 1:
        return errors[0]
    wrong = next((each for each in errors if isinstance(each, ConfigError)), errors[0])
    joined: Error = type(wrong)(f"{len(lines)} problems:\n  " + "\n  ".join(first_of(lines)))
    joined.problems = lines
    return joined


def first_of(items: Sequence[str]) -> list[str]:
    """Return the first SHOWN items, and behind them how many more there are."""
    more = [f"and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [*items[:SHOWN], *more]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt `word`: the nearest known one, or the list of all."""
    known = sorted(known)
    near = nearest(word, known)
    return f"did you mean {near!r}?" if near else f"known: {', '.join(first_of(known)) or 'none'}"


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the known name nearest to `word`, or None.

    A slip of the finger comes first, then the name with most whole words in common, then the most
    similar letters.
    """
    for cutoff in (0.85, 0.5):
        if near := difflib.get_close_matches(word, known, n=1, cutoff=cutoff):
            return near[0]
        shared = {name: _words_in_common(word, name) for name in known}
        if shared and max(shared.values()) > 0:
            return max(known, key=lambda name: (shared[name], _alike(word, name)))
    return None


def _alike(a: str, b: str) -> float:
    """Return how similar the letters of two names are, from 0 to 1; as `get_close_matches`."""
    return difflib.SequenceMatcher(None, b, a).ratio()


def _words_in_common(a: str, b: str) -> float:
    """Return the share of whole words that two names have in common, of all their words."""
    one, other = (set(filter(None, WORD.split(name.casefold()))) for name in (a, b))
    return len(one & other) / max(len(one | other), 1)


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
