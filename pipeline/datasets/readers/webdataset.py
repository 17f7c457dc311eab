"""Reader of WebDataset: images and labels as members of tar files, `<key>.jpg` beside `<key>.cls`.

Members are read at their offsets with Python's own tarfile: the webdataset library only streams,
and its URLs may run commands. A sample is a run of consecutive members with one key, as in that
library. Images that are not taken are listed as skipped with the reason; hidden names and files
such as `__meta__.json` are passed over.
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
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.core.errors import AbsError, ConfigError
from pipeline.datasets.formats import holds_image, is_decoded, is_foreign
from pipeline.datasets.labels import Label, classes_of_labels, parse_label, refuse_forms
from pipeline.datasets.listing import (
    FOREIGN_FORMAT,
    NOT_AN_IMAGE,
    Columns,
    LayoutNotFound,
    Listing,
    files_below,
    is_hidden,
    read_names,
    reason_to_skip,
    refuse_missing_parts,
    require_utf8,
)
from pipeline.datasets.readers.shard_contents import Members, ShardContents
from pipeline.datasets.readers.shard_memory import Rows, rows_of
from pipeline.datasets.samples import Samples

NAMES = ("classnames.txt", "classes.txt")
"""Files of class names, one per line, in the shards' folder or above it."""

BLOCK = 512
"""Bytes of a tar block."""

HEADER = 1 << 20
"""Bytes of a file of unknown kind that are read to see whether it is an image."""

DOTS = "a key with dots: webdataset ends a key at the first dot"
NO_FILE = "neither a file nor a link to one that lies before it in the shard"
OTHER_SUFFIX = "an image, but not by its suffix"
NO_IMAGE = "a sample without an image"

SHARD = re.compile(r"(.+)\.(?:tar|(tar\.(?:gz|bz2|xz|zst|lz4|z)|tgz|tbz2?|txz))", re.IGNORECASE)
"""Name of a shard: its stem, and the suffix if it is compressed."""
META = re.compile(r"__\w+__(\.\w+)?")
"""Names of files about a shard, such as `__meta__.json`."""

LABELS = ("cls", "cls.txt", "label", "label.txt")
"""Suffixes of members that hold the label."""


class _Stored(NamedTuple):
    """An image in a shard, with its label as it is stored."""

    path: str
    shard: str
    offset: int
    size: int
    label: Any
    where: str
    """Place of the label in the shard, for messages."""


class _Skipped(NamedTuple):
    """A file in a shard that is not taken."""

    path: str
    reason: str


class _Unlabelled(NamedTuple):
    """An image in a shard whose label cannot be read."""

    path: str
    where: str
    """Shard and key, which `reason` follows in messages."""
    reason: str


_KINDS = (_Stored, _Skipped, _Unlabelled)
_Sample = _Stored | _Skipped | _Unlabelled


@dataclass
class _Found:
    """What the shards of a dataset hold."""

    members: Members = field(default_factory=Members)
    """Images that have a label."""
    labels: dict[Label, int] = field(default_factory=dict)
    """Number of each label among the members."""
    parsed: dict[str, Label | None] = field(default_factory=dict)
    """Label of each text that is stored as one."""
    unnamed: list[str] = field(default_factory=list)
    """Paths of the images whose label is missing."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of the files that are not taken."""
    unlabelled: list[_Unlabelled] = field(default_factory=list)

    def add(self, sample: _Sample, root: Path) -> None:
        """Add a sample; AbsError for a label that is neither a name nor a number."""
        if isinstance(sample, _Skipped):
            self.skipped.append((sample.path, sample.reason))
        elif isinstance(sample, _Unlabelled):
            self.unlabelled.append(sample)
        elif (label := self._label(sample, root)) is None:
            self.unnamed.append(sample.path)
        else:
            place = sample.shard, sample.offset, sample.size
            number = self.labels.setdefault(label, len(self.labels))
            self.members.append(sample.path, place, number)

    def _label(self, sample: _Stored, root: Path) -> Label | None:
        stored, where = sample.label, f"{root}/{sample.shard}: {sample.where}"
        if not isinstance(stored, str):
            return parse_label(stored, where)
        if stored not in self.parsed:
            self.parsed[stored] = parse_label(stored, where)
        return self.parsed[stored]


class _Member(NamedTuple):
    """A file in a shard; key and suffix are parted at the first dot, as in the library."""

    key: str
    suffix: str
    """Text after the first dot of the file's name, in lower case."""
    name: str
    place: tuple[int, int] | None
    """(offset, size); None for a link that leads nowhere."""


