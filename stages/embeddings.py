"""embeddings: whole images and views of them as unit vectors.

One instance for whole images and one per view set, each with `embeddings.zarr` in float16:
`embeddings-image` (image, view, dim) with one view; `embeddings-raw`, `embeddings-squares` and
`embeddings-feature` (image, view, dim) with the views of their crops stage, unit by unit, so that a
larger N adds blocks and leaves the others alone. A view that other settings have embedded is taken
from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.config import RUNTIME, Section
from pipeline.datasets import Dataset
from pipeline.errors import ConfigError
from pipeline.images import Images
from pipeline.kernels.prompt_names import FeaturePrompt, RawPrompt
from pipeline.known_views import Asked, KnownViews, sources
from pipeline.models.sources import ClipSource
from pipeline.options import variants_command
from pipeline.runtime import Runtime
from pipeline.stage import ArraySpec, Footprint, Stage, Unit, Worker, row_units
from pipeline.views import BOX, WINDOW, ViewSet

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models.clip import Clip
    from pipeline.store import Store


class RawConfig(Section):
    """How CLIP is shown a box of an image (Table 5)."""

    prompt: RawPrompt = "crop"
    brightness: float = Field(default=1.5, gt=0, le=100)
    """Of `highlight`: factor on the box's pixels."""
    thickness: float = Field(default=0.02, gt=0, le=0.5)
    """Of `redcircle`: the line, as a share of the image's shorter side."""


class FeatureConfig(Section):
    """How CLIP is shown a window of its tokens (Tables 5 and 7)."""

    layer: int = -1
    """The block that the tokens enter, negative ones from the last."""
    prompt: FeaturePrompt = "crop"
    gain: float = Field(default=2.0, gt=0, le=1e4)
    """Of `highlight-fea` and `highlight-attn`: factor on the window's tokens or attention."""


@dataclass(frozen=True)
class _Embeddings(Stage):
    """What the three have in common: CLIP over the images of an index."""

    clip: ClipSource
    index: Stage
    image_block: int
    dataset: Annotated[Dataset, RUNTIME]
    runtime: Annotated[Runtime, RUNTIME]

    kind: ClassVar[str] = "embeddings"

    def footprint(self, store: Store) -> Footprint:
        """What CLIP is shown, in bytes, then vectors in float32 and as they are stored."""
        from pipeline.images import most_open

        vectors = self.image_block * self._each(store) * self.clip.dim
        index = store.open(self.index).table("images", columns=["width", "height"])
        images = most_open(index, self.image_block)
        return Footprint(self._shown(self.image_block, store) + 6 * vectors, 2 * vectors, images)

    def _each(self, store: Store) -> int:
        """Vectors of an image in a unit."""
        return 1

    def _shown(self, rows: int, store: Store) -> int:
        return 3 * self.clip.image_size**2 * rows

    def _load(self, store: Store) -> tuple[Clip, Images]:
        from pipeline.models.clip import Clip

        images = Images(self.dataset.contents, store.open(self.index).table("images"))
        return Clip(self.clip, self.runtime), images

    def _array(self, store: Store, count: int, block: int) -> ArraySpec:
        shape = (store.rows(self.index), count, self.clip.dim)
        chunks = (self.image_block, block, self.clip.dim)
        return ArraySpec("embeddings", ("image", "view", "dim"), shape, chunks, "float16")


@dataclass(frozen=True)
class ImageEmbeddings(_Embeddings):
    """Whole images, through CLIP's own preprocessing."""

    version: ClassVar[int] = 1
    variant = "image"

    def units(self, store: Store) -> list[Unit]:
        """Blocks of images."""
        return row_units(store.rows(self.index), self.image_block)

    def worker(self, store: Store) -> Worker:
        """Load CLIP."""
        clip, images = self._load(store)
        return ImageWorker(clip, self._array(store, 1, 1), images)


@dataclass(frozen=True)
class ViewEmbeddings(_Embeddings):
    """Embeddings of one view set; its units are those of the stage that made the views."""

    views: ViewSet

    columns: ClassVar[list[str]]
    """Of a view's place, in the table of views."""

    @property
    def counts(self) -> str:
        """As the views."""
        return self.views.counts

    def units(self, store: Store) -> list[Unit]:
        """As the views."""
        return self.views.units(store)

    def _each(self, store: Store) -> int:
        return self.views.shape(store)[1]

    def _known(self, store: Store) -> KnownViews:
        """What the units show, and where to look for what is embedded already."""
        from pipeline.code import code_of

        found = list(sources(store, self, self.views))
        return KnownViews(store.open(self.views), self.columns, found, code_of(self))


@dataclass(frozen=True)
class BoxEmbeddings(ViewEmbeddings):
    """Boxes of the image itself (Eq. 6), each through CLIP's own preprocessing."""

    config: RawConfig

    version: ClassVar[int] = 3
    columns = BOX

    @property
    def variant(self) -> str:
        """The view set."""
        return self.views.variant

    def _shown(self, rows: int, store: Store) -> int:
        return super()._shown(rows, store) * self._each(store)

    def worker(self, store: Store) -> Worker:
        """Load CLIP and open the boxes."""
        clip, images = self._load(store)
        array = self._array(store, *self.views.shape(store))
        return BoxWorker(clip, array, images, self._known(store), self.config)


