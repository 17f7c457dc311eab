"""Labels of images, by one rule for every reader: a class name or a whole number.

Names are stripped and NFC-normalised. Whole floats and their texts are numbers (2.0 is 2). Null and
blank labels are missing. Anything else is refused, and so are spellings of a name that differ only
in surrounding space, case or Unicode form.
"""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from numbers import Number
from typing import Any

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import UNNAMED, Class, require_utf8, with_spaces

Label = int | str
NUMBER = re.compile(r"([+-]?[0-9]{1,9})(\.0*)?")
"""Text of a whole number. Longer ones are identifiers, not labels."""
MAX_CLASSES = 1_000_000
"""Limit on numeric labels without class names: larger numbers are identifiers, not labels."""


def parse_label(value: Any, where: str) -> Label | None:
    """Return a label as a name or a number; None if it is missing.

    `where` begins the message of AbsError for anything but a name or a whole number.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _parse_text(value)
    if _is_whole(value):
        return int(value)
    found = reprlib.repr(value)
    raise AbsError(f"{where}: expected a label, one name or one whole number, found {found}")


def _is_whole(value: Any) -> bool:
    """Return whether a value is a whole number of any numeric type; booleans are not."""
    if type(value) is bool or not isinstance(value, Number):
        return False
    number: Any = value
    try:
        return bool(int(number) == number)
    except (ValueError, OverflowError, TypeError):  # NaN, infinity, complex
        return False


def parse_labels(
    values: Sequence[Any], where: str, place: Callable[[int], str]
) -> list[Label | None]:
    """Return all labels of a dataset in order; None for missing ones.

    `where` names the dataset and `place(i)` the i-th value in the messages of AbsError.
    """
    labels = [parse_label(value, place(i)) for i, value in enumerate(values)]
    _refuse_spellings((value for value in values if isinstance(value, str)), where)
    return labels


def _parse_text(text: str) -> Label | None:
    name = unicodedata.normalize("NFC", require_utf8(text)).strip()
    if found := NUMBER.fullmatch(name):
        return int(found[1])
    return name or None


def _refuse_spellings(texts: Iterable[str], where: str) -> None:
    spelling: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        label = _parse_text(text)
        if not isinstance(label, str):
            continue
        first = spelling.setdefault(unicodedata.normalize("NFC", label.casefold()), text)
        if first != text:
            raise AbsError(
                f"{where}: labels {first!r} and {text!r} differ only in surrounding space, case or "
                "Unicode form; write one of them everywhere"
            )


def classes_of_labels(
    labels: Iterable[Label], names: Sequence[str] | None, where: str
) -> tuple[list[Class], dict[Label, int]]:
    """Return the classes of a table's labels, and the class index of each label.

    Labels are names, which are sorted, or numbers from 0. `names` are the names of the numbers;
    without them classes are nameless until `dataset.names` names them. Underscores in names become
    spaces. `where` begins error messages. AbsError if names and numbers are mixed, if a number is
    out of range, or if two names are equal but for underscores.
    """
    distinct = set(labels)
    numbers = [label for label in distinct if isinstance(label, int)]
    texts = sorted(label for label in distinct if isinstance(label, str))
    if numbers and texts:
        raise AbsError(f"{where}: labels mix numbers and names, such as {numbers[0]}, {texts[0]!r}")
    if texts:
        return _named_classes(texts, where), {text: n for n, text in enumerate(texts)}
    count = min(max(numbers) + 1, MAX_CLASSES) if names is None else len(names)
    if wrong := [number for number in numbers if not 0 <= number < count]:
        raise AbsError(f"{where}: label {wrong[0]} is out of range; expected 0 to {count - 1}")
    named = map(with_spaces, names or [""] * count)
    classes = [Class(str(number), name) for number, name in enumerate(named)]
    return classes, {number: number for number in range(count)}


def _named_classes(texts: list[str], where: str) -> list[Class]:
    first: dict[str, str] = {}
    for text in texts:
        if (other := first.setdefault(with_spaces(text), text)) != text:
            raise AbsError(f"{where}: labels {other!r} and {text!r} are equal but for underscores")
    return [Class(text, "" if UNNAMED.fullmatch(text) else with_spaces(text)) for text in texts]
