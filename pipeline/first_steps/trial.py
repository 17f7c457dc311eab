"""A dataset of a few photographs, copied evenly from the classes of a larger one."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipeline.core import files
from pipeline.core.errors import AbsError, MissingInput
from pipeline.core.hash_cache import HashCache
from pipeline.core.hashing import digest
from pipeline.core.paths import Paths
from pipeline.core.words import counted
from pipeline.datasets.classes import Classes, refuse_single_class, resolve_classes
from pipeline.datasets.config import DatasetConfig
from pipeline.datasets.contents import FolderContents
from pipeline.datasets.listing import LayoutNotFound, Listing
from pipeline.datasets.readers.registry import reader_of
from pipeline.datasets.subset import evenly
from pipeline.first_steps.new_dataset import detected_reader
from pipeline.texts.class_texts import ClassTexts
from pipeline.texts.rules import is_sentence
from pipeline.texts.sets import Sentences

TEXTS, EACH = 400, 8
"""Most texts of a trial in all, but one for each class; and most of a class."""
SETTINGS: dict[str, dict[str, Any]] = {
    "scores": {"n": 8},
    "windows": {"encode": "drawn"},
    "methods": {"wca": {"pool": 8}},
}
"""Settings of a trial: few crops, only the windows that are drawn, and a pool of squares that is no
larger than the number of draws.
"""


@dataclass(frozen=True)
class Sample:
    """A dataset of a few photographs."""

    settings: Path
    """YAML file of its settings."""
    notes: list[str]
    """Lines that say what was taken and what was left out."""


def write_sample(images: Path, count: int, texts: Path | None, paths: Paths) -> Sample:
    """Copy a sample of a dataset into the store, and write its settings.

    images: whatever `abs init` takes. count: number of images, evenly from the classes. texts: a
    JSON file of sentences or descriptors by class name; a few of them are taken, and classes that
    it lacks are left out. All other classes compete, also those of which the sample has no image.
    Raises AbsError for images or texts that cannot be used.
    """
    listing, names = _listed(images)
    if texts and not texts.is_file():
        raise MissingInput(f"no file of descriptions at {texts}")
    found = _texts_of(texts, names, paths) if texts else {name: [] for name in names}
    kept = [(path, names[label]) for path, label in listing.samples if names[label] in found]
    if len(found) < 2 or not kept:
        raise AbsError(
            f"{texts}: texts for {len(found)} of {counted(len(set(names)), 'classes')}; give texts "
            "for two classes or more, under their names"
        )
    chosen = evenly(kept, count)
    name = f"try-{short_name(images)}-{digest([str(images.absolute()), chosen, found])[:6]}"
    folder = paths.store / ".try" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _copy(listing, images, chosen, folder)
    files.write_json(folder / "classes.json", list(found))
    dataset = {"name": name, "root": str(folder), "reader": "manifest"}
    content = {"dataset": {**dataset, "vocabulary": str(folder / "classes.json")}, **SETTINGS}
    if texts:
        files.write_json(folder / "texts.json", found)
        rule = text_set_of(found)
        content["descriptions"] = {rule: {"file": str(folder / "texts.json")}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return Sample(path, _notes(len(chosen), names, found))


def _listed(images: Path) -> tuple[Listing, tuple[str, ...]]:
    """Read a dataset; return its listing, and the name of each of its labels."""
    if not images.exists():
        raise MissingInput(f"no folder or table at {images}")
    root, reader = (str(images.absolute()),), detected_reader(images)
    try:
        listing = reader_of(DatasetConfig(name="sample", root=root, reader=reader))(images)
    except LayoutNotFound as error:
        raise LayoutNotFound(
            f"{error}; put the photographs of each class into a folder of its name"
        ) from None
    classes, labels = resolve_classes(listing, None, None, unique=True)
    refuse_single_class(classes, str(images))
    return listing, tuple(classes.names[label] for label in labels)


def _texts_of(texts: Path, names: Sequence[str], paths: Paths) -> dict[str, list[str]]:
    """Return the first few texts of every class that has any."""
    distinct = tuple(dict.fromkeys(names))
    classes = Classes(distinct, tuple((name,) for name in distinct), (True,) * len(distinct))
    config = Sentences(rule="sentences", file=str(texts.absolute()))
    cache = HashCache(paths.memory("try"))
    listed = ClassTexts("descriptions", config, classes, paths, cache).listed
    found = {name: given for name, given in listed.items() if given}
    each = max(1, min(EACH, TEXTS // max(len(found), 1)))
    return {name: given[:each] for name, given in found.items()}


def _notes(images: int, names: Sequence[str], found: Mapping[str, list[str]]) -> list[str]:
    most = max(map(len, found.values()))
    texts = f", at most {counted(most, 'texts')} of each" if most else ""
    taken = f"{counted(images, 'photographs')}, {counted(len(found), 'classes')}"
    notes = [f"{taken}{texts}, N = {SETTINGS['scores']['n']}"]
    if absent := [name for name in dict.fromkeys(names) if name not in found]:
        shown = ", ".join(map(repr, absent[:3]))
        notes.append(f"left out: {counted(len(absent), 'classes')} without texts, such as {shown}")
    return notes


def text_set_of(found: Mapping[str, list[str]]) -> str:
    """Return the text set that texts are for: `cupl` for sentences, `clip-d` for descriptors."""
    given = [text for texts in found.values() for text in texts]
    return "cupl" if 2 * sum(map(is_sentence, given)) > len(given) else "clip-d"


def short_name(images: Path) -> str:
    """Return the name of a folder or table as part of a dataset's name."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in images.absolute().stem)
    return kept.strip("-")[:30] or "images"


def _copy(listing: Listing, images: Path, chosen: list[tuple[str, str]], folder: Path) -> None:
    root = images if images.is_dir() else images.parent
    contents = listing.contents or FolderContents(root)
    rows = [("path", "label")]
    for number, (path, name) in enumerate(chosen):
        copy = f"{number:03d}-{PurePosixPath(path).name}"
        (folder / copy).write_bytes(contents.read(path))
        rows.append((copy, name))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
