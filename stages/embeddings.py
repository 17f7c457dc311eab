"""embeddings: encode whole images, boxes and windows with CLIP.

Reads the images and, for views, the boxes or windows of the stage `crops`. There is one artifact
for whole images and one per view set. A unit is a block of images for whole images, and the unit of
the view set for views: a larger N adds blocks of crops and keeps the others.

Each writes one array of unit vectors:

    embeddings.zarr    (image, view, dim) float16; (image, view, query, dim) for a model that gives
                       a view several vectors

    embeddings-image      one view: the whole image
    embeddings-raw        boxes of the image (Eq. 6), view i is crop i
    embeddings-squares    random squares of the image (WCA), view i is crop i
    embeddings-augmented  random boxes of the image, squashed to CLIP's square by Pillow's bilinear
                          filter and flipped where their draw says so, view i is crop i
    embeddings-feature    windows of the tokens that enter a layer of CLIP (Eq. 7), view i is row i
                          of crops-feature, or of crops-windows if all windows are embedded

Settings: section `clip`; `raw` for embeddings-raw, `feature` for embeddings-feature. Vectors of
equal views that are stored under other settings are reused.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from pipeline.core.code import code_of
from pipeline.core.errors import MissingInput
from pipeline.core.runtime import Runtime
from pipeline.core.section import NOT_IN_KEY
from pipeline.core.under_way import stretch
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.images import Images, peak_image_bytes
from pipeline.kernels.image_prompts import prompt_box
from pipeline.models.clip.source import ClipSource
from pipeline.options import variants_command
from pipeline.stage import Cost, Stage, Worker, timed
from pipeline.store.units import ArraySpec, Footprint, Unit, Units, row_units
from pipeline.views.config import BOX, FLIPPED_BOX, WINDOW, FeatureConfig, RawConfig
from pipeline.views.encoding import ImageEncoding
from pipeline.views.requested import RequestedViews, ViewSource
from pipeline.views.reuse import ReusableViews, sources
from pipeline.views.sets import ViewSet
from pipeline.views.workers import ViewInputs, ViewWorker

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models.clip.model import ClipModel
    from pipeline.models.preprocessing import Preprocessing
    from pipeline.store.store import Store

IMAGES, WINDOWS = 4, 40
"""Images, and windows of each, that a probe encodes."""


def view_array(clip: ClipSource, images: int, views: int, rows: int, block: int) -> ArraySpec:
    """Return the array of the vectors of views, in chunks of `rows` images and `block` views."""
    several = [("query", clip.queries)] if clip.queries > 1 else []
    names, sizes = zip(*several, ("dim", clip.dim), strict=True)
    dims, chunks = ("image", "view", *names), (rows, block, *sizes)
    return ArraySpec("embeddings", dims, (images, views, *sizes), chunks, "float16")


@dataclass(frozen=True)
class Embeddings(ImageEncoding):
    """Base of all embeddings: CLIP over the images of an index."""

    clip: ClipSource
    index: Stage
    image_block: int
    dataset: Annotated[Dataset, NOT_IN_KEY]
    runtime: Annotated[Runtime, NOT_IN_KEY]

    def footprint(self, store: Store) -> Footprint:
        """Return bytes of CLIP's inputs, vectors (float32 and stored float16) and open images.

        What is written is known before the index is finished.
        """
        vectors = self.image_block * self._views_in_unit(store) * self.clip.numbers
        try:
            index = store.open(self.index).table("images", columns=["width", "height"])
        except MissingInput:
            return Footprint(None, 2 * vectors)
        images = peak_image_bytes(index, self.image_block)
        return Footprint(
            self._input_bytes(self.image_block, store) + 6 * vectors, 2 * vectors, images
        )

    def _views_in_unit(self, store: Store) -> int:
        """Return the number of vectors of an image in a unit."""
        return 1

    def _input_bytes(self, rows: int, store: Store) -> int:
        """Return the bytes of CLIP's inputs for `rows` images."""
        return 3 * self.clip.image_size**2 * rows

    def worker(self, store: Store) -> Worker:
        """Load CLIP and open the images and any views."""
        index = store.open(self.index).table("images", columns=Images.COLUMNS)
        images = Images(self.dataset.contents, index)
        views = self._reusable(store)
        return self.encoder(self._clip(), self._spec(store), images, views)

    @abstractmethod
    def encoder(
        self, clip: ClipModel, array: ArraySpec, images: Images, views: ViewSource | None
    ) -> Worker:
        """Return what encodes images or their views.

        Args:
            clip: Loaded CLIP.
            array: Array of the vectors.
            images: Access to the images.
            views: Source of the views of a unit; None for whole images.
        """

    @abstractmethod
    def _spec(self, store: Store) -> ArraySpec:
        """Return the array of the vectors."""

    def _reusable(self, store: Store) -> ReusableViews | None:
        """Open the views; None for whole images."""
        return None

    def _array(self, store: Store, count: int, block: int) -> ArraySpec:
        return view_array(self.clip, store.rows(self.index), count, self.image_block, block)

    @property
    def queries(self) -> int:
        """Number of vectors of a view."""
        return self.clip.queries


