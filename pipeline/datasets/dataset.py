"""A dataset on disk: images, labels and classes as its reader returns them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.core.addresses import is_address
from pipeline.core.columns import DigestColumn
from pipeline.core.errors import AbsError, MissingInput
from pipeline.core.hash_cache import HashCache
from pipeline.core.hashing import canonical_json, digest_of, pieces_of_list
from pipeline.core.paths import Paths
from pipeline.core.progress import Reporter
from pipeline.datasets.classes import Classes, refuse_single_class, resolve_classes
from pipeline.datasets.config import DatasetConfig
from pipeline.datasets.contents import Contents, FolderContents
from pipeline.datasets.listing import LayoutNotFound, Listing
from pipeline.datasets.readers.registry import OF_ONE_PLACE, reader_of
from pipeline.datasets.remembered import Summary, keep, look, recall
from pipeline.datasets.samples import Samples, relabelled


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk. Its listing and digests are computed on first use, then cached.

    Classes, the number of images and the digest are remembered across commands; see
    `pipeline.datasets.remembered`.
    """

    config: DatasetConfig
    paths: Paths
    digests: HashCache

    @cached_property
    def root(self) -> Path:
        """Folder of the images."""
        place = self._listed[0]
        return place if place.is_dir() else place.parent

    @property
    def listing(self) -> Listing:
        """Result of the reader."""
        return self._listed[1]

    @property
    def contents(self) -> Contents:
        """Access to the bytes of the images."""
        return self.listing.contents or FolderContents(self.root)

    @property
    def other_roots(self) -> list[Path]:
        """Further locations of `dataset.root` that exist and are not used."""
        return [place for place in self._places if place.exists() and place != self._listed[0]]

    @property
    def _places(self) -> list[Path]:
        """All candidate locations, in the order in which they are tried."""
        return [place.absolute() for root in self.config.root for place in self.paths.places(root)]

    @cached_property
    def _listed(self) -> tuple[Path, Listing, str]:
        """The place that is used, what it holds, and a look at all files before they were read."""
        reader = reader_of(self.config, self._memory_of_shards)
        reasons, seen = [], self._look()
        for place in self._places:
            if place.exists():
                try:
                    return place, reader(place), seen
                except LayoutNotFound as reason:
                    reasons.append(str(reason))
                    seen = ""
        raise self._missing(reasons)

    def _missing(self, reasons: list[str]) -> MissingInput:
        if reasons:
            return MissingInput(f"dataset {self.config.name!r}: {'; '.join(reasons)}")
        return MissingInput(
            f"images of dataset {self.config.name!r} not found: looked for "
            f"{', '.join(map(str, self._places))}; "
            "set ABS_DATA (make: DATA=) or dataset.root"
        )

    @property
    def classes(self) -> Classes:
        """Class names, as an input of their own that has its own digest."""
        return self._remembered.classes if self._remembered else self._resolved[0]

    @property
    def count(self) -> int:
        """Number of images."""
        return self._remembered.images if self._remembered else len(self.samples)

    @property
    def samples(self) -> Samples:
        """Path and label of each image."""
        return self._resolved[1]

    @cached_property
    def _resolved(self) -> tuple[Classes, Samples, list[tuple[str, str]]]:
        names, vocabulary = self._file("names"), self._file("vocabulary")
        unique = self.config.duplicates == "unique"
        classes, labels = resolve_classes(self.listing, names, vocabulary, unique)
        if not self.config.single_class:
            refuse_single_class(classes, f"{self.root} ({self.listing.layout})")
        listed, skipped, gone = self.listing.samples, list(self.listing.skipped), set[int]()
        for place, (path, _) in enumerate(listed):
            if path.startswith("/") or ".." in path.split("/"):
                raise AbsError(f"{self.root}: the listed path {path!r} is outside the folder")
            if not self.contents.has(path):
                gone.add(place)
                skipped.append((path, "listed, but not there"))
        if len(gone) == len(listed):
            example = f", such as {listed[0][0]!r}" if listed else ""
            raise MissingInput(
                f"{self.root}: none of the {len(listed)} listed images is there{example}"
            )
        return classes, relabelled(listed, labels, gone), skipped

    def _file(self, field: str) -> Path | None:
        path = getattr(self.config, field)
        return path and self.paths.find(path, f"class {field}", f"dataset.{field}")

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(file, reason) of files that are not samples."""
        return self._resolved[2]

    def sha256_of_images(self) -> DigestColumn:
        """Return the sha256 of each sample's file, in order.

        The first call reads every file that is new or changed since its digest was cached, which
        can be the whole dataset, and shows progress. Later calls return the same column.
        """
        return self._sha256

    @cached_property
    def _sha256(self) -> DigestColumn:
        paths = self.samples.paths
        with Reporter().stage(f"reading {self.config.name}", len(paths), "images") as advance:
            return self.digests.sha256_many(self.contents, paths, advance)

    def identity(self) -> dict[str, Any]:
        """Return the name, and a digest of paths, labels and contents, for the key.

        The location of the root and the names of classes are not part of it.
        """
        return {"name": self.config.name, "files": self._digest}

    @cached_property
    def _remembered(self) -> Summary | None:
        """Summary that an earlier command kept, if it holds for the files as they are."""
        return recall(self._memory, self._look()) if self._memory.exists() else None

    @property
    def _memory(self) -> Path:
        return self.paths.memory(f"{self.config.name}.listing")

    @property
    def _memory_of_shards(self) -> Path | None:
        """Folder of what each shard holds; None where results are only read, from an address."""
        if is_address(self.paths.artifacts):
            return None
        return self.paths.memory(f"{self.config.name}.shards")

    def _look(self) -> str:
        """Return a digest of the versions of all files that the listing follows from.

        Empty if it follows from more than one place, or a file of names is missing.
        """
        place = next((place for place in self._places if place.exists()), None)
        if place is None or self.config.reader not in OF_ONE_PLACE:
            return ""
        try:
            named = [path for field in ("names", "vocabulary") if (path := self._file(field))]
        except MissingInput:
            return ""
        return look([place, *named], self.config.model_dump_json())

    @cached_property
    def _digest(self) -> str:
        """Digest of paths, labels and contents; kept if no file has changed since it was listed."""
        if self._remembered:
            return self._remembered.digest
        found, (_, _, before) = self._digest_of_files(), self._listed
        if before and self._look() == before:
            keep(self._memory, before, Summary(self.classes, self.count, found))
        return found

    def _digest_of_files(self) -> str:
        samples = zip(self.samples, self.sha256_of_images(), strict=True)
        rows = pieces_of_list((path, label, sha) for (path, label), sha in samples)
        keys = canonical_json([one.key for one in self.listing.classes])
        return digest_of(
            itertools.chain(["[", keys, ","], rows, [",", *pieces_of_list(self.skipped), "]"])
        )
