"""Labels of ImageNet's validation images from its development kit, or from torchvision's copy.

The devkit numbers classes in an order of its own, not in that of the sorted wnids; `meta.mat` maps
numbers to wnids, and reading it needs the extra `devkit` (scipy).
"""

from __future__ import annotations

import pickle
from pathlib import Path

from pipeline.core.errors import AbsError, MissingInput
from pipeline.datasets.listing import read_lines

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
"""File with the devkit's class number, from 1, of each image in order."""

FOLDERS = (".", "data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "devkit/data")


def find_labels(place: Path) -> Path | None:
    """Return the file of labels if `place` holds the devkit or torchvision's `meta.bin`."""
    files = [place / folder / TRUTH for folder in FOLDERS]
    return next((path for path in [*files, place / "meta.bin"] if path.is_file()), None)


def image_wnids(labels: Path) -> list[str]:
    """Return the wnid of each validation image in order.

    MissingInput without `meta.mat` or scipy, AbsError if a file is damaged.
    """
    if labels.name == "meta.bin":
        return _read_meta_bin(labels)
    meta = labels.with_name("meta.mat")
    by_number = _read_meta_mat(meta)
    wnids = []
    for number, line in enumerate(read_lines(labels), 1):
        if not line.isdecimal() or int(line) not in by_number:
            raise AbsError(f"{labels}, line {number}: {line!r} is not a class of {meta}")
        wnids.append(by_number[int(line)])
    return wnids


def _read_meta_mat(meta: Path) -> dict[int, str]:
    """Return the wnid of each of the devkit's class numbers."""
    if not meta.is_file():
        raise MissingInput(f"{meta} not found; it maps the numbers in {TRUTH} to classes")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingInput(
            f"{meta} needs scipy: pip install 'abs-pipeline[devkit]', or sort the images by wnid"
        ) from None
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        return {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets}
    except Exception as error:  # whatever a damaged file makes scipy raise
        raise AbsError(f"{meta} is not the devkit's: {type(error).__name__}: {error}") from None


def _read_meta_bin(path: Path) -> list[str]:
    """Read `meta.bin`, torchvision's copy: (names by wnid, wnid of each image in order)."""
    import torch

    try:
        _, wnids = torch.load(path, weights_only=True)
        return [str(wnid) for wnid in wnids]
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError):
        raise AbsError(f"{path} is not torchvision's meta.bin") from None
