"""Views: what CLIP sees of an image besides the whole of it, and the settings that decide it.

A view set is one way to make views. Its stage writes a table with the same number of rows for
every image, and is embedded unit by unit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config import MAX_SEED, RUNTIME, Section, leaves
from pipeline.stage import Stage

if TYPE_CHECKING:
    from pipeline.kernels.geometry import View
    from pipeline.models.sources import ClipSource
    from pipeline.settings import Settings
    from pipeline.store import Store

VIEWS = ("image", "raw", "feature", "squares")
"""What methods may read: the whole image, and what each view set is embedded as."""
ENDS = ("left", "top", "right", "bottom")
BOX = [f"box_{end}" for end in ENDS]
"""Columns of a box in pixels, half-open."""
WINDOW = [f"window_{end}" for end in ENDS]
"""Columns of a window in tokens, half-open."""


@dataclass(frozen=True)
class ViewSet(Stage):
    """A stage that writes a table of views."""

    common: ClassVar[tuple[str, ...]] = ()
    """Settings, by dotted name, in which two of a kind must agree to have views in common, unit by
    unit."""

    def alike(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Their values in an identity."""
        known = dict(leaves(identity.get("config", {}), ""))
        return {name: known.get(name) for name in self.common}

    @abstractmethod
    def shape(self, store: Store) -> tuple[int, int]:
        """Views of an image that the units hold, and of these in one unit."""


class _Sizes(Section):
    """Between which shares of a side crops lie."""

    alpha: float = Field(default=0.5, gt=0, le=1)
    beta: float = Field(default=0.9, gt=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> _Sizes:
        if self.alpha > self.beta:
            raise ValueError(f"alpha {self.alpha} is larger than beta {self.beta}")
        return self


class CropsConfig(_Sizes):
    """How attention-guided crops are drawn (section 3.2 of the paper)."""

    layer: int = -1
    """Whose attention: a layer of the attention model, negative ones from the end."""
    k: int = Field(default=20, ge=1)
    temperature: float = Field(default=0.03, ge=1e-6)
    sizes: Literal["integer", "ratio"] = "integer"
    """A side is an integer from int(alpha s) to int(beta s), or a share from [alpha, beta) of s."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)


class WindowsConfig(Section):
    """How feature crops follow from a patch (section 3.3 of the paper)."""

    draws: Literal["independent", "joint"] = "independent"
    """Whether feature crops have draws of their own, or those of the raw crops."""
    shape: Literal["square", "ratio", "box"] = "square"
    """A square of 2 (s // 2) + 1 tokens; the crop's share of width and height (Eq. 7); or the
    tokens that its box covers."""
    index: Literal["corner", "nearest", "exact"] = "corner"
    """A patch is the token at its corner, that nearest to its centre, or its centre itself."""
    view: Literal["whole", "clip"] = "whole"
    """Whether CLIP's tokens are taken to show the whole image, or what its preprocessing leaves."""
    k: int | None = Field(default=None, ge=1)
    """Of independent draws: the top patches of feature crops, None for as many as raw crops have.
    Joint draws have the raw crops' patches."""
    encode: Annotated[Literal["all", "drawn"], RUNTIME] = "drawn"
    """Whether every square that can be drawn is embedded, so that another seed, N or temperature
    needs no other and expectations are exact, or only those that were drawn. Other shapes have too
    many outcomes; of them only those that were drawn are embedded."""

    def top(self, crops: CropsConfig) -> int:
        """How many patches feature crops are drawn from."""
        return crops.k if self.draws == "joint" or self.k is None else self.k


class SquaresConfig(_Sizes):
    """How random squares are drawn (WCA)."""

    seed: int = Field(default=0, ge=0, le=MAX_SEED)


class WindowSpace(_Sizes):
    """All that decides which windows there can be, whatever is drawn."""

    layer: int
    k: int
    index: str

    @classmethod
    def of(cls, settings: Settings) -> list[WindowSpace]:
        """The space, if all of it is to be embedded."""
        crops, windows = settings.crops, settings.windows
        if windows.encode == "drawn" or windows.shape != "square":
            return []
        bounds = {"alpha": crops.alpha, "beta": crops.beta}
        return [cls(layer=crops.layer, k=windows.top(crops), index=windows.index, **bounds)]

    def sizes(self, grid: int) -> int:
        """How many sizes a window can have."""
        from pipeline.kernels.draws import window_sizes

        return len(window_sizes(grid, self.alpha, self.beta))


class TokenGrid(Section):
    """CLIP's tokens along a side, and what of an image they show: `pixels` of it along a side
    after CLIP's own resizing (`mode`), or the whole of it (`squash`)."""

    tokens: int
    pixels: int
    mode: str

    @classmethod
    def of(cls, clip: ClipSource, view: str) -> TokenGrid:
        """Of a CLIP; `view` as in `WindowsConfig`."""
        if view == "whole":
            return cls(tokens=clip.grid, pixels=clip.grid, mode="squash")
        return cls(tokens=clip.grid, pixels=clip.image_size, mode=clip.resize_mode)

    def view(self, width: int, height: int) -> View:
        """What CLIP sees of an image of that size."""
        from pipeline.kernels.geometry import clip_view

        return clip_view(width, height, self.pixels, self.mode)
