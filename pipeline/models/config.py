"""Settings of the sections `clip` and `attention`: models, weights and precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pipeline.core.section import NOT_IN_KEY, Section
from pipeline.models.precision import Choice

RANDOM = "random:"
"""Prefix of a seed for random weights, or for random attention."""

FILES = "files:"
"""Prefix of a folder or table of attention maps."""

LEAST_SCALE, MOST_SCALE = 1e-3, 1e6
"""Limits of a CLIP's logit scale."""


class ClipConfig(Section):
    """Settings that choose the CLIP."""

    model: Annotated[str, NOT_IN_KEY]
    """Name of an open_clip architecture, `local-dir:FOLDER` or `hf-hub:OWNER/NAME`."""
    weights: Annotated[str | None, NOT_IN_KEY] = "openai"
    """Tag of open_clip, file, or `random:SEED`; None where the model has its own weights."""
    precision: Annotated[Choice, NOT_IN_KEY] = "float32"
    """Precision of the encoders; `auto` is replaced by the best one for the device. Part of the
    identity.
    """
    queries: Annotated[Literal["max", "mean"], NOT_IN_KEY] = "max"
    """Treatment of several vectors of a view, as BLIP-2 gives them: `max` keeps all, and the most
    similar one counts for each text; `mean` keeps their mean, an approximation with a fraction of
    the storage. Part of the identity.
    """


class VitConfig(Section):
    """Settings that choose the source of attention."""

    model: Annotated[str, NOT_IN_KEY]
    """Name of a timm architecture, `local-dir:FOLDER`, `hf-hub:OWNER/NAME`, `clip` for the CLIP of
    the run, `random`, or `files:PLACE` for maps of your own.
    """
    weights: Annotated[str | None, NOT_IN_KEY] = "pretrained"
    """`pretrained`, file, or `random:SEED`; None where the model has its own weights."""
    precision: Annotated[Choice, NOT_IN_KEY] = "float32"
    """Precision of the model; `auto` as for CLIP."""
