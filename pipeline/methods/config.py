"""Settings of the section `scores`, shared by all methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.core.section import NOT_IN_KEY, Section
from pipeline.models.config import LEAST_SCALE, MOST_SCALE


class ScoresConfig(Section):
    """Settings that score embeddings of views (section 3.4 of the paper)."""

    methods: tuple[str, ...] | None = None
    """Names of the methods; None for every method whose texts are given."""
    n: int = Field(default=60, ge=1, le=10_000)
    """Crops per branch (N in the paper); the first n of each image."""
    m: int | None = Field(default=50, ge=1)
    """Descriptions that ABS uses (M in the paper), the first m of each class; None for all."""
    temperature: float = Field(default=0.03, ge=1e-6)
    """Softmax temperature of soft matching, for a CLIP whose learned logit scale is 100, as
    OpenAI's are.
    """
    logit_scale: float | None = Field(default=100.0, ge=LEAST_SCALE, le=MOST_SCALE)
    """Logit scale that the CLIP in use has learned; None for that of its checkpoint. Similarities
    are divided by temperature * 100 / logit_scale, so that a profile means the same for every
    model.
    """
    classes: Literal["all", "present"] = "all"
    """Classes that compete if the dataset has only part of its vocabulary: all, of which only those
    present can be predicted, or only those present.
    """
    raw: bool = True
    """Component of ABS (Table 4): raw crops. Without any crops ABS takes the whole image."""
    feature: bool = True
    """Component of ABS (Table 4): feature crops."""
    soft: bool = True
    """Component of ABS (Table 4): soft matching."""
    expectation: bool = False
    """Exact expectation of the feature branch, times n, instead of n draws."""
    settle: Annotated[float | None, NOT_IN_KEY] = Field(default=None, gt=0, lt=1)
    """Probability, per image, with which the decision may differ from that of all n crops; an image
    that has settled is shown no more crops. None to embed n crops of every image. It is in the key
    of the embeddings that it shortens.
    """
    settle_at: Annotated[Literal["N", "expectation"], NOT_IN_KEY] = "N"
    """Decision that `settle` keeps: that of n crops, or that of infinitely many."""

    @field_validator("methods")
    @classmethod
    def _distinct(cls, methods: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if methods is not None and (len(set(methods)) != len(methods) or not methods):
            raise ValueError("expected one or more methods without repetition, or null for all")
        return methods

    def naming(self, methods: Iterable[str]) -> ScoresConfig:
        """Return a copy with these methods."""
        return self.model_copy(update={"methods": tuple(methods)})

    def for_scale(self, scale: float) -> ScoresConfig:
        """Return a copy with the logit scale of a checkpoint, where none is given."""
        given = self.logit_scale is not None
        return self if given else self.model_copy(update={"logit_scale": scale})

    @property
    def scale(self) -> float:
        """Logit scale of the CLIP in use; 100 where its checkpoint has not been looked at."""
        return 100.0 if self.logit_scale is None else self.logit_scale

    @property
    def scaled_temperature(self) -> float:
        """Divisor of cosines in soft matching, for the logit scale of the CLIP in use."""
        return self.temperature / (self.scale / 100.0)
