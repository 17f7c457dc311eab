"""What a method is: settings of its own, the texts and views it reads, and a way to score.

A method is asked once for a scorer, which then takes a block of images at a time. What it is given
covers more than one block: a method that lives on the stream of images (a cache, a classifier
fitted to all of them) reads blocks as it likes before it answers for any.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pipeline.config import Section

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.kernels.matching import Descriptions


class View(NamedTuple):
    """A block of images seen in one way."""

    vectors: Tensor
    """(images, views, dim), unit length."""
    weights: Tensor | None = None
    """How often each view counts, (images, views); None: once."""


Views = Mapping[str, View]
Scorer = Callable[[slice, Views], "Tensor"]
"""Which images, and their views by name, to scores (images, classes)."""


@dataclass(frozen=True)
class Matching:
    """Settings that methods share, ready to use."""

    n: int = 60
    """Crops of a branch."""
    m: int | None = None
    """Descriptions of a class that ABS matches, the first ones; None: all."""
    temperature: float = 0.03
    """Divides cosine similarities in the softmax; already made to fit the model at hand."""
    sharpness: float = 1.0
    """The model's logit scale as a share of 100: factor on what multiplies cosines in a softmax."""
    raw: bool = True
    feature: bool = True
    soft: bool = True
    """The components of ABS (Table 4)."""

    @property
    def logit_scale(self) -> float:
        """What the model at hand learned to multiply cosines by."""
        return 100 * self.sharpness


@dataclass(frozen=True)
class Given:
    """All that a method may look at. Labels of images are not among it."""

    texts: Mapping[str, Descriptions]
    """Description vectors by text set, of the classes that compete."""
    matching: Matching
    images: int = 0
    """How many images there are."""
    block: Callable[[slice], Views] | None = None
    """Reads the views of any images, in the order of the index."""


class Method(Section):
    """Base of all methods; the fields of a method are its own settings, and part of the key."""

    texts: ClassVar[tuple[str, ...]]
    """Text sets it reads."""

    def views(self, matching: Matching) -> dict[str, int]:
        """The views it reads under these settings, and how many of each at least.

        `image` is the whole image; `raw` and `feature` are attention-guided crops, `squares` random
        ones. It may be given more of a view, if another method reads more.
        """
        return {"image": 1}

    def probabilities(self, scores: Tensor, matching: Matching) -> Tensor:
        """How likely its scores, (images, classes), make each class: rows of the same shape that
        add to 1.

        As CLIP was trained, the softmax of cosines times the logit scale; a method whose scores are
        no cosines says here what else they are.
        """
        return (matching.logit_scale * scores).softmax(dim=-1)

    @abstractmethod
    def scorer(self, given: Given) -> Scorer:
        """Ready to score; heavy imports belong here."""
