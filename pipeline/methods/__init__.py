"""Methods: ways to score. A method names the views and the text set it needs.

A further method is one file here and one line in `METHODS`.
"""

from __future__ import annotations

from pipeline.errors import ConfigError, closest
from pipeline.methods.needs import Needs

METHODS: dict[str, Needs] = {
    "clip": Needs("pipeline.methods.mean_text", views=("image",), texts="clip"),
    "cupl": Needs("pipeline.methods.mean_text", views=("image",), texts="cupl"),
    "abs": Needs("pipeline.methods.abs_soft", views=("feature", "raw"), texts="cupl"),
}


def needs_of(name: str) -> Needs:
    """What the method reads; ConfigError names those that exist."""
    if name not in METHODS:
        hint = closest(name, METHODS)
        raise ConfigError(f"scores.methods: unknown method {name!r}; {hint}")
    return METHODS[name]
