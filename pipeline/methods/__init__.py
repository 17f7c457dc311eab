"""Methods: ways to score. A method names the text sets and views that it reads.

A further method is one file here and one line in `METHODS`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import ConfigError, closest
from pipeline.methods.attention_based import Abs
from pipeline.methods.base import Matching, Method
from pipeline.methods.cross_aligned import Wca
from pipeline.methods.mean_text import Clip, ClipD, ClipE, Cupl, Waffle
from pipeline.views import VIEWS

METHODS: dict[str, type[Method]] = {
    "clip": Clip,
    "clip-e": ClipE,
    "clip-d": ClipD,
    "waffle": Waffle,
    "cupl": Cupl,
    "wca": Wca,
    "abs": Abs,
}


def method_of(name: str) -> type[Method]:
    """The method of that name; ConfigError names those that exist."""
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; {closest(name, METHODS)}")
    return METHODS[name]


def views_read(methods: Iterable[Method], matching: Matching) -> dict[str, int]:
    """The views that any of the methods reads, and how many of each."""
    views: dict[str, int] = {}
    for method in methods:
        for name, count in method.views(matching).items():
            if name not in VIEWS:
                raise ConfigError(f"{type(method).__name__} reads {name!r}; {closest(name, VIEWS)}")
            views[name] = max(count, views.get(name, 0))
    return views
