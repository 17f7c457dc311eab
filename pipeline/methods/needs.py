"""What a method reads, known without importing torch, and the shape of its code.

A method's module has one function

    scorer(descriptions: Descriptions, settings: MatchSettings) -> Scorer

called once. The scorer it returns takes a block of images, its views by name, each
(images, views, dim) of unit vectors, and returns scores (images, classes).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.matching import Descriptions

    Scorer = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class MatchSettings:
    """Settings that methods share, ready to use."""

    temperature: float
    """Divides cosine similarities in the softmax; already scaled to the model at hand."""
    soft: bool = True
    """Whether crops choose among descriptions, or meet the mean of each class's."""


@dataclass(frozen=True)
class Needs:
    """Inputs of a method, and where its code lies."""

    module: str
    views: tuple[str, ...]
    texts: str

    def scorer(self, descriptions: Descriptions, settings: MatchSettings) -> Scorer:
        """The method, ready for one text set."""
        make = importlib.import_module(self.module).scorer
        scorer: Scorer = make(descriptions, settings)
        return scorer
