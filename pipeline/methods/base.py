"""Interface of a scoring method: its settings, the texts and views it reads, and its scorer.

A method builds a scorer once per run; the scorer then takes one block of images at a time. The
inputs cover all images: a transductive method (a cache, a classifier fitted to all images) may read
any blocks before it scores the first one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from pipeline.core.section import Section
from pipeline.core.under_way import tell
from pipeline.methods.config import ScoresConfig
from pipeline.methods.support import SupportConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions


class Prompts(Protocol):
    """Text encoder whose prompts begin with context vectors that can be learned."""

    @property
    def context(self) -> Tensor:
        """Context vectors as they are, (words, width)."""
        ...

    def __call__(self, context: Tensor) -> Tensor:
        """Encode the prompts of all classes behind a context: unit vectors (classes, dim)."""
        ...


class ViewVectors(NamedTuple):
    """Embeddings of one kind of view, for a block of images.

    A view here is one embedded crop or the whole image. Not to be confused with
    `pipeline.kernels.geometry.View`, the part of an image that CLIP's preprocessing shows.
    """

    vectors: Tensor
    """Unit vectors (images, views, dim), of the dtype and on the device of the texts; for methods
    `of_sets` also (images, views, queries, dim).
    """
    weights: Tensor | None = None
    """Number of times that each view counts, (images, views); None for once."""


Views = Mapping[str, ViewVectors]
"""Embeddings of a block of images, by name of the view, of `VIEW_NAMES`."""
Weigher = Callable[[Views], "Mapping[str, Tensor]"]
"""Function of the views of a block of images that returns the weights of their cosines.

Weights are (images, views, classes, texts) by name of the view, or broadcast to that; texts are by
their place in the class. The score of a class is the sum of weight times cosine over all views and
the texts of the class. A view that only weighs others is left out.
"""
Scorer = Callable[[slice, Views], "Tensor"]
"""Function of a block of images (a slice of the index) and its views that returns their scores.

Scores are float (images, classes); the class with the highest score is predicted.
"""

ViewScorer = Callable[[ViewVectors], "Tensor"]
"""Function of views of one kind that returns the sum of their scores, float (images, classes)."""


@dataclass(frozen=True)
class MethodInputs:
    """Inputs of a method. Labels of images are not among them."""

    texts: Mapping[str, Descriptions]
    """Text embeddings by name of the text set, for the competing classes."""
    config: ScoresConfig
    """Settings of the section `scores`."""
    images: int = 0
    """Number of images in the index."""
    block: Callable[[slice], Views] | None = None
    """Function that reads the views of any slice of images, in the order of the index."""
    sha256: Sequence[str] = ()
    """sha256 of each image's file, which keys its random numbers."""
    image_ids: Sequence[str] = ()
    """Id of each image."""
    classes: Sequence[int] = ()
    """Label of each competing class, by column of the scores."""
    boxes: Mapping[str, Tensor] = field(default_factory=dict)
    """Boxes of the views that `Method.boxes` names, in pixels, int64 (images, views, 4)."""
    prompts: Callable[[str], Prompts] | None = None
    """Function that loads the text encoder with the prompts of a text set; None without one."""


class Method(Section):
    """Base class of scoring methods. Its fields are the method's settings and part of the key."""

    texts: ClassVar[tuple[str, ...]]
    """Names of the text sets that the method reads; `SUPPORT` for its support set."""
    explained_by: ClassVar[str | None] = None
    """Text set whose cosines with the views make up the score, by the weights of `weigher`; None
    for a method whose scores are no such sum, and which therefore does not explain them.
    """
    unexplained: ClassVar[str] = "they are no sum of cosines of views and texts"
    """Reason why the method does not explain its scores, if `explained_by` is None."""
    default: ClassVar[bool] = True
    """True if the method is scored where `scores.methods` names none."""
    weighted: ClassVar[bool] = False
    """True if views of the method may have weights, as `scores.expectation` gives them."""
    of_sets: ClassVar[bool] = False
    """True if a view may be several vectors, of which the most similar one counts for each text."""
    learns_prompts: ClassVar[bool] = False
    """True if the method learns prompts, of at most `MOST_PROMPTS` classes."""
    boxes: ClassVar[tuple[str, ...]] = ()
    """Names of the views whose boxes the method reads: `raw` or `squares`."""
    published: ClassVar[Mapping[str, Any]] = {}
    """Settings of its views without which the method would not be what its name says."""

    def completed(self, config: ScoresConfig) -> Method:
        """Return the method with settings that follow from `scores.*` where they are not given."""
        return self

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the views that the method reads, and how many of each it needs per image.

        `image` is the whole image; `raw` and `feature` are attention-guided crops; `squares` and
        `augmented` are random crops. The scorer may receive more views of a kind than this if
        another method reads more.

        Args:
            config: Settings of the section `scores`.

        Returns:
            Number of views per image, by name in `VIEW_NAMES`.
        """
        return {"image": 1}

    def labelled(self) -> SupportConfig | None:
        """Return the settings of the labelled images that the method learns from, if any."""
        return None

    def probabilities(self, scores: Tensor, config: ScoresConfig) -> Tensor:
        """Convert scores to class probabilities.

        The default is CLIP's, softmax(logit_scale * score) over classes for scores that are
        cosines. A method whose scores are not cosines overrides it.

        Args:
            scores: Scores of the scorer, (images, classes).
            config: Settings of the section `scores`.

        Returns:
            Probabilities (images, classes); rows sum to 1.
        """
        return (config.scale * scores).softmax(dim=-1)

    def settling(self, config: ScoresConfig) -> str | None:
        """Return the view whose draws may stop once an image has settled; None for no view.

        Args:
            config: Settings of the section `scores`.
        """
        return None

    @abstractmethod
    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build the scorer. Import heavy libraries here instead of at the top of the module.

        Args:
            inputs: Texts, settings, and access to the views of all images.
        """

    def weigher(self, inputs: MethodInputs) -> Weigher:
        """Build the function that explains scores, if `explained_by` names a text set.

        Args:
            inputs: Texts and settings; sha256 and boxes of the images that are weighed, in order.
        """
        raise NotImplementedError(f"{type(self).__name__} does not explain its scores")


