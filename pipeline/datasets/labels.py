"""Labels of images, by one rule for every reader: a class name or a whole number.

Names are stripped and NFC-normalised. Whole floats and their texts are numbers (2.0 is 2). Null and
blank labels are missing. Anything else is refused, also as a text that stands for it, and so are
two texts of one name, which differ only in space or Unicode form.
"""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from numbers import Number
from typing import Any

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import (
    UNNAMED,
    Class,
    normal_form,
    require_utf8,
    told_apart,
    with_spaces,
)

Label = int | str
WORD = re.compile(r"true|false|none|null|nan|nat|na|n/a|<na>", re.IGNORECASE)
"""Words that programs write for booleans and missing values, and that classes may be called too."""
NO_NAME = re.compile(
    r"[0-9]+([ ,;|/]+[0-9]+)+|[0-9]{4}-[0-9]{2}-[0-9]{2}.*"  # several numbers, dates
    r"|\[.*\]|\{.*\}|\(.*\)|\".*\"|'.*'",  # lists, objects and quoted texts
    re.IGNORECASE,
)
"""Texts of values that are neither a name nor a whole number."""
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
        label = _parse_text(value)
        several_lines = any(unicodedata.category(c) == "Cc" for c in value.strip())
        if not isinstance(label, str) or not (several_lines or is_value(label)):
            return label
    elif _is_whole(value):
        return int(value)
    found, advice = reprlib.repr(value), "change it there"
    if isinstance(value, str) and WORD.fullmatch(value.strip()):
        advice += (
            "; if a class is called so, write another label and give its name by dataset.names"
        )
    raise AbsError(
        f"{where}: expected a label, one name or one whole number, found {found}; {advice}"
    )


def is_value(name: str) -> bool:
    """Return whether a text is a value in writing, such as a fraction or a list, and no name."""
    if WORD.fullmatch(name) or NO_NAME.fullmatch(name):
        return True
    try:
        float(name)
    except ValueError:
        return False
    return not name.isdecimal()  # an identifier with more digits than a label


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
    refuse_forms((value for value in values if isinstance(value, str)), where)
    return labels


def refuse_forms(texts: Iterable[str], where: str) -> None:
    """Raise AbsError if two texts are one name in different space or Unicode forms."""
    first: dict[Label, str] = {}
    for text in dict.fromkeys(texts):
        label = _parse_text(text)
        if isinstance(label, str) and (other := first.setdefault(label, text)) != text:
            raise AbsError(
                f"{where}: labels {told_apart(other, text)} differ only in space, invisible "
                "characters or Unicode form; use one of them everywhere"
            )


def _parse_text(text: str) -> Label | None:
    name = normal_form(require_utf8(text))
    if found := NUMBER.fullmatch(name):
        return int(found[1])
    return name or None


def classes_of_labels(
    labels: Iterable[Label], names: Sequence[str] | None, where: str
) -> tuple[list[Class], dict[Label, int]]:
    """Return the classes of a table's labels, and the class index of each label.

    Labels are names, which are sorted, or numbers from 0. `names` are the names of the numbers;
    without them, the numbers that occur are classes without names until `dataset.names` names them.
    Underscores in names become spaces. `where` begins error messages. AbsError if names and numbers
    are mixed, or if a number is out of range.
    """
    distinct = set(labels)
    numbers = sorted(label for label in distinct if isinstance(label, int))
    texts = sorted(label for label in distinct if isinstance(label, str))
    if numbers and texts:
        raise AbsError(
            f"{where}: labels mix numbers and names, such as {numbers[0]}, {texts[0]!r}; use names "
            "or numbers alone"
        )
    if texts:
        return [_named(text, text) for text in texts], {text: n for n, text in enumerate(texts)}
    count = MAX_CLASSES if names is None else len(names)
    if wrong := [number for number in numbers if not 0 <= number < count]:
        raise AbsError(f"{where}: label {wrong[0]} is out of range; expected 0 to {count - 1}")
    if names is None:
        return [Class(str(number), "") for number in numbers], _places(numbers)
    return _numbered_classes(names, where), _places(range(count))


def _places(labels: Iterable[int]) -> dict[Label, int]:
    return {label: place for place, label in enumerate(labels)}


def _numbered_classes(names: Sequence[str], where: str) -> list[Class]:
    """Return one class per name; identifiers among them are keys, to be named by themselves."""
    if not any(UNNAMED.fullmatch(normal_form(name)) for name in names):
        return [Class(str(number), with_spaces(name)) for number, name in enumerate(names)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise AbsError(f"{where}: two classes are called {twice[0]!r}")
    return [_named(name, normal_form(name)) for name in names]


def _named(key: str, name: str) -> Class:
    return Class(key, "" if UNNAMED.fullmatch(name) else with_spaces(name))
