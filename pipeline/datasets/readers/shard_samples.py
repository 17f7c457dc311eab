"""Samples of one WebDataset shard: images with their labels as stored, and what is not taken.

Members are found with Python's own tarfile: the webdataset library only streams, and its URLs may
run commands. A sample is a run of consecutive members with one key, as in that library.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.core.errors import AbsError, ConfigError
from pipeline.datasets.formats import holds_image, is_decoded, is_foreign
from pipeline.datasets.listing import (
    FOREIGN_FORMAT,
    NOT_AN_IMAGE,
    Columns,
    is_hidden,
    require_utf8,
)

BLOCK = 512
"""Bytes of a tar block."""

HEADER = 1 << 20
"""Bytes of a file of unknown kind that are read to see whether it is an image."""

DOTS = "a key with dots: webdataset ends a key at the first dot"
NO_FILE = "neither a file nor a link to one that lies before it in the shard"
OTHER_SUFFIX = "an image, but not by its suffix"
NO_IMAGE = "a sample without an image"

META = re.compile(r"__\w+__(\.\w+)?")
"""Names of files about a shard, such as `__meta__.json`."""

LABELS = ("cls", "cls.txt", "label", "label.txt")
"""Suffixes of members that hold the label."""


class Stored(NamedTuple):
    """An image in a shard, with its label as it is stored."""

    path: str
    shard: str
    offset: int
    size: int
    label: Any
    where: str
    """Place of the label in the shard, for messages."""


class Skipped(NamedTuple):
    """A file in a shard that is not taken."""

    path: str
    reason: str


class Unlabelled(NamedTuple):
    """An image in a shard whose label cannot be read."""

    path: str
    where: str
    """Shard and key, which `reason` follows in messages."""
    reason: str


KINDS = (Stored, Skipped, Unlabelled)
"""Kinds of samples; the memory of a shard names one by its place here."""
Sample = Stored | Skipped | Unlabelled


class _Member(NamedTuple):
    """A file in a shard; key and suffix are parted at the first dot, as in the library."""

    key: str
    suffix: str
    """Text after the first dot of the file's name, in lower case."""
    name: str
    place: tuple[int, int] | None
    """(offset, size); None for a link that leads nowhere."""


def samples_of(root: Path, shard: Path, columns: Columns) -> Iterator[Sample]:
    """Yield the content of a shard; AbsError if it is damaged or a sample's files lie apart."""
    name, seen = require_utf8(shard.relative_to(root).as_posix()), set[str]()
    with open(shard, "rb") as file:
        try:
            for key, run in groupby(_members(file), key=lambda member: member.key):
                if key in seen:
                    raise AbsError(
                        f"{shard}: the files of sample {key.lstrip('/')!r} do not lie together; "
                        "pack the shard again with tar --sort=name"
                    )
                seen.add(key)
                members = list(run)
                image, skipped = _image(file, members, columns.image)
                for other, reason in skipped:
                    yield Skipped(f"{name}/{require_utf8(other.lstrip('/'))}", reason)
                if image and image.place:
                    path, where = f"{name}/{require_utf8(image.name)}", key.lstrip("/")
                    try:
                        found = _label(file, members, columns.label, where)
                    except _NoLabel as reason:
                        yield Unlabelled(path, f"{shard}: {where}", str(reason))
                    else:
                        yield Stored(path, name, *image.place, *found)
        except (tarfile.TarError, ValueError) as error:  # tarfile raises both for damaged headers
            raise AbsError(f"{shard} is damaged or not a plain tar file: {error}") from None


def _members(file: BinaryIO) -> Iterator[_Member]:
    """Yield the visible files and links of a shard; a link has the place of what it leads to."""
    places: dict[str, tuple[int, int]] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            folder, _, last = info.name.rpartition("/")
            if info.isdir() or is_hidden(last) or META.fullmatch(last) or "__MACOSX" in folder:
                continue
            place = _place(info, folder, places)
            if place:
                places[posixpath.normpath(info.name)] = place
            stem, dot, suffix = last.partition(".")
            key = f"{folder}/{stem}" if dot else f"{info.name}/"  # no sample of its own
            yield _Member(key, suffix.lower(), info.name, place)
        _check_end(file, tar.offset)


