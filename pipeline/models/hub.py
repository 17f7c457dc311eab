"""Weights as files: looked for in the folder of weights and the hub's cache, else fetched.

Without a connection the answer comes at once, not after minutes of retries, and names every place
that was looked in. `HF_HUB_OFFLINE` is honoured.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from pipeline.errors import ConfigError, MissingInput
from pipeline.locations import Paths, expand
from pipeline.models.folders import Layout

PATIENCE = 10.0
"""Seconds that the hub has for its first answer."""

NAME = r"\b[\w.-]+\b/\b[\w.-]{1,96}\b"
"""How the hub's repositories are called."""


@dataclass(frozen=True)
class Repository:
    """A model repository of the hub: `owner/name`, and where its files may lie already."""

    name: str
    paths: Paths
    remedy: str
    """What else can be done where a file is missing: the end of a sentence."""

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name) or re.search(r"--|\.\.|\.git$", self.name):
            raise ConfigError(f"{self.name!r} is no repository: write hf-hub:OWNER/NAME")

    def file(self, names: tuple[str, ...], known_as: str = "") -> Path:
        """The first of `names` that is on this machine, else `known_as`, else from the hub.

        `known_as` is a name that the file has outside the hub, in the folder of weights. Raises
        MissingInput that names the files, the places and the remedy.
        """
        for path in (path for name in names for path in self._copies(name)):
            return path
        if self._weights and known_as and (self._weights / known_as).is_file():
            return self._weights / known_as
        return self._download([names], known_as=known_as)[0]

    def folder(self, layout: Layout) -> Path:
        """A folder with everything of `layout`, on this machine or else from the hub."""
        for config in self._copies(layout.config):
            if layout.complete(config.parent):
                return config.parent
        return self._download([(layout.config,), layout.weights], layout.others)[0].parent

    @property
    def _weights(self) -> Path | None:
        return expand(self.paths.weights).absolute() if self.paths.weights else None

    @property
    def _caches(self) -> list[Path]:
        cache = Path(constants.HF_HUB_CACHE)
        return [self._weights, cache] if self._weights else [cache]

    @property
    def _plain(self) -> list[Path]:
        """Folders that hold the repository's files under their own names."""
        last = self.name.partition("/")[2]
        return [self._weights / self.name, self._weights / last] if self._weights else []

    def _copies(self, name: str) -> Iterator[Path]:
        cached = [try_to_load_from_cache(self.name, name, cache_dir=c) for c in self._caches]
        paths = [Path(path) for path in cached if isinstance(path, str)]
        yield from (p for p in [*paths, *(f / name for f in self._plain)] if p.is_file())

    def _download(
        self, wanted: list[tuple[str, ...]], others: Sequence[str] = (), known_as: str = ""
    ) -> list[Path]:
        """One file of each of `wanted`, and all of `others` that the hub has."""
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            listing = HfApi().model_info(self.name, timeout=PATIENCE).siblings or ()
            there = {file.rfilename for file in listing}
            chosen = [_first(names, there) for names in wanted]
            chosen += [name for name in others if name in there]
            return [
                Path(hf_hub_download(self.name, name, cache_dir=self._caches[0])) for name in chosen
            ]
        except Exception as error:
            raise self._missing(wanted, known_as, error) from None

    def _missing(
        self, wanted: list[tuple[str, ...]], known_as: str, error: Exception
    ) -> MissingInput:
        files = ", ".join(" or ".join(filter(None, (*names, known_as))) for names in wanted)
        places = ", ".join(map(str, [*self._caches, *self._plain]))
        reason = str(error) if isinstance(error, LookupError) else type(error).__name__
        return MissingInput(
            f"{self.name}: {files} not found in {places} and cannot be fetched ({reason}); "
            f"put it into a folder and add --weights-dir FOLDER, or {self.remedy}"
        )


def _first(names: tuple[str, ...], there: set[str]) -> str:
    for name in names:
        if name in there:
            return name
    raise LookupError("the repository has no such file")
