"""Scores of images in memory, equal to those that the pipeline stores.

The stages of the plan compute them, with the same kernels and the same random streams, so that a
new view set or method is here as soon as it is there. What a stage would read from the store is
handed to it in memory instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.classifier.given import GivenClasses, GivenImages, Picture, as_file, classes_of
from pipeline.core.errors import ConfigError
from pipeline.core.hash_cache import HashCache
from pipeline.core.layers import layered, merge
from pipeline.methods.registry import views_read
from pipeline.plan import build
from pipeline.settings import Settings, resolve_precision, validate
from pipeline.stage import Stage
from pipeline.store.units import row_units
from pipeline.texts.vectors import by_class
from pipeline.views.readers import DrawnReader, ExpectedReader, Rows, ViewReader
from pipeline.views.requested import DrawnViews
from stages.attention import Attention
from stages.crops import Crops, FeatureCrops
from stages.descriptions import BLOCK, DescriptionsStage, DescriptionsWorker
from stages.distinct import DistinctTexts
from stages.embeddings import Embeddings, ViewEmbeddings, view_array
from stages.scores import Scores, ScoresWorker

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.datasets.classes import Classes
    from pipeline.kernels.matching import Descriptions


class Classifier:
    """Zero-shot classifier for single images; models are loaded and texts encoded once.

    Args:
        classes: Names of the classes, or a file of them: a JSON list, or lines of a `.txt`.
        descriptions: Sentences by class name, or a JSON file of them. Without, only methods that
            need none are scored.
        clip: CLIP: a name of open_clip, `local-dir:FOLDER` or `hf-hub:OWNER/NAME`.
        weights: Weights of `clip`: a tag of open_clip, a file, or None if the model has its own.
        methods: Names of the methods; None for all whose texts are given.
        profile: Profile of settings: a name in `cfgs/profiles`, or a YAML file.
        settings: Further settings by dotted name, such as `{"crops.k": 30}`.
        weights_dir: Folder of model weights, in place of ABS_WEIGHTS.
        exact: Compute few images in batches as full as those of a run, whose rounding depends on
            their size. A single image then takes the work of a batch of whole images.

    Raises:
        ConfigError: For a setting, class or text that cannot be used.
        MissingInput: For weights or files that are not found.
    """

    def __init__(
        self,
        classes: Sequence[str] | str | Path,
        descriptions: Mapping[str, Sequence[str]] | str | Path | None = None,
        clip: str = "ViT-B-16",
        weights: str | None = "openai",
        *,
        methods: Sequence[str] | None = None,
        profile: str = "official",
        settings: Mapping[str, Any] | None = None,
        weights_dir: str | None = None,
        exact: bool = False,
    ) -> None:
        own: dict[str, Any] = {"clip": {"model": clip, "weights": weights}}
        own |= {} if methods is None else {"scores": {"methods": list(methods)}}
        for name, value in (settings or {}).items():
            own = merge(own, _nested(name, value))
        with as_file(descriptions) as file:
            given = {"descriptions": {"cupl": {"file": file}}} if file else {}
            values = merge(layered(None, profile, weights=weights_dir), merge(given, own))
            self._load(validate(values), classes_of(classes), exact)

    @classmethod
    def of(
        cls,
        dataset: str,
        profile: str = "official",
        settings: Mapping[str, Any] | None = None,
        weights_dir: str | None = None,
        exact: bool = False,
    ) -> Classifier:
        """Return the classifier of a dataset: its classes, texts, models and settings.

        Args:
            dataset: Name in `cfgs/datasets`, or a YAML file.
            profile: As of the class.
            settings: As of the class.
            weights_dir: As of the class.
            exact: As of the class.
        """
        self = cls.__new__(cls)
        values = layered(dataset, profile, weights=weights_dir)
        for name, value in (settings or {}).items():
            values = merge(values, _nested(name, value))
        self._load(validate(values), None, exact)
        return self

    def __call__(self, images: Any, probabilities: bool = False) -> Any:
        """Score an image, or several.

        Args:
            images: A path, the bytes of a file, a Pillow image, a uint8 array (height, width, 3),
                or a list of these.
            probabilities: Return probabilities in place of scores.

        Returns:
            A table of one image: a row per method, a column per class, float32 (probabilities:
                float64). A list of such tables for a list.

        Raises:
            AbsError: If an image cannot be read.
        """
        if isinstance(images, list | tuple):
            return list(self.stream(images, probabilities))
        return next(self.stream([images], probabilities))

    def stream(self, images: Iterable[Any], probabilities: bool = False) -> Iterator[pd.DataFrame]:
        """Yield the table of each image of an iterable of any length; as `__call__`."""
        given, at_once = iter(images), self.settings.layout.images
        while block := [Picture.of(image) for image in islice(given, at_once)]:
            found = self._scored(GivenImages(block), probabilities)
            for table in np.stack([each.numpy() for each in found.values()], axis=1):
                yield pd.DataFrame(table, index=list(found), columns=self.classes)

    @property
    def classes(self) -> list[str]:
        """Names of the classes that can be predicted, the columns of results."""
        classes = self._scores.classes
        return [name for name, on in zip(classes.names, classes.present, strict=True) if on]

    @property
    def methods(self) -> list[str]:
        """Names of the methods, the rows of results."""
        return list(self._scores.methods)

    # --- Loading --------------------------------------------------------------------------------

    def _load(self, settings: Settings, classes: Classes | None, exact: bool) -> None:
        """Plan the stages, load the models and encode the texts."""
        from pipeline.models.batches import FillsBatches
        from pipeline.models.clip.model import ClipModel

        settings, notes = resolve_precision(settings)
        all_crops = settings.scores.model_copy(update={"settle": None})
        settings = settings.model_copy(update={"scores": all_crops})
        digests = HashCache(settings.paths.memory(settings.dataset.name))
        place = settings.dataset, settings.paths, digests
        opened = (digests, GivenClasses(*place, classes)) if classes else None
        stages = build(settings, opened)
        for note in dict.fromkeys([*notes, *(note for stage in stages for note in stage.notes)]):
            warnings.warn(note, stacklevel=3)
        for stage in stages:
            stage.check()
        self.settings = settings
        self._scores = next(stage for stage in stages if isinstance(stage, Scores))
        self._counts = views_read(self._scores.methods.values(), self._scores.config)
        encoder = next(stage for stage in stages if isinstance(stage, Embeddings))
        self._clip = ClipModel(encoder.clip, settings.runtime)
        sources = [stage.model for stage in stages if isinstance(stage, Attention)]
        self._attention = sources[0].load(settings.runtime) if sources else None
        for model in (self._clip, self._attention):
            if exact and isinstance(model, FillsBatches):
                model.fill_batches(settings.layout.images)
        texts = self._scores.texts.items()
        self._texts = {name: self._text_vectors(stage) for name, stage in texts}
        self._at_hand = {name: Column() for name in ("image_id", "sha256")}
        self._boxed = {name for method in self._scores.methods.values() for name in method.boxes}
        self._common = None if self._boxed else self._scorer({})

    def _scorer(self, boxes: Mapping[str, Tensor]) -> ScoresWorker:
        """Return the worker that scores images.

        boxes: Boxes of their views by view set, int64 (n, views, 4).
        """
        others: dict[str, ViewReader] = {
            name: OtherImages(name, None, count) for name, count in self._counts.items()
        }
        index: Any = self._at_hand
        return self._scores.scorer(index, self._texts, others, boxes)

    def _text_vectors(self, stage: Stage) -> Descriptions:
        """Encode a text set as its stage does."""
        if isinstance(stage, DistinctTexts):
            table, vectors = stage.kept(*self._encoded(stage.every))
            kept = table.assign(text_id=range(len(table)))
            return by_class(kept, vectors, len(self._scores.classes.names))
        return by_class(*self._encoded(stage), len(self._scores.classes.names))

    def _encoded(self, stage: Stage) -> tuple[pd.DataFrame, np.ndarray]:
        """Encode all texts of a text set."""
        if not isinstance(stage, DescriptionsStage):
            raise ConfigError(
                f"scores.methods: a method reads {stage.name}, which is made for a dataset in a "
                "run; leave the method out"
            )
        worker = DescriptionsWorker(stage.prompts, self._clip, stage.clip.dim)
        units = row_units(len(stage.prompts.rows), BLOCK)
        parts = [worker.compute(unit, worker.read(unit)) for unit in units]
        table = pd.concat([part["texts"] for part in parts], ignore_index=True)
        vectors = np.concatenate([part["embeddings"] for part in parts])
        return table, vectors

    # --- Scoring --------------------------------------------------------------------------------

    def _scored(self, images: GivenImages, probabilities: bool) -> dict[str, Tensor]:
        """Score images by every method: (images, present classes), as of `__call__`."""
        rows = slice(0, len(images))
        for column in self._at_hand.values():  # an image is known by its digest alone
            column[:] = images.sha256(rows)
        if self._attention is not None:
            images.maps = self._attention.attention(self._attention.read(images, rows))
        readers = {name: self._reader(name, images) for name in self._counts}
        scorer = self._common or self._scorer(self._boxes(images))
        logits = scorer.logits(rows, {name: reader.read(rows) for name, reader in readers.items()})
        if not probabilities:
            return logits
        return {name: scorer.probabilities(name, each) for name, each in logits.items()}

    def _boxes(self, images: GivenImages) -> dict[str, Tensor]:
        """Draw the boxes of the view sets whose boxes a method reads."""
        import torch

        drawn = {}
        for name in self._boxed:
            stage = self._scores.views[name]
            assert isinstance(stage, ViewEmbeddings)
            boxes = self._crops(stage.views, images, self._counts[name], stage.columns)
            drawn[name] = torch.from_numpy(boxes)
        return drawn

    def _reader(self, name: str, images: GivenImages) -> ViewReader:
        """Encode a view set; return the reader that the stage `scores` has for it."""
        count, drawn = self._counts[name], self._scores.drawn.get(name)
        vectors = self._vectors(self._scores.views[name], images, count)
        if drawn is None:
            return ViewReader(name, vectors, count)
        assert isinstance(drawn, FeatureCrops)
        if self._scores.config.expectation:
            worker, unit = drawn.drawer(images.index, images.maps), images.unit(0, count)
            probs = worker.patch_probs(unit, worker.read(unit))["probability"].to_numpy()
            return ExpectedReader(
                name, vectors, self._scores.config.n, probs.reshape(len(images), -1)
            )
        outcomes = self._crops(drawn, images, count, ["outcome"])[..., 0]
        return DrawnReader(name, vectors, count, outcomes)

    def _vectors(self, stage: Stage, images: GivenImages, count: int) -> np.ndarray:
        """Encode the views of images as their stage does: float16 (images, views, dim)."""
        assert isinstance(stage, Embeddings)
        views, shape = None, (len(images), 1)
        if isinstance(stage, ViewEmbeddings):
            views = DrawnViews(self._crops(stage.views, images, count, stage.columns))
            shape = views.places.shape[:2]
        array = view_array(stage.clip, *shape, *shape)
        worker = stage.encoder(self._clip, array, images, views)
        # As many crops at once as in a unit of the settings, which limits memory.
        crops = self.settings.layout.images * self.settings.crop_block
        at_once = max(1, crops // len(images))
        units = [images.unit(start, start + at_once) for start in range(0, shape[1], at_once)]
        parts = [worker.compute(unit, worker.read(unit))["embeddings"] for unit in units]
        return np.concatenate(parts, axis=1)

    def _crops(
        self, stage: Stage, images: GivenImages, count: int, columns: list[str]
    ) -> np.ndarray:
        """Draw the crops of images as their stage does: int64 (images, crops, columns)."""
        assert isinstance(stage, Crops)
        worker, unit = stage.drawer(images.index, images.maps), images.unit(0, count)
        drawn = np.stack([crops.numpy() for crops in worker.draw_all(unit, worker.read(unit))])
        return np.asarray(drawn[..., [worker.columns.index(name) for name in columns]])


class Column(list[str]):
    """Column of the index of the images at hand; what holds it sees those of the next block."""

    @property
    def array(self) -> Column:
        """The values, as those of a column of a table."""
        return self


class OtherImages(ViewReader):
    """Reader of the images of an index, of which there are none."""

    def read(self, rows: Rows) -> Any:
        """Raise ConfigError: the method compares images with each other."""
        raise ConfigError(
            "a chosen method compares the images of a dataset with each other; score them by "
            "abs run, or leave it out of the methods"
        )


def _nested(name: str, value: Any) -> dict[str, Any]:
    """Return a setting by dotted name as nested mappings; ConfigError for another form."""
    section, dot, field = name.partition(".")
    if not (section and dot and field):
        raise ConfigError(f"settings: {name!r}: give section.field, such as 'crops.k'")
    *between, last = name.split(".")
    nested: dict[str, Any] = {last: value}
    for part in reversed(between):
        nested = {part: nested}
    return nested
