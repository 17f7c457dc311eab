"""Resolve a configured model: architecture and weights, without importing torch.

The identity of a model is its architecture and the digest of its weights, wherever they are stored.
`weights` is a tag or file that the library knows, or `random:SEED`: seeded random weights, which
are good for tests of shapes and speed only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from pipeline.core import files
from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.hash_cache import HashCache
from pipeline.core.hashing import digest
from pipeline.core.paths import Paths
from pipeline.core.section import MAX_SEED
from pipeline.models import local_dir, shards
from pipeline.models.config import RANDOM, ClipConfig, VitConfig
from pipeline.models.resolved import HUB, LOCAL, Resolved, from_record, is_file_name


@dataclass(frozen=True)
class ModelSource(ABC):
    """A configured model, resolved on first use and cached between runs."""

    config: ClipConfig | VitConfig
    """Settings of the model."""
    paths: Paths
    """Folders of the settings."""
    digests: HashCache
    """Cache of file digests."""
    library: ClassVar[str]
    """Distribution name of the library that builds the model."""
    section: ClassVar[str]
    """Section of the settings that names the model."""
    layouts: ClassVar[tuple[local_dir.FolderLayout, ...]]
    """File names of the model's folder, in each layout that it may have; the preferred first."""

    @abstractmethod
    def _resolve_name(self, name: str, weights: str) -> Resolved:
        """Resolve a name of the library. Imports the library; may download weights."""

    @abstractmethod
    def _resolve_folder(self, folder: Path) -> Resolved:
        """Resolve a local folder in the library's own layout. Must not import the library."""

    @cached_property
    def resolved(self) -> Resolved:
        """Architecture and files; AbsError if weights or configuration are missing."""
        model, weights = self.config.model, self.config.weights
        if model.startswith((LOCAL, HUB)):
            if weights is not None:
                raise ConfigError(
                    f"{self.section}.weights: {model} brings its own weights; set it to null"
                )
            return self._resolve_stored(model)
        if weights is None:
            raise ConfigError(
                f"{self.section}.weights: {model} needs weights: a tag, a file or {RANDOM}SEED"
            )
        return self.from_cache() or self._to_cache(self._resolve_name(model, weights))

    def from_cache(self) -> Resolved | None:
        """Restore the model as a run on this store resolved it; None if it is not known any more.

        Nothing is downloaded, and the library is not imported.
        """
        try:
            if (folder := self._cached.get("folder")) is not None:
                return self._resolve_folder(Path(folder))
            return from_record(self._cached)
        except (AbsError, AttributeError, TypeError):
            return None

    @property
    def local(self) -> bool:
        """True for a folder or a weights file on this machine, which needs no download."""
        weights = self.config.weights
        return self.config.model.startswith(LOCAL) or bool(weights and is_file_name(weights))

    @property
    def name(self) -> str:
        """Name of the model in messages, with that of its weights."""
        weights = f" ({self.config.weights})" if self.config.weights else ""
        return f"{self.config.model}{weights}"

    @property
    def note(self) -> str:
        """Assumption about the model, in one line; empty if there is none."""
        return self.resolved.note

    def identity(self) -> dict[str, Any]:
        """Return the architecture and digests of every file that decides the output."""
        model = self.resolved
        weights = self.digest_of(model.file) if model.file else f"{RANDOM}{model.seed}"
        extra = [self.digests.sha256(path) for path in model.extra]
        identity = {"architecture": digest(model.architecture), "weights": weights, "extra": extra}
        precision = self.config.precision
        return identity if precision == "float32" else {**identity, "precision": precision}

    def digest_of(self, weights: Path) -> str:
        """Return the sha256 of a weights file, or a digest of those of all files of an index."""
        found = [self.digests.sha256(path) for path in shards.files_of(weights)]
        return digest({"shards": found}) if len(found) > 1 else found[0]

    def _resolve_stored(self, model: str) -> Resolved:
        """Resolve a model in a folder, or in the folder of a repository."""
        if model.startswith(LOCAL):
            where = model.removeprefix(LOCAL), "model folder", f"{self.section}.model"
            return self._resolve_folder(self.paths.find(*where))
        if (known := self.from_cache()) is not None:
            return known
        folder = self._repository_folder(model.removeprefix(HUB))
        self._write_cache({"folder": str(folder)})
        return self._resolve_folder(folder)

    def _repository_folder(self, name: str) -> Path:
        """Return a folder with the files of a repository."""
        from pipeline.models.hub import Repository  # imports huggingface_hub

        remedy = f"set {self.section}.model to {LOCAL}FOLDER"
        return Repository(name, self.paths, remedy).folder(self.layouts)

    # Resolutions are cached in the store, so that a finished run imports no library.

    @property
    def _cache_file(self) -> Path:
        """File that caches the resolution for this configuration and version of the library."""
        version = metadata.version(self.library)
        folders = [self.paths.data, self.paths.weights]
        request = [self.config.model, self.config.weights, folders, version]
        return self.paths.store / ".memory" / f"{self.library}-{digest(request)}.json"

    @property
    def _cached(self) -> Any:
        """Cached record."""
        return files.read_sealed(self._cache_file, "memory")

    def _to_cache(self, model: Resolved) -> Resolved:
        """Cache a model."""
        self._write_cache(model.as_record())
        return self.from_cache() or model

    def _write_cache(self, record: dict[str, Any]) -> None:
        """Write a record to the cache."""
        self._cache_file.parent.mkdir(parents=True, exist_ok=True)
        files.write_sealed(self._cache_file, record)


def seed_of(text: str, setting: str) -> int:
    """Parse the seed of `random:SEED`; ConfigError, naming the setting, for another form."""
    seed = text.removeprefix(RANDOM)
    if not (seed.isdecimal() and seed.isascii()):
        raise ConfigError(f"{setting}: {text!r}: write {RANDOM}SEED with a whole number")
    if int(seed) > MAX_SEED:
        raise ConfigError(f"{setting}: {text!r}: a seed is at most {MAX_SEED}")
    return int(seed)
