"""A folder of class folders: `<root>/<class>/<image>`; labels in sorted order of the folders."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import AbsError, MissingInput

SUFFIXES = {
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip


def read_folder(root: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Class names (folder names, underscores read as spaces) and samples, sorted by path.

    AbsError for what would be wrong without a word: an empty class, two of one name, a file name
    that cannot be stored as text.
    """
    if not root.is_dir():
        raise MissingInput(f"{root} is not a folder; expected class folders with images in it")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path))
    if not folders:
        raise MissingInput(f"no class folders in {root}; expected <class>/<image>.jpg")
    names = [folder.name.replace("_", " ") for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise AbsError(f"{root}: two folders are named {name!r}, spaces and underscores alike")
    samples = []
    for label, folder in enumerate(folders):
        samples += [(_text(f"{folder.name}/{image}"), label) for image in _images(folder)]
    return names, samples


def _images(folder: Path) -> list[str]:
    found = [
        file.name
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES and file.is_file() and not _hidden(file)
    ]
    if not found:
        raise MissingInput(f"no images in the class folder {folder}; remove it or fill it")
    return found


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _text(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise AbsError(f"file name {name!r} is not UTF-8; rename it") from None
    return name