def _place(
    info: tarfile.TarInfo, folder: str, places: dict[str, tuple[int, int]]
) -> tuple[int, int] | None:
    """Return offset and size of a file, or of the one that a link leads to."""
    if info.isreg() and not info.issparse():
        return info.offset_data, info.size
    target = info.linkname if info.islnk() else posixpath.join(folder, info.linkname)
    return places.get(posixpath.normpath(target)) if info.islnk() or info.issym() else None


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raise ReadError unless the archive ends in zeros; tarfile also stops at damaged headers."""
    file.seek(offset)
    if file.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError("it is truncated, or has a damaged header")
    while rest := file.read(1 << 20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("it has data after its end")


def _image(
    file: BinaryIO, members: list[_Member], wanted: str | None
) -> tuple[_Member | None, list[tuple[str, str]]]:
    """Return a sample's image, and (name, reason) of what is not taken.

    Without a chosen suffix every image counts; with one, other suffixes are other columns.
    ConfigError if the suffix must be chosen.
    """
    chosen = [member for member in members if wanted and member.suffix == wanted.lower()]
    images = chosen or [member for member in members if _is_image(member, wanted)]
    if not images:
        return None, _without_image(file, members)
    (suffix, count), *_ = Counter(member.suffix for member in members).most_common(1)
    if count > 1:
        return None, [(one.name, f"its sample has {count} files .{suffix}") for one in images]
    reasons = [_reason_to_skip(member, wanted) for member in images]
    taken = [member for member, reason in zip(images, reasons, strict=True) if not reason]
    if len(taken) > 1:
        names = ", ".join(member.name for member in taken)
        raise ConfigError(f"dataset.image: a sample has {names}; choose a suffix, such as jpg")
    skipped = [(one.name, reason) for one, reason in zip(images, reasons, strict=True) if reason]
    return (taken[0] if taken else None), skipped


def _is_image(member: _Member, wanted: str | None) -> bool:
    if wanted is not None:
        return f".{member.suffix}".endswith(f".{wanted.lower()}")
    return is_decoded(member.name) or is_foreign(member.name)


def _reason_to_skip(image: _Member, wanted: str | None) -> str | None:
    if image.place is None:
        return NO_FILE
    if wanted is not None:
        return None if image.suffix == wanted.lower() else DOTS
    if is_foreign(image.name):
        return FOREIGN_FORMAT
    return DOTS if "." in image.suffix else None


def _without_image(file: BinaryIO, members: list[_Member]) -> list[tuple[str, str]]:
    """Return (name, reason) of a sample that has a label alone, or of files that are no sample."""
    if {*LABELS, "json"} & {member.suffix for member in members}:
        return [(members[0].key, NO_IMAGE)]
    return [(member.name, _reason_of_other(file, member)) for member in members]


def _reason_of_other(file: BinaryIO, member: _Member) -> str:
    if member.place is None:
        return NO_FILE
    offset, size = member.place
    start = io.BytesIO(os.pread(file.fileno(), min(size, HEADER), offset))
    return OTHER_SUFFIX if holds_image(start, member.name) else NOT_AN_IMAGE


class _NoLabel(Exception):
    """A sample has no label that can be read. The text follows its key without a space."""


def _label(
    file: BinaryIO, members: list[_Member], wanted: str | None, where: str
) -> tuple[Any, str]:
    """Return a sample's stored label and its place: a member of its own, or a field of its JSON.

    _NoLabel if there is none, or it cannot be read.
    """
    sample = {member.suffix: member.place for member in members if member.place}
    for suffix in (wanted.lower(),) if wanted else LABELS:
        if suffix in sample:
            try:
                text = _content(file, sample[suffix]).decode("utf-8-sig")
            except UnicodeDecodeError:
                raise _NoLabel(f".{suffix} is not UTF-8") from None
            return text, f"{where}.{suffix}"
    if "json" in sample:
        field = wanted or "label"
        try:
            value = json.loads(_content(file, sample["json"]))[field]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise _NoLabel(f".json has no field {field!r}; set dataset.label") from None
        return value, f"{where}.json, field {field!r}"
    raise _NoLabel(f" has no label; expected {LABELS[0]} or json among {', '.join(sample)}")


def _content(file: BinaryIO, place: tuple[int, int]) -> bytes:
    offset, size = place
    return os.pread(file.fileno(), size, offset)
