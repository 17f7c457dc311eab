"""Readers of prompt files: JSON, lists of words, and pickled lists without executing their code."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import AbsError, MissingInput
from pipeline.texts.sets import SLOT, has_one_slot

NAMED_SLOT = "{c}"
"""Place of the class name in CLIP_benchmark's templates."""
JSON_START = re.compile(r"\s*(\[|\"|\{(?!\}|c\}))")
"""Beginning of a JSON list, text or object, and of no template."""
CODE = re.compile(r"f?['\"]|lambda\b|#|//")
"""Beginning of a line of code, as templates stand in published programs."""
PICKLE_NAMES = {".pkl", ".pickle"}


PICKLE_STARTS = (b"(lp", b"]q", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of a pickled list; no list of words begins with any of them."""


def read_templates(path: Path) -> list[str]:
    """Read templates: a JSON list, or one per line; each has {} or {c} exactly once.

    AbsError, in one line, for anything else; MissingInput if there is no such file.
    """
    content = _template_lines(path) or files.read_json(path, "template file")
    if not isinstance(content, list) or not content:
        raise AbsError(
            f'template file {path}: expected a list of templates, such as ["a photo of a {SLOT}."]'
        )
    for number, template in enumerate(content, 1):
        both = _is_text(template) and SLOT in template and NAMED_SLOT in template
        if not _is_text(template) or both or not has_one_slot(_with_slot(template)):
            raise AbsError(
                f"template file {path}: template {number} of {len(content)} must be a text with "
                f"{SLOT} once, where the class name goes, and no other braces"
            )
    return [_with_slot(template) for template in content]


def _template_lines(path: Path) -> list[str]:
    """Return the lines of a text file; none if the file is missing or looks like JSON."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []  # the reader of JSON says why
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if JSON_START.match(text):
        return []
    if code := next(filter(CODE.match, lines), None):
        raise AbsError(f"template file {path}: {code!r} looks like code; write the templates alone")
    return lines


def _with_slot(template: str) -> str:
    """Return a template with {} in place of {c}, as CLIP_benchmark writes it."""
    return template if SLOT in template else template.replace(NAMED_SLOT, SLOT)


def read_texts(path: Path, what: str, *, empty: bool = False) -> dict[str, list[str]]:
    """Read a JSON object of lists of sentences or descriptors by class name.

    `what` names the file in errors. `empty` accepts empty texts, which some published files contain
    and their authors encode like any other. AbsError, in one line, for anything but non-empty lists
    of strings under unique names; MissingInput if there is no such file.
    """
    content = files.read_json(path, what)
    if not isinstance(content, dict) or not content:
        raise AbsError(f"{what} {path}: expected an object of lists of sentences by class name")
    for name, texts in content.items():
        if not _is_text(name):
            raise AbsError(f"{what} {path}: {name!r} is not a class name; give each list its class")
        _refuse_no_list(name, texts, f"{what} {path}")
    if not empty:
        _refuse_empty(content, f"{what} {path}")
    return content


def _refuse_no_list(name: str, texts: Any, where: str) -> None:
    if isinstance(texts, dict):
        raise AbsError(
            f"{where}: {name!r} has an object, not a list of sentences; if the file has several "
            "datasets, save the part of this one as a file of its own"
        )
    if not isinstance(texts, list) or not texts:
        raise AbsError(f"{where}: {name!r} needs a list of one or more sentences")
    for number, text in enumerate(texts, 1):
        if not _is_string(text):
            shown = "null" if text is None else repr(text)
            raise AbsError(f"{where}: text {number} of {name!r} is {shown}; remove or replace it")
        if SLOT in text or NAMED_SLOT in text:
            raise AbsError(
                f"{where}: text {number} of {name!r} is a template, {text!r}; give templates by a "
                "set of templates, such as descriptions.clip-e, or write the class name"
            )


def _refuse_empty(by_class: dict[str, list[str]], where: str) -> None:
    empty = [name for name, texts in by_class.items() for text in texts if not text.strip()]
    if empty:
        raise AbsError(
            f"{where}: {empty[0]!r} has an empty text ({len(empty)} in all); remove or replace it"
        )


def _is_text(value: Any) -> bool:
    return _is_string(value) and bool(value.strip())


def _is_string(value: Any) -> bool:
    """Return whether `value` is a string that can be stored as UTF-8."""
    return isinstance(value, str) and value == value.encode(errors="ignore").decode()


def read_words(path: Path) -> list[str]:
    """Read a UTF-8 file with one word per line, in order; blank lines are skipped.

    A pickled list of strings, as Waffle's authors publish it, is read too, by an unpickler that
    creates only strings, numbers and containers. AbsError, in one line, for a file without words,
    with several on a line, in another encoding, or for a pickle of anything else; MissingInput if
    there is no such file.
    """
    content = _read_bytes(path)
    pickled = path.suffix.lower() in PICKLE_NAMES or content.startswith(PICKLE_STARTS)
    texts = _unpickled(path, content) if pickled else _decoded(path, content).splitlines()
    lines = [line.strip() for line in texts]
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1 or not line.isprintable():
            raise AbsError(f"word list {path}: line {number} is not a word; put one on each line")
    words = [line for line in lines if line]
    if not words:
        raise AbsError(f"word list {path} has no words in it; put one on each line")
    return words


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingInput(f"word list not found: {path}") from None


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AbsError(f"word list {path} is not UTF-8 ({error}); save it as UTF-8") from None


class _TextType:
    """Substitute for numpy's string dtype that accepts and ignores any arguments and state."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def _text_scalar(kind: _TextType, content: bytes) -> str:
    """Decode a numpy string scalar, UTF-32 padded with zeros; substitute for numpy's `scalar`."""
    return content.decode("utf-32-le").rstrip("\0")


class _RestrictedUnpickler(pickle.Unpickler):
    """Unpickler of strings, numbers and containers that never imports or calls foreign code.

    Of all names that a pickle may refer to, only those of numpy's strings are resolved, to
    substitutes in this module.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return a substitute for a name of numpy's strings; UnpicklingError for any other."""
        if (module, name) in (("numpy", "dtype"), ("numpy.dtypes", "StrDType")):
            return _TextType
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return _text_scalar
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def _unpickled(path: Path, content: bytes) -> list[str]:
    try:
        loaded = _RestrictedUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # whatever a damaged or hostile pickle makes the reader raise
        raise AbsError(
            f"word list {path} is a pickle of more than strings ({error}); none of its code was "
            "executed; give a text file with one word on each line"
        ) from None
    if not isinstance(loaded, list) or not all(map(_is_string, loaded)):
        raise AbsError(f"word list {path} is a pickle, but not of a list of strings")
    return loaded
