"""Where attention comes from: a ViT of timm, the CLIP at hand, or chance (Table 6).

A source says what it is without importing torch; loaded, it makes maps of images. The stage that
stores the maps, and all after it, do not know which one it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.files import Digests
from pipeline.locations import Paths
from pipeline.models.sources import RANDOM, ClipSource, VitConfig, VitSource, seed_of

if TYPE_CHECKING:
    import numpy as np

    from pipeline.images import Images
    from pipeline.runtime import Runtime


class AttentionMaps(Protocol):
    """A loaded source."""

    @property
    def layers(self) -> int:
        """Maps of each image."""
        ...

    @property
    def grid(self) -> int:
        """Patches along a side; the grid covers the whole image."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """As `Worker.facts`."""
        ...

    def read(self, images: Images, rows: slice) -> Any:
        """What `attention` needs of the images of `rows`: squares of pixels."""
        ...

    def attention(self, inputs: Any) -> np.ndarray:
        """float32 (n, layers, grid, grid): how much each patch is attended to, as a share of 1."""
        ...


class AttentionSource(Protocol):
    """Where attention comes from."""

    def identity(self) -> dict[str, Any]:
        """Everything that decides the maps, as JSON types."""
        ...

    def load(self, runtime: Runtime) -> AttentionMaps:
        """The source, ready to make maps. Heavy imports belong here."""
        ...


@dataclass(frozen=True)
class RandomAttention:
    """Noise in place of attention: the K patches of highest value are K patches at random."""

    seed: int

    def identity(self) -> dict[str, Any]:
        """The seed."""
        return {"architecture": "random", "seed": self.seed}

    def load(self, runtime: Runtime) -> AttentionMaps:
        """Nothing to load."""
        from pipeline.models.random_attention import RandomMaps

        return RandomMaps(self.seed)


@dataclass(frozen=True)
class ClipAttention:
    """The attention of CLIP's own class token, over the whole image as a ViT of timm sees it."""

    clip: ClipSource

    def identity(self) -> dict[str, Any]:
        """CLIP's, and that the image is squashed rather than cropped to its square."""
        return {**self.clip.identity(), "view": "squashed"}

    def load(self, runtime: Runtime) -> AttentionMaps:
        """Load CLIP."""
        from pipeline.models.clip_attention import ClipMaps

        return ClipMaps(self.clip, runtime)


def attention_source(
    config: VitConfig, clip: ClipSource, paths: Paths, digests: Digests
) -> AttentionSource:
    """The source that `attention.model` names; only a ViT of timm has `attention.weights`."""
    if config.model == "clip":
        return ClipAttention(clip)
    if config.model == "random":
        return RandomAttention(0)
    if config.model.startswith(RANDOM):
        return RandomAttention(seed_of(config.model, "attention.model"))
    return VitSource(config, paths, digests)