def crops(config: ScoresConfig) -> dict[str, int]:
    """Return the views of ABS: n crops of each branch that is on."""
    branches = {"feature": config.feature, "raw": config.raw}
    return {name: config.n for name, on in branches.items() if on}


def image_and_crops(config: ScoresConfig) -> dict[str, int]:
    """Return the whole image and the views of ABS."""
    return {"image": 1, **crops(config)}


def stacked(views: Views, wanted: Mapping[str, int]) -> Tensor:
    """Join the first views of each kind.

    Args:
        views: Embeddings of a block of images.
        wanted: Number of views by name, as of `Method.views`; they are joined in this order.

    Returns:
        Unit vectors, (images, all views, dim).
    """
    import torch

    return torch.cat([views[name].vectors[:, :count] for name, count in wanted.items()], dim=1)


def over_all(inputs: MethodInputs, part: Callable[[Views], Tensor], rows: int) -> Tensor:
    """Compute a part of all images, a fixed number at a time, whatever the size of units.

    Args:
        inputs: Inputs of a method.
        part: Function of the views of a block of images, (images, ...).
        rows: Images that are read at once.

    Returns:
        Parts of all images, in the order of the index.
    """
    assert inputs.block is not None
    first = part(inputs.block(slice(0, min(rows, inputs.images))))
    found = first.new_empty(inputs.images, *first.shape[1:])  # parts kept apart scatter memory
    found[:rows] = first
    for start in range(rows, inputs.images, rows):
        some = slice(start, min(start + rows, inputs.images))
        found[some] = part(inputs.block(some))
    return found


def by_blocks(
    blocks: Iterable[tuple[Tensor, Tensor]],
    score: Callable[[Tensor, Tensor], Tensor],
    images: slice,
) -> Tensor:
    """Score a few images at a time, and tell how far it is.

    Args:
        blocks: Views and cosines of a few images at a time.
        score: Function of a block that returns its scores, (images, classes).
        images: Images of all blocks.

    Returns:
        Scores (images, classes), in the order of the blocks.
    """
    import torch

    parts: list[Tensor] = []
    for block in blocks:
        parts.append(score(*block))
        tell(sum(map(len, parts)), images.stop - images.start)
    return torch.cat(parts)


def unstacked(weights: Tensor, wanted: Mapping[str, int]) -> dict[str, Tensor]:
    """Part the weights of views that `stacked` joined: (images, all views, ...), by name."""
    return dict(zip(wanted, weights.split(list(wanted.values()), dim=1), strict=True))


class SumOverViews(Method):
    """Base class of methods whose class scores are sums over all views.

    Views that are independent draws may then stop before all of them are embedded.
    """

    @abstractmethod
    def view_scorer(self, inputs: MethodInputs) -> ViewScorer:
        """Build a function from views of one kind to their sum of scores, (images, classes)."""

    def settling(self, config: ScoresConfig) -> str | None:
        """Return the raw crops, which cost most; feature crops if they are drawn and alone."""
        views = self.views(config)
        drawn = ("raw", "squares") if config.expectation else ("raw", "squares", "feature")
        return next((name for name in drawn if name in views), None)

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer that sums over the first views of each kind, as many as it needs."""
        score_view, counts = self.view_scorer(inputs), self.views(inputs.config)

        def score_first(view: ViewVectors, count: int) -> Tensor:
            drawn = view.weights is None
            return score_view(view._replace(vectors=view.vectors[:, :count]) if drawn else view)

        def score(images: slice, views: Views) -> Tensor:
            first, *others = [score_first(views[name], n) for name, n in counts.items()]
            return sum(others, start=first)

        return score


MOST_PROMPTS = 200
"""Most classes whose prompts are learned for each image."""
VIEW_NAMES = ("image", "raw", "feature", "squares", "augmented")
"""Views that methods may read: the whole image, and the crops of each view set."""