@dataclass(frozen=True)
class ImageEmbeddings(Embeddings):
    """Embeddings of whole images, through CLIP's own preprocessing."""

    version: ClassVar[int] = 2
    variant = "image"

    def units(self, store: Store) -> Units:
        """Divide the images into blocks."""
        return row_units(store.rows(self.index), self.image_block)

    def encoder(
        self, clip: ClipModel, array: ArraySpec, images: Images, views: ViewSource | None
    ) -> ImageWorker:
        """Return what encodes whole images."""
        return ImageWorker(clip, array, images)

    def _spec(self, store: Store) -> ArraySpec:
        return self._array(store, 1, 1)


@dataclass(frozen=True)
class ViewEmbeddings(Embeddings):
    """Embeddings of one view set, with the units of the view set."""

    views: ViewSet

    columns: ClassVar[list[str]]
    """Columns of `crops.parquet` that hold a view's box or window."""

    @property
    def counts(self) -> str:
        """Word for the items of a unit in progress messages: that of the view set."""
        return self.views.counts

    def units(self, store: Store) -> Units:
        """Return the units of the view set."""
        return self.views.units(store)

    def _views_in_unit(self, store: Store) -> int:
        return self.views.shape(store)[1]

    def _spec(self, store: Store) -> ArraySpec:
        return self._array(store, *self.views.shape(store))

    def items(self, store: Store, unit: Unit) -> int:
        """Count the views of a unit."""
        return unit.size if unit.crops else unit.size * self._views_in_unit(store)

    def _reusable(self, store: Store) -> ReusableViews:
        """Open the views, and the artifacts whose vectors may be reused for equal views."""
        stored = list(sources(store, self, self.views))
        grid = self.views.units(store)
        return ReusableViews(store.open(self.views), grid, self.columns, stored, code_of(self))


@dataclass(frozen=True)
class BoxEmbeddings(ViewEmbeddings):
    """Embeddings of boxes of the image (Eq. 6), each through CLIP's own preprocessing."""

    config: RawConfig

    version: ClassVar[int] = 4
    columns = BOX

    @property
    def variant(self) -> str:
        """Name of the view set."""
        return self.views.variant

    def _input_bytes(self, rows: int, store: Store) -> int:
        return super()._input_bytes(rows, store) * self._views_in_unit(store)

    def encoder(
        self, clip: ClipModel, array: ArraySpec, images: Images, views: ViewSource | None
    ) -> BoxWorker:
        """Return what encodes boxes."""
        assert views is not None
        return BoxWorker(clip, array, images, views, self.config)


@dataclass(frozen=True)
class AugmentedEmbeddings(ViewEmbeddings):
    """Embeddings of boxes that are squashed to a square and may be flipped."""

    version: ClassVar[int] = 1
    columns = FLIPPED_BOX
    variant = "augmented"

    def _input_bytes(self, rows: int, store: Store) -> int:
        return super()._input_bytes(rows, store) * self._views_in_unit(store)

    def encoder(
        self, clip: ClipModel, array: ArraySpec, images: Images, views: ViewSource | None
    ) -> AugmentedWorker:
        """Return what encodes boxes that may be flipped."""
        from pipeline.models.preprocessing import squashed

        assert views is not None
        squash = squashed(self.clip.image_size, "bilinear", clip.device)
        return AugmentedWorker(clip, array, images, views, squash)


