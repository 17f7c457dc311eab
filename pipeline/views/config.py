"""Settings of view sets: the crops of an image that CLIP sees besides the whole image.

A view set is one way to make views. Its stage writes a table with the same number of rows for every
image; the views are embedded unit by unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from pipeline.core.errors import ConfigError
from pipeline.core.section import MAX_SEED, NOT_IN_KEY, Section
from pipeline.kernels.prompt_names import FeaturePrompt, RawPrompt

if TYPE_CHECKING:
    from pipeline.kernels.geometry import View
    from pipeline.models.attention.sources import AttentionSource
    from pipeline.models.clip.source import ClipSource

ENDS = ("left", "top", "right", "bottom")
"""Ends of a box or window, in the order of its columns."""
BOX = [f"box_{end}" for end in ENDS]
"""Columns of a half-open box in pixels."""
FLIPPED_BOX = [*BOX, "flip"]
"""Columns of a box whose crop is flipped left to right where `flip` is 1."""
WINDOW = [f"window_{end}" for end in ENDS]
"""Columns of a half-open window in tokens."""


class _Sizes(Section):
    """Range of a crop's side, as shares of the image's or the grid's side."""

    alpha: float = Field(default=0.5, gt=0, le=1)
    """Smallest side of a crop."""
    beta: float = Field(default=0.9, gt=0, le=1)
    """Largest side of a crop."""

    @model_validator(mode="after")
    def _ordered(self) -> _Sizes:
        if self.alpha > self.beta:
            raise ValueError(f"alpha {self.alpha} is larger than beta {self.beta}")
        return self


class CropsConfig(_Sizes):
    """Settings that draw attention-guided crops (section 3.2 of the paper)."""

    layer: int = -1
    """Layer of the attention model whose attention is used; negative ones count from the end."""
    k: int = Field(default=20, ge=1)
    """Patches of highest attention that crops are drawn from (Eq. 4)."""
    share: Annotated[float | None, NOT_IN_KEY] = Field(default=None, gt=0, le=1)
    """K as a share of all patches, so that grids of other sizes compare: it takes the place of `k`
    and `windows.k`; None for these.
    """
    temperature: float = Field(default=0.03, ge=1e-6)
    """Divisor of the attention in the softmax over patches (Eq. 5)."""
    sizes: Literal["integer", "ratio"] = "integer"
    """Rule for a side s of the image: `integer`, a whole number of pixels from int(alpha s) to
    int(beta s); `ratio`, any share of s in [alpha, beta).
    """
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the draws."""


class WindowsConfig(Section):
    """Settings that derive feature crops from a patch (section 3.3 of the paper)."""

    draws: Literal["independent", "joint"] = "independent"
    """`independent`: feature crops have draws of their own; `joint`: they use those of the raw
    crops.
    """
    shape: Literal["square", "ratio", "box"] = "square"
    """`square`: 2 (s // 2) + 1 tokens along a side; `ratio`: the crop's share of width and height
    (Eq. 7); `box`: the tokens that its box covers.
    """
    index: Literal["corner", "nearest", "exact"] = "corner"
    """Position of a patch on the token grid: the token at its corner, the token nearest to its
    centre, or exactly its centre.
    """
    view: Literal["whole", "clip"] = "whole"
    """Part of the image that CLIP's tokens are taken to show: the whole of it, or what CLIP's
    preprocessing shows.
    """
    k: int | None = Field(default=None, ge=1)
    """Top patches that independent draws of feature crops use; None for as many as raw crops use.
    Joint draws use the patches of the raw crops.
    """
    encode: Annotated[Literal["all", "drawn"], NOT_IN_KEY] = "drawn"
    """`all`: embed every square that can be drawn, so that another seed, N or temperature needs no
    new embedding and expectations are exact. `drawn`: embed only the windows that were drawn.
    Shapes other than squares have too many outcomes, and only drawn windows are embedded.
    """

    def top(self, crops: CropsConfig) -> int:
        """Return the number of top patches that feature crops are drawn from."""
        return crops.k if self.draws == "joint" or self.k is None else self.k


def of_share(
    crops: CropsConfig, windows: WindowsConfig, source: AttentionSource
) -> tuple[CropsConfig, WindowsConfig]:
    """Return the settings with a share of patches as their number, rounded.

    Raises:
        ConfigError: If the number of patches is known to the loaded model alone.
    """
    if crops.share is None:
        return crops, windows
    if source.shape is None:
        raise ConfigError("crops.share: the attention model's grid is not known; give crops.k")
    k = max(1, round(crops.share * source.shape[1] ** 2))
    return crops.model_copy(update={"k": k}), windows.model_copy(update={"k": None})


class SquaresConfig(_Sizes):
    """Settings that draw random squares (WCA)."""

    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the draws."""


class AugmentedConfig(Section):
    """Settings that draw resized crops with flips, as test-time augmentation does (TPT, ZERO)."""

    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the draws."""


class WindowSpace(_Sizes):
    """All windows that can be drawn, whatever the seed and temperature."""

    layer: int
    """Layer of the attention model."""
    k: int
    """Top patches that windows are drawn around."""
    index: str
    """Position of a patch on the token grid, as in `WindowsConfig`."""

    @classmethod
    def of(cls, crops: CropsConfig, windows: WindowsConfig) -> list[WindowSpace]:
        """Return the space of windows, or no space unless all of its windows are to be embedded."""
        if windows.encode == "drawn" or windows.shape != "square":
            return []
        bounds = {"alpha": crops.alpha, "beta": crops.beta}
        return [cls(layer=crops.layer, k=windows.top(crops), index=windows.index, **bounds)]

    def sizes(self, grid: int) -> int:
        """Return the number of sizes that a window can have."""
        from pipeline.kernels.draws import window_sizes

        return len(window_sizes(grid, self.alpha, self.beta))


class TokenGrid(Section):
    """CLIP's token grid, and the part of an image that it covers."""

    tokens: int
    """Tokens along a side."""
    pixels: int
    """Pixels along a side of the image after CLIP's resizing that the grid covers."""
    mode: str
    """open_clip's `resize_mode`; `squash` if the grid covers the whole image."""

    @classmethod
    def of(cls, clip: ClipSource, view: str) -> TokenGrid:
        """Return the grid of a CLIP; `view` as in `WindowsConfig`."""
        if view == "whole":
            return cls(tokens=clip.grid, pixels=clip.grid, mode="squash")
        return cls(tokens=clip.grid, pixels=clip.image_size, mode=clip.resize_mode)

    def view(self, width: int, height: int) -> View:
        """Return the part of an image of this size, in pixels, that the grid covers."""
        from pipeline.kernels.geometry import clip_view

        return clip_view(width, height, self.pixels, self.mode)


class RawConfig(Section):
    """Visual prompt that shows CLIP a box of the image (Table 5, raw space)."""

    prompt: RawPrompt = "crop"
    brightness: float = Field(default=1.5, gt=0, le=100)
    """Factor on the pixels of the box, for `highlight`."""
    thickness: float = Field(default=0.02, gt=0, le=0.5)
    """Line width as a share of the image's shorter side, for `redcircle`."""


class FeatureConfig(Section):
    """Visual prompt that shows CLIP a window of its tokens (Tables 5 and 7)."""

    layer: int = -1
    """Layer of CLIP that windows enter: a block, or behind them a pooling by attention; negative
    ones count from the last.
    """
    prompt: FeaturePrompt = "crop"
    gain: float = Field(default=2.0, gt=0, le=1e4)
    """Factor on the window's tokens for `highlight-fea`, on its attention for `highlight-attn`."""
