"""Labels of ImageNet's validation images as its development kit and torchvision have them.

The devkit counts classes in an order of its own, which is not that of the sorted wnids; `meta.mat`
tells which number is which, and reading it needs the extra `devkit`.
"""

from __future__ import annotations

import pickle
from pathlib import Path

from pipeline.datasets.listing import lines
from pipeline.errors import AbsError, MissingInput

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
"""A number of the devkit's own, from 1, for each image in order."""

FOLDERS = (".", "data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "devkit/data")


def labels_in(place: Path) -> Path | None:
    """The file that has the labels, if the devkit or torchvision's `meta.bin` lies in `place`."""
    files = [place / folder / TRUTH for folder in FOLDERS]
    return next((path for path in [*files, place / "meta.bin"] if path.is_file()), None)


def wnids(labels: Path) -> list[str]:
    """The wnid of each validation image in order. MissingInput without `meta.mat` or scipy."""
    if labels.name == "meta.bin":
        return _of_torchvision(labels)
    meta = labels.with_name("meta.mat")
    names = _by_number(meta)
    found = []
    for number, line in enumerate(lines(labels), 1):
        if not line.isdecimal() or int(line) not in names:
            raise AbsError(f"{labels}, line {number}: {line!r} is no class of {meta}")
        found.append(names[int(line)])
    return found


def _by_number(meta: Path) -> dict[int, str]:
    """The wnid of each of the devkit's numbers."""
    if not meta.is_file():
        raise MissingInput(f"{meta} not found; it says which class each number of {TRUTH} is")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingInput(
            f"{meta} needs scipy: pip install 'abs-pipeline[devkit]'; or sort the images by wnid"
        ) from None
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        return {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets}
    except Exception as error:  # whatever a damaged file makes scipy raise
        raise AbsError(f"{meta} is not the devkit's: {type(error).__name__}: {error}") from None


def _of_torchvision(path: Path) -> list[str]:
    """`meta.bin`, which torchvision writes from the devkit: names by wnid, and a wnid per image."""
    import torch

    try:
        _, found = torch.load(path, weights_only=True)
        return [str(wnid) for wnid in found]
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError):
        raise AbsError(f"{path} is not torchvision's meta.bin") from None