@dataclass(frozen=True)
class WindowEmbeddings(ViewEmbeddings):
    """Windows of the tokens that enter a block of CLIP (Eq. 7)."""

    config: FeatureConfig

    version: ClassVar[int] = 3
    columns = WINDOW
    variant = "feature"

    def _shown(self, rows: int, store: Store) -> int:
        tokens = 4 * (1 + self.clip.grid**2) * self.clip.width
        return super()._shown(rows, store) + tokens * rows

    def check(self) -> None:
        """The layer must be one of CLIP's."""
        layers = self.clip.layers
        if not -layers <= self.config.layer < layers:
            raise ConfigError(f"feature.layer: {self.config.layer} is not one of {layers} blocks")

    def worker(self, store: Store) -> Worker:
        """Load CLIP and open the windows."""
        clip, images = self._load(store)
        array = self._array(store, *self.views.shape(store))
        layer = self.config.layer % self.clip.layers
        return WindowWorker(clip, array, images, self._known(store), self.config, layer)


@dataclass
class _ClipWorker(Worker):
    """What the three have in common."""

    clip: Clip
    array: ArraySpec
    images: Images

    def facts(self) -> dict[str, Any]:
        """CLIP's."""
        return self.clip.facts

    def arrays(self) -> list[ArraySpec]:
        """`embeddings`"""
        return [self.array]

    def _whole(self, rows: slice) -> Tensor:
        """Whole images as CLIP sees them: uint8 (n, 3, side, side)."""
        import torch

        return torch.cat([self.clip.preprocess(image) for image in self.images.block(rows)])


@dataclass
class ImageWorker(_ClipWorker):
    """Embeds whole images."""

    def read(self, unit: Unit) -> Tensor:
        """Decoded and preprocessed images: uint8 (n, 3, side, side)."""
        return self._whole(unit.rows)

    def compute(self, unit: Unit, inputs: Tensor) -> dict[str, Any]:
        """One view per image."""
        return {"embeddings": half(self.clip.encode_images(inputs)[:, None])}


@dataclass
class _ViewWorker(_ClipWorker):
    """Embeds views that no other artifact has, each distinct one of an image once."""

    known: KnownViews

    def trust_nothing(self) -> None:
        """Look for no view elsewhere."""
        self.known = replace(self.known, sources=())

    def _ask(self, unit: Unit) -> Asked:
        return self.known.ask(unit, self.array.shape[-1], self.facts())


@dataclass
class BoxWorker(_ViewWorker):
    """Embeds boxes of images."""

    config: RawConfig

    def read(self, unit: Unit) -> tuple[Asked, list[Tensor]]:
        """What is lacking of each image, shown and preprocessed: uint8 (n, 3, side, side)."""
        asked = self._ask(unit)
        if not asked.missing.any():
            return asked, []
        rows, images = asked.lacking, enumerate(self.images.block(unit.rows))
        boxes = ((image, rows[rows[:, 0] == i, 1:]) for i, image in images)
        return asked, [self._show(image, of_image) for image, of_image in boxes if len(of_image)]

    def _show(self, image: Any, boxes: np.ndarray) -> Tensor:
        import torch

        from pipeline.kernels.image_prompts import prompt_box

        config = self.config
        if config.prompt == "crop":
            return self.clip.preprocess(image, boxes)
        more = config.prompt, config.brightness, config.thickness
        shown = [prompt_box(image, tuple(box), *more) for box in boxes.tolist()]
        return torch.cat([self.clip.preprocess(each) for each in shown])

    def compute(self, unit: Unit, inputs: tuple[Asked, list[Tensor]]) -> dict[str, Any]:
        """Every view embedded, in full batches."""
        import torch

        asked, shown = inputs
        if shown:
            asked.fill(half(self.clip.encode_images(torch.cat(shown), full=True)))
        return {"embeddings": asked.all()}


@dataclass
class WindowWorker(_ViewWorker):
    """Embeds windows of tokens."""

    config: FeatureConfig
    layer: int
    _tokens: dict[str, Any] = field(default_factory=dict)

    def read(self, unit: Unit) -> tuple[Asked, Tensor | None]:
        """The images if anything of them is lacking, preprocessed: uint8 (n, 3, side, side)."""
        asked = self._ask(unit)
        return asked, self._whole(unit.rows) if asked.missing.any() else None

    def compute(self, unit: Unit, inputs: tuple[Asked, Tensor | None]) -> dict[str, Any]:
        """The remaining blocks over each window."""
        import torch

        asked, images = inputs
        if images is not None:
            tokens, rows = self._tokens_of(unit, images), torch.from_numpy(asked.lacking)
            more = self.layer, self.config.prompt, self.config.gain
            asked.fill(half(self.clip.encode_windows(tokens, rows, *more)))
        return {"embeddings": asked.all()}

    def _tokens_of(self, unit: Unit, images: Tensor) -> Any:
        """The tokens of a block of images, kept for the block's further units."""
        block = str(unit.rows)
        if block not in self._tokens:
            self._tokens = {block: self.clip.tokens_before(images, self.layer)}
        return self._tokens[block]


def half(vectors: Any) -> np.ndarray:
    """Unit vectors as they are stored: float16, each component off by 2^-11 of itself at most."""
    return np.asarray(vectors).astype(np.float16)


command = variants_command("embeddings")
