"""Weights files: from the folder of weights or the hub's cache, or else downloaded.

Without a connection, MissingInput is raised at once instead of after minutes of retries, and names
every place that was searched. `HF_HUB_OFFLINE` is honoured.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from pipeline.core.errors import ConfigError, MissingInput
from pipeline.core.paths import Paths, expand
from pipeline.models import shards
from pipeline.models.local_dir import FolderLayout

TIMEOUT = 10.0
"""Timeout of the hub's first answer, in seconds."""

NAME = r"\b[\w.-]+\b/\b[\w.-]{1,96}\b"
"""Regular expression of the hub's repository names."""


@dataclass(frozen=True)
class Request:
    """Files to download together."""

    required: tuple[tuple[str, ...], ...]
    """Names of each file that must be there, the preferred first."""
    optional: tuple[str, ...] = ()
    """Files that may be there."""

    def among(self, available: set[str]) -> list[str]:
        """Return the names to download; empty if a required file is not available."""
        found = [[name for name in names if name in available] for names in self.required]
        more = [name for name in self.optional if name in available]
        return [*(names[0] for names in found), *more] if all(found) else []


@dataclass(frozen=True)
class Repository:
    """Model repository of the hub, and the places on this machine where its files may be."""

    name: str
    """`owner/name`."""
    paths: Paths
    """Folders of the settings, among them the folder of weights."""
    remedy: str
    """Alternative where a file is missing: the end of the error's sentence."""

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name) or re.search(r"--|\.\.|\.git$", self.name):
            raise ConfigError(f"{self.name!r} is not a repository name; write hf-hub:OWNER/NAME")

    def file(self, names: tuple[str, ...], local_name: str = "") -> Path:
        """Return one file, from this machine or else from the hub.

        Args:
            names: Names of the file in the repository, the preferred first.
            local_name: Name of the file outside the hub, in the folder of weights.

        Raises:
            MissingInput: If the file is nowhere; names the files, the places and the remedy.
        """
        return self.at_hand(names, local_name) or self._download([Request((names,))], local_name)[0]

    def at_hand(self, names: tuple[str, ...], local_name: str = "") -> Path | None:
        """Return one file if it is on this machine; arguments as of `file`."""
        for path in (path for name in names for path in self._copies(name)):
            return path
        if self._weights and local_name and (self._weights / local_name).is_file():
            return self._weights / local_name
        return None

    def folder(self, layouts: Sequence[FolderLayout]) -> Path:
        """Return a folder with all files of one of several layouts, the first that is there.

        Raises:
            MissingInput: If neither this machine nor the hub has it.
        """
        for layout in layouts:
            for config in self._copies(layout.config):
                if layout.complete(config.parent):
                    return config.parent
        requests = [Request(((layout.config,), layout.files), layout.others) for layout in layouts]
        return self._download(requests)[0].parent

    def copy(self, name: str) -> Path | None:
        """Return a copy of a file that is on this machine, or None."""
        return next(self._copies(name), None)

    @property
    def _weights(self) -> Path | None:
        """Folder of weights, if one is set."""
        return expand(self.paths.weights).absolute() if self.paths.weights else None

    @property
    def _caches(self) -> list[Path]:
        """Folders in the layout of the hub's cache."""
        cache = Path(constants.HF_HUB_CACHE)
        return [self._weights, cache] if self._weights else [cache]

    @property
    def _plain(self) -> list[Path]:
        """Folders that may hold the repository's files under their own names."""
        last = self.name.partition("/")[2]
        return [self._weights / self.name, self._weights / last] if self._weights else []

    def _copies(self, name: str) -> Iterator[Path]:
        """List copies of a file on this machine."""
        cached = [try_to_load_from_cache(self.name, name, cache_dir=c) for c in self._caches]
        paths = [Path(path) for path in cached if isinstance(path, str)]
        yield from (p for p in [*paths, *(f / name for f in self._plain)] if p.is_file())

    def _download(self, requests: Sequence[Request], local_name: str = "") -> list[Path]:
        """Download the files of the first request that the repository has."""
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            listing = HfApi().model_info(self.name, timeout=TIMEOUT).siblings or ()
            available = {file.rfilename for file in listing}
            chosen = next(filter(None, (request.among(available) for request in requests)), None)
            if not chosen:
                raise LookupError("the repository has no such file")
            found = [self._fetched(name) for name in chosen]
            for index in filter(shards.is_index, found):
                for name in shards.names_in(index):
                    self._fetched(name)
            return found
        except Exception as error:
            raise self._missing(requests[0].required, local_name, error) from None

    def _fetched(self, name: str) -> Path:
        """Return a file of the repository, downloaded if it is not in the cache."""
        return Path(hf_hub_download(self.name, name, cache_dir=self._caches[0]))

    def _missing(
        self, required: Sequence[tuple[str, ...]], local_name: str, error: Exception
    ) -> MissingInput:
        """Return the error for files that are neither on this machine nor downloadable."""
        files = ", ".join(" or ".join(filter(None, (*names, local_name))) for names in required)
        places = ", ".join(map(str, [*self._caches, *self._plain]))
        reason = str(error) if isinstance(error, LookupError) else type(error).__name__
        return MissingInput(
            f"{self.name}: {files} not found in {places} and cannot be fetched ({reason}); "
            f"put it into a folder and add --weights-dir FOLDER, or {self.remedy}"
        )
