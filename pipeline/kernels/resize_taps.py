"""Pillow's resizing weights: the input pixels and weights that each output pixel is a sum of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

Filter = Literal["bilinear", "bicubic"]
"""Pillow's resampling filters that CLIP's preprocessing uses; antialiased when an image shrinks."""


BITS = 22
"""Fractional bits of Pillow's fixed-point weights, which are whole multiples of 2^-22."""


class Taps(NamedTuple):
    """Inputs and weights of m outputs along one axis, for n boxes."""

    first: np.ndarray
    """First input of each output, int64 (n, m); 0 for the first output."""
    last: np.ndarray
    """End of the inputs of each output, excluded, int64 (n, m)."""
    weights: np.ndarray
    """Weights of the inputs in units of 2^-22, int32 (n, m, taps); zero past the last input."""


@dataclass(frozen=True)
class Crops:
    """Inputs and weights to crop and resize n boxes."""

    corners: np.ndarray
    """x and y of the first pixel that is read, int64 (n, 2); taps count their inputs from it."""
    x: Taps
    """Taps of the horizontal pass."""
    y: Taps
    """Taps of the vertical pass."""
    columns_first: np.ndarray
    """True where the vertical pass comes first, bool (n,)."""


def _taps(
    sizes: np.ndarray, lengths: np.ndarray, outputs: np.ndarray, kind: Filter
) -> tuple[np.ndarray, Taps]:
    """Compute the taps that resize `sizes` pixels, (n,), to `lengths`, (n,), at `outputs`, (n, m).

    Outputs below 0 or from the length on are black. Operations are in Pillow's order: in another
    one, float64 would round some results differently.

    Returns:
        First input that is read, int64 (n,).
        Taps, with inputs counted from there.
    """
    sizes, lengths = sizes[:, None], lengths[:, None]
    places = outputs.clip(0, lengths - 1)
    stretch = np.maximum(sizes / lengths, 1.0)
    centers, first, last = inputs_of(sizes, lengths, places, kind)
    inputs = first + np.arange((last - first).max())[:, None, None]
    values = _filtered((inputs - centers + 0.5) * (1.0 / stretch), kind)
    values *= inputs < last
    values /= sum(values)  # in Pillow's order of addition, unlike numpy's sum
    whole = np.trunc(values * 2.0**BITS + np.copysign(0.5, values)) * (places == outputs)
    weights = np.moveaxis(whole, 0, -1).astype(np.int32, order="C")
    return first[:, 0], Taps(first - first[:, :1], last - first[:, :1], weights)


def inputs_of(
    sizes: np.ndarray, lengths: np.ndarray, places: np.ndarray, kind: Filter
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute which inputs an output is a sum of; arguments broadcast.

    Args:
        sizes: Numbers of inputs.
        lengths: Numbers of outputs.
        places: Outputs, from 0 to the length - 1.
        kind: Filter.

    Returns:
        Center of the inputs, float64; first input and end of the inputs, int64.
    """
    scale = sizes / lengths
    reach = np.maximum(scale, 1.0) * (2.0 if kind == "bicubic" else 1.0)
    centers = (places + 0.5) * scale
    first = np.maximum((centers - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centers + reach + 0.5).astype(np.int64), sizes)
    return centers, first, last


def _filtered(x: np.ndarray, kind: Filter) -> np.ndarray:
    """Evaluate the filter; its support is 2 for bicubic and 1 for bilinear."""
    x = np.minimum(np.abs(x), 2.0)
    if kind == "bilinear":
        return np.asarray(np.maximum(1.0 - x, 0.0))
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return np.asarray(np.where(x < 1.0, inner, outer))
