"""Sources of attention maps: a timm ViT, the run's own CLIP, files, or random noise (Table 6).

A source has an identity that is known without importing torch; once loaded, it computes maps of
images. The stage that stores the maps, and all later stages, are the same for every source.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.core.errors import MissingInput
from pipeline.core.hash_cache import HashCache
from pipeline.core.hashing import digest
from pipeline.core.paths import Paths
from pipeline.models.attention.vit_source import VitSource
from pipeline.models.clip.source import ClipSource
from pipeline.models.config import FILES, RANDOM, VitConfig
from pipeline.models.source import seed_of

if TYPE_CHECKING:
    import numpy as np

    from pipeline.core.runtime import Runtime
    from pipeline.datasets.images import Images


class AttentionMaps(Protocol):
    """Interface of a loaded source."""

    @property
    def layers(self) -> int:
        """Number of maps per image."""
        ...

    @property
    def grid(self) -> int:
        """Patches along a side; the grid covers the whole image."""
        ...

    @property
    def environment(self) -> dict[str, Any]:
        """Device and batch size, as in `Worker.environment`."""
        ...

    def read(self, images: Images, rows: slice) -> Any:
        """Read the inputs of `attention` for the images of `rows`, such as squares of pixels."""
        ...

    def attention(self, inputs: Any) -> np.ndarray:
        """Compute attention to each patch as a share of 1: float32 (n, layers, grid, grid)."""
        ...

    def try_out(self) -> int:
        """Compute maps of a few black images, to be timed; return how many."""
        ...


class AttentionSource(Protocol):
    """Interface of a configured source."""

    def identity(self) -> dict[str, Any]:
        """Return all that decides the maps, as JSON types."""
        ...

    @property
    def name(self) -> str:
        """Name of the model in messages; empty if none is loaded."""
        ...

    @property
    def shape(self) -> tuple[int, int] | None:
        """Number of layers, and of patches along a side; None if only the loaded source knows."""
        ...

    def load(self, runtime: Runtime) -> AttentionMaps:
        """Load the source, ready to compute maps. Heavy imports belong here."""
        ...


@dataclass(frozen=True)
class RandomAttention:
    """Noise instead of attention: the k patches of highest value are k random patches."""

    seed: int
    """Seed of the noise."""
    name = ""

    def identity(self) -> dict[str, Any]:
        """Return the seed."""
        return {"architecture": "random", "seed": self.seed}

    @property
    def shape(self) -> tuple[int, int]:
        """One layer, and the grid of a ViT with patches of 16 pixels."""
        from pipeline.models.attention.random import RandomMaps

        return RandomMaps.layers, RandomMaps.grid

    def load(self, runtime: Runtime) -> AttentionMaps:
        """Return the source; no model is loaded."""
        from pipeline.models.attention.random import RandomMaps

        return RandomMaps(self.seed)


@dataclass(frozen=True)
class ClipAttention:
    """Attention of CLIP's own class token, over the whole image as a timm ViT sees it."""

    clip: ClipSource
    """The CLIP of the run."""

    @property
    def name(self) -> str:
        """Name of the CLIP."""
        return self.clip.name

    @property
    def note(self) -> str:
        """Assumption about CLIP, in one line; empty if there is none."""
        return self.clip.note

    def identity(self) -> dict[str, Any]:
        """Return CLIP's identity, and that the image is squashed to its square, not cropped."""
        return {**self.clip.identity(), "view": "squashed"}

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and grid of CLIP's image encoder; ConfigError if it has no class token to read."""
        self.clip.vision.check_class_token(self.clip.config.model)
        return self.clip.layers, self.clip.grid

    def load(self, runtime: Runtime) -> AttentionMaps:
        """Load CLIP."""
        from pipeline.models.attention.clip import ClipMaps

        return ClipMaps(self.clip, runtime)


@dataclass(frozen=True)
class FileAttention:
    """Maps that lie in files, one per image."""

    place: str
    """Folder of maps, or a table of them, as in the settings."""
    paths: Paths
    """Folders of the settings."""
    digests: HashCache
    """Cache of file digests."""
    name = ""

    def identity(self) -> dict[str, Any]:
        """Return the digests of all files by name; MissingInput if there are none."""
        found = self._found
        if found.is_file():
            return {"architecture": "files", "files": self.digests.sha256(found)}
        from pipeline.models.attention.files import SUFFIXES

        folders = os.walk(found, followlinks=True)  # maps behind a link are read, so they count
        every = (Path(folder, name) for folder, _, names in folders for name in names)
        maps = sorted(path for path in every if path.suffix in SUFFIXES)
        if not maps:
            raise MissingInput(f"attention.model: no maps ({', '.join(SUFFIXES)}) in {found}")
        named = [[path.relative_to(found).as_posix(), self.digests.sha256(path)] for path in maps]
        return {"architecture": "files", "files": digest(named)}

    @property
    def shape(self) -> tuple[int, int]:
        """One layer, and the grid that maps are averaged over."""
        from pipeline.models.attention.files import FileMaps

        return FileMaps.layers, FileMaps.grid

    def load(self, runtime: Runtime) -> AttentionMaps:
        """Return the source; maps are read with their images."""
        from pipeline.models.attention.files import FileMaps

        return FileMaps(self._found)

    @property
    def _found(self) -> Path:
        return self.paths.find(self.place, "attention maps", "attention.model")


SOURCES: dict[str, Callable[[ClipSource], AttentionSource]] = {
    "clip": ClipAttention,
    "random": lambda _: RandomAttention(0),
}
"""Sources that are no ViT of their own, by the `attention.model` that names them; functions of the
run's CLIP. To add one, add a line here.
"""


def attention_source(
    config: VitConfig, clip: ClipSource, paths: Paths, digests: HashCache
) -> AttentionSource:
    """Return the source that `attention.model` names; only a timm ViT uses `attention.weights`."""
    if config.model in SOURCES:
        return SOURCES[config.model](clip)
    if config.model.startswith(RANDOM):
        return RandomAttention(seed_of(config.model, "attention.model"))
    if config.model.startswith(FILES):
        return FileAttention(config.model.removeprefix(FILES), paths, digests)
    return VitSource(config, paths, digests)
