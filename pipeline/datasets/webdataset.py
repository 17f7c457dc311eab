"""WebDataset: images and labels as members of tar files, `<key>.jpg` beside `<key>.cls`.

Read with Python's own tarfile, member by member at its offset: the webdataset library only streams,
and its URLs may run commands. A sample is what follows each other under one key, as there.
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
from typing import Any, BinaryIO

from pipeline.datasets.listing import (
    SUFFIXES,
    Columns,
    Listing,
    NotThere,
    as_text,
    lines,
    of_labels,
)
from pipeline.errors import AbsError, ConfigError
from pipeline.files import version_of

NAMES = ("classnames.txt", "classes.txt")
"""Files that name the classes, one a line, beside the shards or above them."""

BLOCK = 512
"""Bytes that a tar is made of."""

LABELS = ("cls", "cls.txt", "label", "label.txt")
"""What follows a key's dot where the label is."""


@dataclass(frozen=True)
class InShards:
    """Members of tar files, by `<shard>/<member>`."""

    root: Path
    members: dict[str, tuple[str, int, int]]
    """Shard, offset and size."""

    def has(self, path: str) -> bool:
        """Whether it was found."""
        return path in self.members

    def where(self, path: str) -> str:
        """The shard's file, and the member as if it lay below."""
        return str(self.root / path)

    def read(self, path: str) -> bytes:
        """The member's bytes; AbsError if the shard ends before them."""
        shard, offset, size = self.members[path]
        with open(self.root / shard, "rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise AbsError(f"{self.where(path)}: the shard ends before it does")
        return content

    def version(self, path: str) -> list[int]:
        """The shard's, and the place in it."""
        shard, offset, size = self.members[path]
        return [*version_of(self.root / shard), offset, size]


def read_webdataset(root: Path, columns: Columns) -> Listing:
    """All samples of the shards below `root`, of one split where they lie in several folders.

    Labels are names, or numbers whose names stand in `classnames.txt`. AbsError names a shard that
    is damaged or compressed, and a sample without a label.
    """
    shards = _shards(root, columns.split)
    every = [sample for shard in shards for sample in _samples(root, shard, columns)]
    found = [sample for sample in every if isinstance(sample, tuple)]
    if not found:
        raise AbsError(f"{root}: no images in {len(shards)} shards")
    labels = [label for _, _, label in found]
    names = _names(shards[0].parent, root)
    classes, places = of_labels(labels, names, str(root))
    members = {path: place for path, place, _ in found}
    if len(members) < len(found):
        raise AbsError(f"{root}: a shard has two images of one name")
    samples = [(path, places[label]) for path, _, label in found]
    layout = f"{len(shards)} shards in {shards[0].parent}"
    skipped = [(name, "a sample without an image") for name in every if isinstance(name, str)]
    return Listing(
        classes, sorted(samples), layout, skipped=skipped, contents=InShards(root, members)
    )


def _shards(root: Path, split: str | None) -> list[Path]:
    """The tar files of one split: of one folder, and named alike but for their number."""
    splits: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.tar")) if root.is_dir() else []:
        splits.setdefault(_split(path.relative_to(root)), []).append(path)
    if not splits:
        raise NotThere(f"{root} has no shards (*.tar; unpack .tar.gz, which cannot be read from)")
    wanted = [name for name in splits if split is None or split in _words(name)]
    if len(wanted) != 1:
        asked = "several splits" if split is None else f"not one split {split!r}"
        raise ConfigError(f"dataset.split: {root} has {asked}; choose of {', '.join(splits)}")
    return splits[wanted[0]]


def _split(shard: Path) -> str:
    """`test` of `test/0.tar`, `birds-val` of `birds-val-000012.tar`."""
    stem = re.sub(r"[-_.]?\d+([-_.]of[-_.]\d+)?$", "", shard.stem)
    return (shard.parent / stem).as_posix() if stem else shard.parent.as_posix()


def _words(split: str) -> set[str]:
    return {split, *split.split("/"), *re.split(r"[/._-]", split)}


def _samples(
    root: Path, shard: Path, columns: Columns
) -> Iterator[tuple[str, tuple[str, int, int], int | str] | str]:
    """(path, place, label) of each image in a shard; the name alone of a sample without one."""
    name = shard.relative_to(root).as_posix()
    with open(shard, "rb") as file:
        try:
            for key, members in groupby(_members(file), key=lambda member: member[0]):
                sample = {suffix: info for _, suffix, info in members}
                image = _image(sample, columns.image)
                if image is None:
                    if {*LABELS, "json"} & set(sample):
                        yield as_text(f"{name}/{key.lstrip('/')}")
                    continue
                place = name, image.offset_data, image.size
                path = f"{name}/{as_text(image.name)}"
                yield path, place, _label(file, sample, columns.label, f"{shard}: {key}")
        except tarfile.TarError as error:
            raise AbsError(f"{shard} is damaged or no plain tar file: {error}") from None


def _members(file: BinaryIO) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, what follows its dot, and header of each member, as the webdataset library has them."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            folder, _, last = info.name.rpartition("/")
            key, dot, suffix = last.partition(".")
            if info.isreg() and key and dot and not info.name.startswith("__"):
                yield f"{folder}/{key}", suffix.lower(), info
        _check_end(file, tar.offset)


def _check_end(file: BinaryIO, offset: int) -> None:
    """A tar ends with zeros; tarfile takes a damaged header, or the file's end, for the same."""
    file.seek(offset)
    if file.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError("it ends in the middle, or has a damaged header")
    while rest := file.read(1 << 20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("there is more behind its end")


def _image(sample: dict[str, tarfile.TarInfo], wanted: str | None) -> tarfile.TarInfo | None:
    if wanted is not None:
        return sample.get(wanted.lower())
    found = [info for suffix, info in sample.items() if f".{suffix}" in SUFFIXES]
    if len(found) > 1:
        names = ", ".join(info.name for info in found)
        raise ConfigError(f"dataset.image: a sample has {names}; say which, such as jpg")
    return found[0] if found else None


def _label(
    file: BinaryIO, sample: dict[str, tarfile.TarInfo], wanted: str | None, where: str
) -> int | str:
    """The label's own member, or a field of the sample's JSON."""
    for suffix in (wanted.lower(),) if wanted else LABELS:
        if suffix in sample:
            try:
                text = _content(file, sample[suffix]).decode().strip()
            except UnicodeDecodeError:
                raise AbsError(f"{where}.{suffix} is not UTF-8") from None
            return _number_or_name(text, f"{where}.{suffix}")
    if "json" in sample:
        field = wanted or "label"
        try:
            value = json.loads(_content(file, sample["json"]))[field]
        except (ValueError, KeyError, TypeError):
            raise AbsError(f"{where}.json has no field {field!r}; set dataset.label") from None
        return _number_or_name(value, f"{where}.json, field {field!r}")
    others = ", ".join(sample)
    raise AbsError(f"{where} has no label; expected {LABELS[0]} or json among {others}")


def _content(file: BinaryIO, info: tarfile.TarInfo) -> bytes:
    return os.pread(file.fileno(), info.size, info.offset_data)


def _number_or_name(value: Any, where: str) -> int | str:
    if isinstance(value, str) and value.strip():
        return int(value) if value.isdecimal() and len(value) < 10 else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise AbsError(f"{where}: expected a label, a number or a name, found {value!r}")


def _names(folder: Path, root: Path) -> list[str] | None:
    """The names of numbered classes, if there is a list of them."""
    for place in (folder, *folder.parents):
        for name in NAMES:
            if (place / name).is_file():
                return lines(place / name)
        if place == root:
            break
    return None