def read_webdataset(root: Path, columns: Columns, memory: Path | None = None) -> Listing:
    """Read all samples of the shards below `root` that belong to one split.

    Labels are names, or numbers whose names are listed in `classnames.txt`. Samples whose label is
    missing or cannot be read are skipped, unless all are. AbsError names a shard that is damaged or
    compressed, MissingInput one that is missing. ConfigError if a split must be chosen. What a
    shard holds is remembered in the folder `memory`.
    """
    shards, beside = _shards(root, columns.split)
    found = _Found()
    for shard in shards:
        for sample in _remembered(root, shard, columns, memory):
            found.add(sample, root)
    if not found.members.paths and not found.unnamed:
        raise _nothing(root, shards, found.unlabelled, found.skipped)
    refuse_forms(found.parsed, str(root))
    file = _names_file(shards[0].parent, root)
    names = read_names(file) if file else None
    if not found.labels:
        raise AbsError(f"{root}: no sample has a label")
    classes, indices = classes_of_labels(found.labels, names, str(root))
    members, places = found.members.in_order(), [indices[label] for label in found.labels]
    samples = Samples.of(members.paths, (places[number] for number in members.labels))
    skipped = found.skipped + [(each.path, each.reason.lstrip()) for each in found.unlabelled]
    skipped += [(path, "no label") for path in found.unnamed]
    contents = ShardContents(root, members)
    layout = f"{len(shards)} shards in {shards[0].parent}"
    if file is not None and isinstance(next(iter(found.labels)), int):
        layout += f", classes named by {file}"
    return Listing(classes, samples, layout, skipped=skipped + beside, contents=contents)


def shards_below(root: Path) -> list[Path]:
    """Return the tar files below a folder, compressed ones too, sorted by path."""
    files = files_below(root, root) if root.is_dir() else []
    return sorted(path for path in files if SHARD.fullmatch(path.name) and path.is_file())


def _nothing(
    root: Path, shards: list[Path], unlabelled: list[_Unlabelled], skipped: list[tuple[str, str]]
) -> AbsError:
    """Return the error for shards of which no sample has an image and a label."""
    if unlabelled:
        return AbsError(f"{unlabelled[0].where}{unlabelled[0].reason}")
    first = f"; the first file: {skipped[0][0]} ({skipped[0][1]})" if skipped else ""
    return AbsError(f"{root}: no images in {len(shards)} shards{first}")


def _shards(root: Path, split: str | None) -> tuple[list[Path], list[tuple[str, str]]]:
    """Return the shards of one split, and (file, reason) of the files that lie among them.

    Shards of a split lie in one folder and have names that differ only in a number.
    """
    splits: dict[str, list[Path]] = {}
    for path in shards_below(root):
        splits.setdefault(_split(path.relative_to(root)), []).append(path)
    if not splits:
        raise LayoutNotFound(f"{root} has no shards (*.tar)")
    wanted = [name for name in splits if split is None or split in _words(name)]
    if len(wanted) != 1:
        reason = "several splits" if split is None else f"not exactly one split {split!r}"
        raise ConfigError(
            f"dataset.split: {root} has {reason}; choose one of {', '.join(splits)} "
            "(abs init: --split)"
        )
    shards = splits[wanted[0]]
    for path in shards:
        if _part_of_name(path, 2):
            raise AbsError(f"{path} is compressed; decompress it, or move it elsewhere")
    refuse_missing_parts(shards)
    return shards, _files_among(root, root if len(splits) == 1 else shards[0].parent)


def _files_among(root: Path, folder: Path) -> list[tuple[str, str]]:
    """Return (file, reason) of the files below a folder that are no shards or lists of classes."""
    return [
        (require_utf8(file.relative_to(root).as_posix()), reason_to_skip(file) or "not in a shard")
        for file in files_below(folder, root)
        if not SHARD.fullmatch(file.name) and file.name not in NAMES
    ]


def _part_of_name(shard: Path, group: int) -> str | None:
    found = SHARD.fullmatch(shard.name)
    return found and found[group]


def _split(shard: Path) -> str:
    """Return a shard's split: `test` for `test/0.tar`, `birds-val` for `birds-val-000012.tar`."""
    stem = re.sub(r"[-_.]?\d+([-_.]of[-_.]\d+)?$", "", _part_of_name(shard, 1) or "")
    return (shard.parent / stem).as_posix() if stem else shard.parent.as_posix()


def _words(split: str) -> set[str]:
    return {split, *split.split("/"), *re.split(r"[/._-]", split)}


def _remembered(
    root: Path, shard: Path, columns: Columns, memory: Path | None
) -> Iterator[_Sample]:
    """Yield what a shard holds, from memory if the shard has not changed."""

    def read() -> Rows:
        return [[_KINDS.index(type(each)), *each] for each in _samples(root, shard, columns)]

    for kind, *values in rows_of(shard, columns, memory, read):
        yield _KINDS[kind](*values)


def _samples(root: Path, shard: Path, columns: Columns) -> Iterator[_Sample]:
    """Yield what a shard holds; AbsError if it is damaged or a sample's files lie apart."""
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
                    yield _Skipped(f"{name}/{require_utf8(other.lstrip('/'))}", reason)
                if image and image.place:
                    path, where = f"{name}/{require_utf8(image.name)}", key.lstrip("/")
                    try:
                        found = _label(file, members, columns.label, where)
                    except _NoLabel as reason:
                        yield _Unlabelled(path, f"{shard}: {where}", str(reason))
                    else:
                        yield _Stored(path, name, *image.place, *found)
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


def _names_file(folder: Path, root: Path) -> Path | None:
    """Return the nearest list of the names of numbered classes, or None without one."""
    for place in (folder, *folder.parents):
        for name in NAMES:
            if (place / name).is_file():
                return place / name
        if place == root:
            break
    return None
