"""Demands of methods on the texts, models and views of a run, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.methods.base import MOST_PROMPTS, Method
from pipeline.methods.config import ScoresConfig


def refuse_learned_prompts(methods: Mapping[str, Method], texts: Any, competing: int) -> None:
    """Raise ConfigError if a method that learns prompts cannot do so.

    Args:
        methods: Methods by name.
        texts: Stages of the text sets, by name.
        competing: Number of competing classes.
    """
    learning = [name for name, method in methods.items() if method.learns_prompts]
    if learning and competing > MOST_PROMPTS:
        raise ConfigError(
            f"scores.methods: {learning[0]} learns prompts for each image, of at most "
            f"{MOST_PROMPTS} classes and not {competing}; leave it out, or import its "
            "authors' results (abs import-scores)"
        )
    for name in learning:
        (read,) = methods[name].texts
        stage = texts[read]
        prompts = getattr(stage, "prompts", None)
        if prompts is None or any(len(own) > 1 for own in prompts.texts):
            raise ConfigError(
                f"descriptions.{read}: {name} learns one prompt of a class; give one template"
            )
        if not stage.clip.learns_context:
            raise ConfigError(
                f"clip.model: {name} learns prompts, and the text encoder of {stage.clip.name} "
                "is not CLIP's own; leave it out of scores.methods"
            )


def refuse_several_vectors(
    methods: Mapping[str, Method], config: ScoresConfig, queries: int
) -> None:
    """Raise ConfigError if a view is `queries` > 1 vectors and a method takes one of each view."""
    single = [n for n, m in methods.items() if m.views(config) and not m.of_sets]
    if queries > 1 and single:
        raise ConfigError(
            f"scores.methods: {single[0]} takes one vector of a view, and this model gives "
            f"{queries}; leave it out, or set clip.queries=mean (an approximation)"
        )


def refuse_expectation(
    methods: Mapping[str, Method], config: ScoresConfig, all_windows: bool
) -> None:
    """Raise ConfigError if an expectation is wanted and a method or the windows do not have it.

    Args:
        methods: Methods by name.
        config: Settings of scores.
        all_windows: True unless feature crops are read of which only those drawn are embedded.
    """
    if not config.expectation:
        return
    drawing = [name for name, method in methods.items() if not method.weighted]
    reading = [name for name in drawing if "feature" in methods[name].views(config)]
    if reading:
        raise ConfigError(
            f"scores.expectation: {reading[0]} has none, since it counts single feature crops; "
            "set scores.expectation=false, or leave it out of scores.methods"
        )
    if not all_windows:
        raise ConfigError(
            "scores.expectation: needs every window that can be drawn; "
            "set windows.shape=square and windows.encode=all"
        )