@dataclass(frozen=True)
class WindowEmbeddings(ViewEmbeddings):
    """Embeddings of windows of the tokens that enter a layer of CLIP (Eq. 7)."""

    config: FeatureConfig

    version: ClassVar[int] = 4
    columns = WINDOW
    variant = "feature"

    @property
    def remark(self) -> str:
        """Remark on figures of these crops; empty where they are the paper's."""
        return self.clip.vision.remark

    @property
    def layer(self) -> int:
        """Index of the layer that windows enter, from 0; behind the blocks, the pooling."""
        return self.config.layer % self.clip.window_layers

    def identity(self) -> dict[str, Any]:
        """Return the content of the key, with the index of the layer where the pooling is one too.

        Before it was, negative numbers meant other layers of these models.
        """
        identity = super().identity()
        if self.clip.window_layers > self.clip.layers:
            identity["config"]["config"]["layer"] = self.layer
        return identity

    @property
    def probe_name(self) -> str:
        """The cost of windows depends on the layer that they enter."""
        return f"windows of layer {self.layer}, {self.config.prompt}"

    def probe(self) -> Cost:
        """Measure CLIP on windows of all tokens of black images, with those images' own cost."""
        return timed(self._clip, self._encode_windows)

    def _encode_windows(self, model: ClipModel) -> int:
        """Encode WINDOWS windows of each of a few images; return how many."""
        import torch

        images = model.black()[:IMAGES]
        tokens = model.tokens_before(images, self.layer)
        rows = torch.tensor([0, 0, 0, self.clip.grid, self.clip.grid]).repeat(
            len(images) * WINDOWS, 1
        )
        rows[:, 0] = torch.arange(len(images)).repeat_interleave(WINDOWS)
        more = self.layer, self.config.prompt, self.config.gain
        return len(model.encode_windows(tokens, rows, *more))

    def _input_bytes(self, rows: int, store: Store) -> int:
        tokens = 4 * self.clip.tokens * self.clip.width
        return super()._input_bytes(rows, store) + tokens * rows

    def check(self) -> None:
        """Raise ConfigError if CLIP has no such layer, or no place for the prompt in it."""
        self.clip.vision.check_layer(self.config.layer)
        name, prompt = self.clip.config.model, self.config.prompt
        self.clip.vision.check_prompt(name, prompt, self.config.layer)

    def encoder(
        self, clip: ClipModel, array: ArraySpec, images: Images, views: ViewSource | None
    ) -> WindowWorker:
        """Return what encodes windows."""
        assert views is not None
        return WindowWorker(clip, array, images, views, self.config, self.layer)


@dataclass
class _ClipWorker(Worker):
    """Base of the workers; holds the loaded CLIP, its output array and access to the images."""

    clip: ClipModel
    array: ArraySpec
    images: Images

    def environment(self) -> dict[str, Any]:
        """Return device and batch size of CLIP."""
        return self.clip.environment

    def arrays(self) -> list[ArraySpec]:
        """Declare `embeddings` (image, view, dim)."""
        return [self.array]

    @property
    def numbers(self) -> int:
        """Numbers of a view: the length of a vector times the number of vectors."""
        return math.prod(self.array.shape[2:])

    def shaped(self, vectors: np.ndarray) -> np.ndarray:
        """Give each view its vectors: (n, views, numbers) to (n, views, dim), or with queries."""
        return vectors.reshape(*vectors.shape[:2], *self.array.shape[2:])

    def _whole_images(self, rows: slice | Sequence[int]) -> Tensor:
        """Return whole images, decoded and preprocessed: uint8 (n, 3, side, side)."""
        return self.clip.preprocess.block((image, None) for image in self.images.block(rows))


@dataclass
class ImageWorker(_ClipWorker):
    """Worker that embeds whole images."""

    def read(self, unit: Unit) -> Tensor:
        """Return decoded and preprocessed images: uint8 (n, 3, side, side)."""
        return self._whole_images(unit.rows)

    def compute(self, unit: Unit, inputs: Tensor) -> dict[str, Any]:
        """Return one vector per image: float16 (n, 1, dim)."""
        return {"embeddings": self.shaped(half(self.clip.encode_images(inputs)[:, None]))}


@dataclass
class _ViewWorker(_ClipWorker, ViewWorker):
    """Base of the workers for views, which embed each distinct view of an image once.

    Holds the source of views, which may know vectors of equal views already.
    """

    views: ViewSource

    def disable_reuse(self) -> None:
        """Embed every view, also those that are stored under other settings."""
        self.views = self.views.without_reuse()

    def expect_rounds(self) -> None:
        """Remember what is read of the store: images are asked for round after round."""
        self.views = self.views.remembering()

    def read(self, unit: Unit) -> ViewInputs:
        """Return the unit's views, and what the model reads of those without a vector."""
        rows = range(unit.rows.start, unit.rows.stop)
        return self._inputs(
            rows, self.views.request(rows, unit.crops, self.numbers, self.environment())
        )

    def compute(self, unit: Unit, inputs: ViewInputs) -> dict[str, Any]:
        """Return the vectors of all views: float16 (n, views, dim)."""
        return {"embeddings": self.shaped(self.encode(inputs).all())}

    def inputs_at(self, rows: Sequence[int], places: np.ndarray) -> ViewInputs:
        """Return views of some images at given places, int64 (images, views, 4)."""
        views = self.views.request_at(rows, places, self.numbers, self.environment())
        return self._inputs(rows, views)

    def _inputs(self, rows: Sequence[int], views: RequestedViews) -> ViewInputs:
        """Return views with the pixels of those of which no vector is stored, if any."""
        pixels = self.pixels(rows, views) if views.missing.any() else None
        return ViewInputs(rows, views, pixels)

    def drawn(self, rows: Sequence[int], count: int) -> np.ndarray:
        """Return the places of the first views of some images, int64 (images, count, 4)."""
        return self.views.drawn(rows, count)

    @abstractmethod
    def pixels(self, rows: Sequence[int], views: RequestedViews) -> Tensor:
        """Return what CLIP reads of the missing views: uint8 (n, 3, side, side)."""


