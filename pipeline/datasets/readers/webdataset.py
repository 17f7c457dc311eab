"""Reader of WebDataset: images and labels as members of tar files, `<key>.jpg` beside `<key>.cls`.

Members are read at their offsets with Python's own tarfile: the webdataset library only streams,
and its URLs may run commands. A sample is a run of consecutive members with one key, as in that
library.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.files import version_of
from pipeline.datasets.labels import classes_of_labels, parse_labels
from pipeline.datasets.listing import (
    SUFFIXES,
    Columns,
    LayoutNotFound,
    Listing,
    read_names,
    require_utf8,
)

NAMES = ("classnames.txt", "classes.txt")
"""Files of class names, one per line, in the shards' folder or above it."""

BLOCK = 512
"""Bytes of a tar block."""

DOTS = "a key with dots: webdataset ends a key at the first dot"
LABELS = ("cls", "cls.txt", "label", "label.txt")
"""Suffixes of members that hold the label."""


@dataclass(frozen=True)
class ShardContents:
    """Members of tar files; their paths are `<shard>/<member>`."""

    root: Path
    members: dict[str, tuple[str, int, int]]
    """(shard, offset, size) of each member by its path."""

    def has(self, path: str) -> bool:
        """Return whether the member exists."""
        return path in self.members

    def where(self, path: str) -> str:
        """Return the shard's full path, followed by the member's name."""
        return str(self.root / path)

    def read(self, path: str) -> bytes:
        """Return the member's bytes; AbsError if the shard is shorter than it was when listed."""
        shard, offset, size = self.members[path]
        with open(self.root / shard, "rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise AbsError(f"{self.where(path)}: the shard ends before the member does")
        return content

    def version(self, path: str) -> list[int]:
        """Return the shard's size, times and inode, then the member's offset and size."""
        shard, offset, size = self.members[path]
        return [*version_of(self.root / shard), offset, size]


class _Stored(NamedTuple):
    """An image in a shard, with its label as it is stored."""

    path: str
    place: tuple[str, int, int]
    label: Any
    where: str
    """Place of the label, for messages."""


def read_webdataset(root: Path, columns: Columns) -> Listing:
    """Read all samples of the shards below `root` that belong to one split.

    Labels are names, or numbers whose names are listed in `classnames.txt`. AbsError names a shard
    that is damaged or compressed, or a sample without a label. ConfigError if a split must be
    chosen.
    """
    shards = _shards(root, columns.split)
    every = [sample for shard in shards for sample in _samples(root, shard, columns)]
    stored = [sample for sample in every if isinstance(sample, _Stored)]
    if not stored:
        raise AbsError(f"{root}: no images in {len(shards)} shards")
    values = [sample.label for sample in stored]
    labels = parse_labels(values, str(root), lambda i: stored[i].where)
    file = _names_file(shards[0].parent, root)
    names = read_names(file) if file else None
    pairs = list(zip(stored, labels, strict=True))
    labelled = [(sample.path, label) for sample, label in pairs if label is not None]
    if not labelled:
        raise AbsError(f"{root}: no sample has a label")
    classes, indices = classes_of_labels({label for _, label in labelled}, names, str(root))
    members = {sample.path: sample.place for sample in stored}
    if len(members) < len(stored):
        raise AbsError(f"{root}: a shard has two images of the same name")
    samples = [(path, indices[label]) for path, label in labelled]
    layout = f"{len(shards)} shards in {shards[0].parent}"
    if file is not None and isinstance(labelled[0][1], int):
        layout += f", classes named by {file}"
    skipped = [sample for sample in every if not isinstance(sample, _Stored)]
    skipped += [(sample.path, "no label") for sample, label in pairs if label is None]
    return Listing(
        classes, sorted(samples), layout, skipped=skipped, contents=ShardContents(root, members)
    )


def _shards(root: Path, split: str | None) -> list[Path]:
    """Return the tar files of one split: in one folder, with names that differ only in a number."""
    splits: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.tar")) if root.is_dir() else []:
        splits.setdefault(_split(path.relative_to(root)), []).append(path)
    if not splits:
        raise LayoutNotFound(f"{root} has no shards (*.tar); decompress .tar.gz files first")
    wanted = [name for name in splits if split is None or split in _words(name)]
    if len(wanted) != 1:
        reason = "several splits" if split is None else f"not exactly one split {split!r}"
        raise ConfigError(f"dataset.split: {root} has {reason}; choose one of {', '.join(splits)}")
    return splits[wanted[0]]


def _split(shard: Path) -> str:
    """Return a shard's split: `test` for `test/0.tar`, `birds-val` for `birds-val-000012.tar`."""
    stem = re.sub(r"[-_.]?\d+([-_.]of[-_.]\d+)?$", "", shard.stem)
    return (shard.parent / stem).as_posix() if stem else shard.parent.as_posix()


def _words(split: str) -> set[str]:
    return {split, *split.split("/"), *re.split(r"[/._-]", split)}


def _samples(root: Path, shard: Path, columns: Columns) -> Iterator[_Stored | tuple[str, str]]:
    """Yield each image with its label, or (name, reason) of a sample without an image.

    AbsError if the files of a sample do not lie together.
    """
    name, seen = shard.relative_to(root).as_posix(), dict[str, bool]()
    with open(shard, "rb") as file:
        try:
            for key, members in groupby(_members(file), key=lambda member: member[0]):
                sample = {suffix: info for _, suffix, info in members}
                image = _image(sample, columns.image)
                if not seen.get(key, True) or (key in seen and image is None):
                    raise AbsError(
                        f"{shard}: the files of sample {key.lstrip('/')!r} do not lie together; "
                        "pack the shard again with tar --sort=name"
                    )
                seen[key] = image is not None
                if image is None:
                    yield from _without_image(name, key, sample)
                    continue
                place = name, image.offset_data, image.size
                path = f"{name}/{require_utf8(image.name)}"
                yield _Stored(path, place, *_label(file, sample, columns.label, f"{shard}: {key}"))
        except tarfile.TarError as error:
            raise AbsError(f"{shard} is damaged or not a plain tar file: {error}") from None


def _without_image(
    shard: str, key: str, sample: dict[str, tarfile.TarInfo]
) -> Iterator[tuple[str, str]]:
    """Yield (name, reason) of a sample that has a label alone, or whose key has dots."""
    for suffix, info in sample.items():
        if "." in suffix and f".{suffix.rpartition('.')[2]}" in SUFFIXES:
            yield f"{shard}/{require_utf8(info.name)}", DOTS
            return
    if {*LABELS, "json"} & set(sample):
        yield f"{shard}/{require_utf8(key.lstrip('/'))}", "a sample without an image"


def _members(file: BinaryIO) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Yield key, suffix and header of each member, split as the webdataset library does."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            folder, _, last = info.name.rpartition("/")
            key, dot, suffix = last.partition(".")
            if info.isreg() and key and dot and not info.name.startswith("__"):
                yield f"{folder}/{key}", suffix.lower(), info
        _check_end(file, tar.offset)


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raise ReadError unless the archive ends in zeros; tarfile also stops at damaged headers."""
    file.seek(offset)
    if file.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError("it is truncated, or has a damaged header")
    while rest := file.read(1 << 20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("it has data after its end")


def _image(sample: dict[str, tarfile.TarInfo], wanted: str | None) -> tarfile.TarInfo | None:
    if wanted is not None:
        return sample.get(wanted.lower())
    images = [info for suffix, info in sample.items() if f".{suffix}" in SUFFIXES]
    if len(images) > 1:
        names = ", ".join(info.name for info in images)
        raise ConfigError(f"dataset.image: a sample has {names}; choose a suffix, such as jpg")
    return images[0] if images else None


def _label(
    file: BinaryIO, sample: dict[str, tarfile.TarInfo], wanted: str | None, where: str
) -> tuple[Any, str]:
    """Return a sample's stored label and its place: a member of its own, or a field of its JSON."""
    for suffix in (wanted.lower(),) if wanted else LABELS:
        if suffix in sample:
            try:
                text = _content(file, sample[suffix]).decode()
            except UnicodeDecodeError:
                raise AbsError(f"{where}.{suffix} is not UTF-8") from None
            return text, f"{where}.{suffix}"
    if "json" in sample:
        field = wanted or "label"
        try:
            value = json.loads(_content(file, sample["json"]))[field]
        except (ValueError, KeyError, TypeError):
            raise AbsError(f"{where}.json has no field {field!r}; set dataset.label") from None
        return value, f"{where}.json, field {field!r}"
    suffixes = ", ".join(sample)
    raise AbsError(
        f"{where} has no label; expected {LABELS[0]} or json among {suffixes}; if the files of a "
        "sample do not lie together, pack the shard again with tar --sort=name"
    )


def _content(file: BinaryIO, info: tarfile.TarInfo) -> bytes:
    return os.pread(file.fileno(), info.size, info.offset_data)


def _names_file(folder: Path, root: Path) -> Path | None:
    """Return the nearest list of the names of numbered classes, or None without one."""
    for place in (folder, *folder.parents):
        for name in NAMES:
            if (place / name).is_file():
                return place / name
        if place == root:
            break
    return None
