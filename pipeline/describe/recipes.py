"""Recipes: what a language model is asked about each class, and what is taken from its answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from pipeline.core.errors import ConfigError
from pipeline.core.layers import layer, merge, parse_override
from pipeline.core.section import MAX_SEED, Section

CLASS, ABOUT = "{class}", "{about}"
"""Places of the name of the class, and of the sentence about the dataset."""


class Questions(Section):
    """First step of a recipe of two: the model writes the prompts of the second one."""

    system: str = ""
    prompt: str
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int = Field(default=600, ge=1)


class Recipe(Section):
    """Prompts, settings of the model, and rules for its answers."""

    rule: Literal["sentences", "descriptors"]
    """Rule of the text set that the texts are meant for."""
    take: Literal["first", "sentences", "list"]
    """Content of an answer: a sentence, several, or a list of features."""
    questions: Questions | None = None
    """First step, which makes the prompts; None if they are given."""
    system: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    """Pairs of a prompt and its answer that go before the prompt."""
    prompts: tuple[str, ...] = ()
    """Prompts, with {class} in place of the name of the class."""
    samples: int = Field(default=1, ge=1, le=1000)
    """Answers to each prompt, with the seeds `seed`, `seed` + 1 and so on."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    temperature: float | None = Field(default=None, ge=0, le=2)
    """None: not sent, for models that accept only their own."""
    max_tokens: int = Field(default=200, ge=1)
    """Most tokens of an answer; a model that reasons needs some for that."""
    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of that limit in requests; newer hosted models take the second one only."""
    named: bool = False
    """True if a text must name its class."""
    least: int = Field(default=1, ge=1)
    """Fewest characters of a text."""
    most: int = Field(default=50, ge=1)
    """Most texts of a class; the first are kept."""

    @model_validator(mode="after")
    def _has_prompts(self) -> Recipe:
        if bool(self.prompts) == bool(self.questions):
            raise ValueError("give either prompts or questions")
        if wrong := [prompt for prompt in self.prompts if CLASS not in prompt]:
            raise ValueError(f"the prompt {wrong[0]!r} has no {CLASS}")
        return self

    @property
    def needs_about(self) -> bool:
        """Return whether a prompt speaks of the dataset."""
        first = (self.questions.system, self.questions.prompt) if self.questions else ()
        return any(ABOUT in text for text in (self.system, *self.prompts, *first))


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Return a recipe by its name in `cfgs/recipes` or its YAML file, with `field=value` changes.

    ConfigError for anything that is no recipe.
    """
    changes: Mapping[str, Any] = reduce(merge, map(parse_override, overrides), {})
    try:
        return Recipe.model_validate(merge(layer("recipes", name), changes))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (f"recipe {name}", *first["loc"])))
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {message[:1].lower()}{message[1:]}") from None
