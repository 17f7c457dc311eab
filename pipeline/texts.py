"""The texts of the zero-shot baselines: templates, descriptors, and Waffle's noise.

What is made here is one list of texts per class, in the order of the class names, and a function of
the arguments alone: no random state is shared, names are inserted as they are and never evaluated.
What is read here has been checked: every text a reader returns is a string, and unless empty ones
are asked for, has something in it.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import files
from pipeline.errors import AbsError, MissingInput

SLOT = "{}"
"""Where a template takes the class name."""

OPENINGS: tuple[tuple[str, str], ...] = (
    ("a", "which is"),
    ("has", "which"),
    ("often", "which"),
    ("typically", "which"),
    ("may", "which"),
    ("can", "which"),
    ("used", "which is"),
)
"""How a descriptor begins, and what joins it to the class name; the first that fits counts."""
OTHERWISE = "which has"

NOT_LETTERS = frozenset(" ,.")
"""What descriptors hold besides the characters that Waffle draws from."""

PICKLE_NAMES = {".pkl", ".pickle"}
PICKLE_STARTS = (b"(lp", b"]q", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of a pickled list; none of them begins a list of words."""


def of_templates(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Every template with each class name in place of its {}.

    Braces elsewhere, in a name too, stay what they are. ValueError for a template without {} or
    with more than one.
    """
    for template in templates:
        if not _has_one_slot(template):
            raise ValueError(
                f"a template needs {SLOT} once, where the class name goes: {template!r}"
            )
    return [[template.replace(SLOT, name) for template in templates] for name in names]


def _has_one_slot(template: str) -> bool:
    return template.count(SLOT) == 1


def descriptor_sentence(descriptor: str) -> str:
    """The descriptor as a clause after a class name: "long legs" -> "which has long legs".

    Beginnings are compared letter by letter, not word by word, as CLIP-D's released code does:
    "arched" begins with "a" and becomes "which is arched", "canine teeth" begins with "can".
    """
    for opening, joint in OPENINGS:
        if descriptor.startswith(opening):
            return f"{joint} {descriptor}"
    return f"{OTHERWISE} {descriptor}"


def of_descriptors(names: Sequence[str], descriptors: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each class name with each of its own descriptors: "crow, which is a black bird".

    ValueError unless there is one list of descriptors per name.
    """
    return [
        [f"{name}, {descriptor_sentence(descriptor)}" for descriptor in told]
        for name, told in zip(names, descriptors, strict=True)
    ]


@dataclass(frozen=True)
class NoiseShape:
    """What Waffle's noise takes over from the class names: their number of words, and lengths."""

    words: int
    word_length: int
    """Random words are cut to so many characters."""
    groups: int
    group_length: int
    """Random characters come in so many groups of so many each."""

    @classmethod
    def of(cls, names: Sequence[str]) -> NoiseShape:
        """The shape for these class names; halves are rounded to even. ValueError for no names."""
        if not names:
            raise ValueError("Waffle takes lengths from class names: there are none")
        lengths = [[len(word) for word in _spaced(name).split(" ")] for name in names]
        groups = _rounded([len(each) - 1 for each in lengths]) + 1
        letters = math.ceil(np.mean([max(each) for each in lengths]))
        return cls(
            words=max(_rounded([len(each) for each in lengths]), 1),
            word_length=_rounded([float(np.mean(each)) for each in lengths]),
            groups=groups,
            group_length=letters // groups + 1,
        )


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _rounded(values: Sequence[float]) -> int:
    return int(np.round(np.mean(values)))


def waffle_noise(
    names: Sequence[str],
    words: Sequence[str],
    letters: Iterable[str],
    pairs: int = 15,
    seed: int = 0,
) -> list[str]:
    """`pairs` times random words and random characters, in turn, in the shape of the class names.

    Characters are those of the texts in `letters`, each as likely as any other, without spaces,
    commas and full stops. Fewer pairs are the beginning of more. ValueError for no names, words or
    letters, or for fewer than one pair.
    """
    shape, characters = NoiseShape.of(names), sorted(set("".join(letters)) - NOT_LETTERS)
    if not words or not characters or pairs < 1:
        lacking = "pairs, at least one" if pairs < 1 else "words" if not words else "letters"
        raise ValueError(f"Waffle draws from words and letters: give it {lacking}")
    generator = np.random.Generator(np.random.Philox(seed))
    noise = []
    for _ in range(pairs):
        noise.append(_random_words(generator, words, shape))
        noise.append(_random_characters(generator, characters, shape))
    return noise


def _random_words(rng: np.random.Generator, words: Sequence[str], shape: NoiseShape) -> str:
    return " ".join(word[: shape.word_length] for word in _draw(rng, words, shape.words))


def _random_characters(
    rng: np.random.Generator, characters: Sequence[str], shape: NoiseShape
) -> str:
    drawn = [_draw(rng, characters, shape.group_length) for _ in range(shape.groups)]
    return ", ".join("".join(group) for group in drawn)


def _draw(rng: np.random.Generator, items: Sequence[str], count: int) -> list[str]:
    places = (rng.random(count) * len(items)).astype(np.int64)
    return [items[place] for place in places]


def waffle(
    names: Sequence[str],
    words: Sequence[str],
    letters: Iterable[str],
    pairs: int = 15,
    seed: int = 0,
) -> list[list[str]]:
    """Every class with the same noise: "A photo of a crow, which has tablz gone.".

    Underscores in class names read as spaces. ValueError as for `waffle_noise`.
    """
    return of_noise(names, waffle_noise(names, words, letters, pairs, seed))


def of_noise(names: Sequence[str], noise: Sequence[str]) -> list[list[str]]:
    """Every class with noise that is there already."""
    clauses = [descriptor_sentence(text) for text in noise]
    return [[f"A photo of a {_spaced(name)}, {clause}." for clause in clauses] for name in names]


def read_templates(path: Path) -> list[str]:
    """The templates of a JSON file: a list of one or more strings with {} once in each.

    AbsError, in one line, for anything else; MissingInput if there is no such file.
    """
    content = files.read_json(path, "template file")
    if not isinstance(content, list) or not content:
        raise AbsError(
            f'template file {path}: expected a list of templates, such as ["a photo of a {SLOT}."]'
        )
    for number, template in enumerate(content, 1):
        if not _is_text(template) or not _has_one_slot(template):
            raise AbsError(
                f"template file {path}: template {number} of {len(content)} must be a text with "
                f"{SLOT} once, where the class name goes"
            )
    return [str(template) for template in content]


def read_texts(path: Path, what: str, *, empty: bool = False) -> dict[str, list[str]]:
    """The sentences, or descriptors, of each class: a JSON object of lists by class name.

    `what` names the file in errors. `empty` lets empty texts through, which some published files
    have and their authors encode like any other. AbsError, in one line, for anything but non-empty
    lists of strings under names that stand there once; MissingInput if there is no such file.
    """
    content = files.read_json(path, what)
    if not isinstance(content, dict) or not content:
        raise AbsError(f"{what} {path}: expected an object of lists of sentences by class name")
    for name, texts in content.items():
        if not _is_text(name):
            raise AbsError(f"{what} {path}: {name!r} is not a class name; give each list its class")
        if not isinstance(texts, list) or not texts or not all(map(_is_string, texts)):
            raise AbsError(f"{what} {path}: {name!r} needs a list of one or more sentences")
    if not empty:
        _refuse_empty(content, f"{what} {path}")
    return content


def _refuse_empty(told: dict[str, list[str]], where: str) -> None:
    empty = [name for name, texts in told.items() for text in texts if not text.strip()]
    if empty:
        raise AbsError(
            f"{where}: {empty[0]!r} has an empty text ({len(empty)} in all); remove or replace it"
        )


def _is_text(value: Any) -> bool:
    return _is_string(value) and bool(value.strip())


def _is_string(value: Any) -> bool:
    """Whether `value` is a string that can be stored as UTF-8."""
    return isinstance(value, str) and value == value.encode(errors="ignore").decode()


def read_words(path: Path) -> list[str]:
    """The words of a text file in UTF-8, one a line, in their order; blank ones are skipped.

    A pickled list of strings, as Waffle's authors publish it, is read too, by a reader that can
    make nothing but strings and lists. AbsError, in one line, for a file without words, with
    several on a line, in another encoding, or for a pickle of anything else; MissingInput if there
    is no such file.
    """
    content = _bytes_of(path)
    pickled = path.suffix.lower() in PICKLE_NAMES or content.startswith(PICKLE_STARTS)
    found = _pickled(path, content) if pickled else _decoded(path, content).splitlines()
    lines = [line.strip() for line in found]
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1 or not line.isprintable():
            raise AbsError(f"word list {path}: line {number} is not a word; put one on each line")
    words = [line for line in lines if line]
    if not words:
        raise AbsError(f"word list {path} has no words in it; put one on each line")
    return words


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingInput(f"word list not found: {path}") from None


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AbsError(f"word list {path} is not UTF-8 ({error}); save it as UTF-8") from None


class _Text:
    """Stands in for numpy's type of text, whatever it is told."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def _text(kind: _Text, content: bytes) -> str:
    """Stands in for numpy's scalars: text as UTF-32, padded with zeros."""
    return content.decode("utf-32-le").rstrip("\0")


class _Plain(pickle.Unpickler):
    """Makes strings, numbers and lists. Of what a pickle may ask for by name only numpy's text is
    answered, by stand-ins of this module; nothing is ever imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in, or UnpicklingError."""
        if (module, name) in (("numpy", "dtype"), ("numpy.dtypes", "StrDType")):
            return _Text
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return _text
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _pickled(path: Path, content: bytes) -> list[str]:
    try:
        found = _Plain(io.BytesIO(content)).load()
    except Exception as error:  # whatever a damaged or hostile pickle makes the reader raise
        raise AbsError(
            f"word list {path} is a pickle of more than strings ({error}); nothing of it was run; "
            "give a text file with one word on each line"
        ) from None
    if not isinstance(found, list) or not all(map(_is_string, found)):
        raise AbsError(f"word list {path} is a pickle, but not of a list of strings")
    return found
