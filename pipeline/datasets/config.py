"""Settings of a dataset: its location, its reader and its class names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pipeline.core.section import NOT_IN_KEY, Section

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Pattern of a dataset's name, which is also a folder of the store."""


class Published(Section):
    """Counts that the dataset's authors state, for comparison with those found on disk."""

    images: Annotated[int | None, NOT_IN_KEY] = None
    classes: Annotated[int | None, NOT_IN_KEY] = None


class DatasetConfig(Section):
    """Section `dataset`. Keys depend on the digests of the files, not on their location."""

    name: str = Field(pattern=NAME)
    root: Annotated[tuple[str, ...], NOT_IN_KEY, Field(min_length=1)]
    """One or more locations; the first that has the reader's layout is used."""
    reader: str = "folder"
    split: Annotated[str | None, NOT_IN_KEY] = None
    """Split to read, for readers of tables; None if there is only one."""
    image: Annotated[str | None, NOT_IN_KEY] = None
    """Column of images, for readers of tables; None for the only or usual one."""
    label: Annotated[str | None, NOT_IN_KEY] = None
    """Column of labels, for readers of tables; None for the only or usual one."""
    names: Annotated[str | None, NOT_IN_KEY] = None
    """File that renames classes: a JSON object of names by the reader's class, or a list of names
    in label order, as JSON or as lines of a `.txt`."""
    vocabulary: Annotated[str | None, NOT_IN_KEY] = None
    """List of all class names that an image could show, including the dataset's own; as `names`."""
    duplicates: Annotated[Literal["kept", "unique"], NOT_IN_KEY] = "kept"
    """Classes that share a name: `kept` (scores tie, and the first class wins), or made `unique` by
    their longer names."""
    folders_are_classes: Annotated[bool, NOT_IN_KEY] = False
    """Read every folder as a class, also where they look like splits or variants of a dataset."""
    single_class: Annotated[bool, NOT_IN_KEY] = False
    """Accept a dataset of one class, of which every prediction is right."""
    published: Published = Published()

    @field_validator("root", mode="before")
    @classmethod
    def _as_tuple(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given
