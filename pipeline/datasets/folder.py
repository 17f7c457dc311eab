"""A folder of class folders: `<root>/<class>/<image>`; labels in sorted order of the folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import MissingInput

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}


def read_folder(root: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Class names (folder names, underscores read as spaces) and samples, sorted by path."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    samples = [
        (f"{folder.name}/{file.name}", label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]
    if not samples:
        raise MissingInput(f"no images in class folders below {root}; expected <class>/<image>.jpg")
    return [folder.name.replace("_", " ") for folder in folders], samples