@dataclass
class _CropWorker(_ViewWorker):
    """Base of the workers that embed boxes of images."""

    def pixels(self, rows: Sequence[int], views: RequestedViews) -> Tensor:
        """Return the missing crops, decoded and preprocessed: uint8 (n, 3, side, side)."""
        missing, images = views.missing_rows, enumerate(self.images.block(rows))
        pairs = ((image, missing[missing[:, 0] == i, 1:5]) for i, image in images)
        boxed = ((image, boxes) for image, boxes in pairs if len(boxes))
        return self._crops(boxed, missing)

    @abstractmethod
    def _crops(self, boxed: Iterable[tuple[Any, np.ndarray]], rows: np.ndarray) -> Tensor:
        """Crop and preprocess boxes.

        Args:
            boxed: Images with half-open boxes in pixels, (n, 4).
            rows: Image within the block, then place, of all boxes, in the same order.

        Returns:
            uint8 (n, 3, side, side).
        """

    def encode(self, inputs: ViewInputs) -> RequestedViews:
        """Encode the missing crops in full batches; return all views."""
        if inputs.pixels is not None:
            inputs.views.fill(half(self.clip.encode_images(inputs.pixels, full=True)))
        return inputs.views


@dataclass
class BoxWorker(_CropWorker):
    """Worker that embeds boxes of images; holds the section `raw`."""

    config: RawConfig

    def _crops(self, boxed: Iterable[tuple[Any, np.ndarray]], rows: np.ndarray) -> Tensor:
        return self.clip.preprocess.block(self._prompted(boxed))

    def _prompted(self, boxed: Iterable[tuple[Any, np.ndarray]]) -> Iterator[tuple[Any, Any]]:
        """Yield images with boxes (n, 4) as pictures under the prompt of the settings."""
        config = self.config
        if config.prompt == "crop":
            yield from boxed
            return
        more = config.prompt, config.brightness, config.thickness
        for image, boxes in boxed:
            for box in boxes.tolist():
                yield prompt_box(image, tuple(box), *more), None


@dataclass
class AugmentedWorker(_CropWorker):
    """Worker that embeds squashed boxes, some of them flipped; holds their preprocessing."""

    squash: Preprocessing

    def _crops(self, boxed: Iterable[tuple[Any, np.ndarray]], rows: np.ndarray) -> Tensor:
        crops = self.squash.block(boxed)
        flipped = np.flatnonzero(rows[:, 5])
        crops[flipped] = crops[flipped].flip(3)
        return crops


@dataclass
class WindowWorker(_ViewWorker):
    """Worker that embeds windows of tokens.

    Holds the section `feature`, the index of the layer of CLIP that windows enter, and the tokens
    of the images of the unit before.
    """

    config: FeatureConfig
    layer: int
    _tokens: dict[str, Any] = field(default_factory=dict)

    def pixels(self, rows: Sequence[int], views: RequestedViews) -> Tensor:
        """Return whole images, uint8 (n, 3, side, side)."""
        return self._whole_images(rows)

    def encode(self, inputs: ViewInputs) -> RequestedViews:
        """Run CLIP's remaining layers over each missing window; return all views."""
        import torch

        if inputs.pixels is not None:
            rows = torch.from_numpy(inputs.views.missing_rows)
            share = self._share_of_tokens(len(inputs.pixels), len(rows))
            with stretch(0, share):
                tokens = self._tokens_of(inputs.rows, inputs.pixels)
            more = self.layer, self.config.prompt, self.config.gain
            with stretch(share, 1):
                inputs.views.fill(half(self.clip.encode_windows(tokens, rows, *more)))
        return inputs.views

    def _share_of_tokens(self, images: int, windows: int) -> float:
        """Return the share of the tokens of images in the work, by the blocks of CLIP to run."""
        before = images * self.layer
        return before / max(before + windows * (self.clip.layers - self.layer), 1)

    def _tokens_of(self, rows: Sequence[int], images: Tensor) -> Any:
        """Return the tokens of a block of images, cached for the block's further units."""
        block = str(rows)
        if block not in self._tokens:
            self._tokens = {block: self.clip.tokens_before(images, self.layer)}
        return self._tokens[block]


def half(vectors: Any) -> np.ndarray:
    """Round unit vectors to float16, as stored: relative error of a component at most 2^-11."""
    return np.asarray(vectors).astype(np.float16)


command = variants_command(
    "embeddings", "Encode whole images and their crops as unit vectors.", __doc__
)
