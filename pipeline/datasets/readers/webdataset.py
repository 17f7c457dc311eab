"""Reader of WebDataset: images and labels as members of tar files, `<key>.jpg` beside `<key>.cls`.

Images that are not taken are listed as skipped with the reason; hidden names and files such as
`__meta__.json` are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import AbsError, ConfigError
from pipeline.datasets.labels import Label, classes_of_labels, parse_label, refuse_forms
from pipeline.datasets.listing import (
    Columns,
    LayoutNotFound,
    Listing,
    files_below,
    read_names,
    reason_to_skip,
    refuse_missing_parts,
    require_utf8,
)
from pipeline.datasets.readers.shard_contents import Members, ShardContents
from pipeline.datasets.readers.shard_memory import Rows, rows_of
from pipeline.datasets.readers.shard_samples import (
    KINDS,
    Sample,
    Skipped,
    Stored,
    Unlabelled,
    samples_of,
)
from pipeline.datasets.samples import Samples

NAMES = ("classnames.txt", "classes.txt")
"""Files of class names, one per line, in the shards' folder or above it."""

SHARD = re.compile(r"(.+)\.(?:tar|(tar\.(?:gz|bz2|xz|zst|lz4|z)|tgz|tbz2?|txz))", re.IGNORECASE)
"""Name of a shard: its stem, and the suffix if it is compressed."""


@dataclass
class _Found:
    """Content of the shards of a dataset."""

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
    unlabelled: list[Unlabelled] = field(default_factory=list)

    def add(self, sample: Sample, root: Path) -> None:
        """Add a sample; AbsError for a label that is neither a name nor a number."""
        if isinstance(sample, Skipped):
            self.skipped.append((sample.path, sample.reason))
        elif isinstance(sample, Unlabelled):
            self.unlabelled.append(sample)
        elif (label := self._label(sample, root)) is None:
            self.unnamed.append(sample.path)
        else:
            place = sample.shard, sample.offset, sample.size
            number = self.labels.setdefault(label, len(self.labels))
            self.members.append(sample.path, place, number)

    def _label(self, sample: Stored, root: Path) -> Label | None:
        stored, where = sample.label, f"{root}/{sample.shard}: {sample.where}"
        if not isinstance(stored, str):
            return parse_label(stored, where)
        if stored not in self.parsed:
            self.parsed[stored] = parse_label(stored, where)
        return self.parsed[stored]


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
    root: Path, shards: list[Path], unlabelled: list[Unlabelled], skipped: list[tuple[str, str]]
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


def _remembered(root: Path, shard: Path, columns: Columns, memory: Path | None) -> Iterator[Sample]:
    """Yield the content of a shard, from memory if the shard has not changed."""

    def read() -> Rows:
        return [[KINDS.index(type(each)), *each] for each in samples_of(root, shard, columns)]

    for kind, *values in rows_of(shard, columns, memory, read):
        yield KINDS[kind](*values)


def _names_file(folder: Path, root: Path) -> Path | None:
    """Return the nearest list of the names of numbered classes, or None without one."""
    for place in (folder, *folder.parents):
        for name in NAMES:
            if (place / name).is_file():
                return place / name
        if place == root:
            break
    return None
