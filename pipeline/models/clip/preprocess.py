"""Preprocessing of a CLIP, read from its configuration: normalisation, filter and resize mode.

Checked before torch is imported: what is not supported is refused, never replaced by a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import ConfigError
from pipeline.kernels.resize_modes import KINDS, mode_parts

if TYPE_CHECKING:
    from pipeline.kernels.resize_taps import Filter

OPENAI: dict[str, Any] = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""OpenAI's preprocessing, which open_clip uses where a configuration says nothing."""

FILTERS: dict[str, Filter] = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}
"""Filter of each `interpolation` of open_clip; `random` is for training and bicubic otherwise."""

MODES = {"shortest": "shortest side", "longest": "longest side", "squash": "squashed"}
"""Words for each `resize_mode` of open_clip."""


@dataclass(frozen=True)
class ClipPreprocess:
    """Preprocessing of images after they are decoded, but for the side of the square."""

    mean: tuple[float, ...]
    """Mean of each channel, of pixels between 0 and 1."""
    std: tuple[float, ...]
    """Standard deviation of each channel."""
    interpolation: Filter
    """Filter of the resizing."""
    resize_mode: str
    """Way that an image becomes square: `shortest`, `longest` or `squash`, or one of transformers'
    (`pipeline.kernels.resize_modes`).
    """

    def __str__(self) -> str:
        """Describe it in words, as `mean 0.5 0.5 0.5, std 0.5 0.5 0.5, bicubic, squashed`."""
        if (self.mean, self.std) == (tuple(OPENAI["mean"]), tuple(OPENAI["std"])):
            numbers = "OpenAI mean and std"
        else:
            mean, std = (" ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
            numbers = f"mean {mean}, std {std}"
        kind, before = mode_parts(self.resize_mode)
        crop = f" to {before} pixels, centre cropped" if before else ""
        return f"{numbers}, {self.interpolation}, {MODES[kind]}{crop}"


def preprocess_of(name: str, config: Any) -> ClipPreprocess:
    """Check a preprocessing configuration in open_clip's format.

    Args:
        name: Name of the model, for errors.
        config: Mapping with `mean`, `std`, `interpolation`, `resize_mode`, each optional; or None.

    Raises:
        ConfigError: If the preprocessing is not supported; says why.
    """
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError(f"clip.model: {name} has a preprocess_cfg that is not a mapping")
    values = {**OPENAI, **{key: v for key, v in (config or {}).items() if v is not None}}
    choices: dict[str, Any] = {"interpolation": FILTERS, "resize_mode": KINDS, "mode": ["RGB"]}
    for field, known in choices.items():
        of_transformers = field == "resize_mode" and _is_mode(values[field])
        if field in values and values[field] not in list(known) and not of_transformers:
            raise ConfigError(
                f"clip.model: {name} has the preprocessing {field} {values[field]!r}; supported: "
                f"{', '.join(known)}"
            )
    for field in ("mean", "std"):
        if not _channels(values[field]) or (field == "std" and min(values[field]) <= 0):
            raise ConfigError(
                f"clip.model: {name} has the preprocessing {field} {values[field]!r}; expected "
                f"three {'positive ' if field == 'std' else ''}numbers up to 1"
            )
    return ClipPreprocess(
        tuple(map(float, values["mean"])),
        tuple(map(float, values["std"])),
        FILTERS[values["interpolation"]],
        values["resize_mode"],
    )


def unusual(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values that differ from OpenAI's preprocessing, as JSON types."""
    values = {key: (config or {}).get(key) for key in OPENAI}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    return {key: value for key, value in plain.items() if value not in (None, OPENAI[key])}


def _is_mode(value: Any) -> bool:
    """Return whether a value names a way to make an image square."""
    try:
        mode_parts(str(value))
    except ValueError:
        return False
    return True


def _channels(values: Any) -> bool:
    """Return whether a value is three numbers from -1 to 1, as for pixels from 0 to 1."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= 1 for v in values
        )
    )
