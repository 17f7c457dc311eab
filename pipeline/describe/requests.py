"""Requests to a language model, each known by a digest of all that decides its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.core.hashing import digest
from pipeline.describe.recipes import ABOUT, CLASS, Recipe

CHARACTERS = 4
"""Characters of English in a token, for estimates."""


@dataclass(frozen=True)
class Request:
    """One question to a model."""

    model: str
    """Name of the model, as the endpoint knows it."""
    label: str
    """Name of the class; empty for a question about the dataset."""
    messages: tuple[tuple[str, str], ...]
    """(role, text) of each message."""
    seed: int
    temperature: float | None
    max_tokens: int
    token_field: str

    @cached_property
    def key(self) -> str:
        """Digest of the request; where the endpoint is and what is kept do not count."""
        return digest({**self.body, "class": self.label})

    @property
    def body(self) -> dict[str, Any]:
        """Content of the request, as JSON types."""
        sent: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": role, "content": text} for role, text in self.messages],
            "seed": self.seed,
            self.token_field: self.max_tokens,
        }
        return sent if self.temperature is None else sent | {"temperature": self.temperature}

    @property
    def prompt(self) -> str:
        """All messages as one text."""
        return "\n\n".join(text for _, text in self.messages)

    @property
    def tokens(self) -> int:
        """Estimate of the tokens of the prompt."""
        return -(-sum(len(text) for _, text in self.messages) // CHARACTERS)


def question_request(recipe: Recipe, model: str, about: str) -> Request | None:
    """Return the request of a recipe's first step; None if it has only one step."""
    if recipe.needs_about and not about.strip():
        raise ConfigError(f"the recipe speaks of the dataset ({ABOUT}): give --about SENTENCE")
    first = recipe.questions
    if first is None:
        return None
    texts = [("system", first.system), ("user", first.prompt)]
    messages = tuple((role, text.replace(ABOUT, about)) for role, text in texts if text)
    common = first.temperature, first.max_tokens, recipe.token_field
    return Request(model, "", messages, recipe.seed, *common)


def class_requests(
    recipe: Recipe, model: str, about: str, prompts: Sequence[str], names: Sequence[str]
) -> Iterator[Request]:
    """Yield the requests of all classes: by class, prompt and sample."""
    before = [("system", recipe.system)] if recipe.system else []
    for prompt, answer in recipe.examples:
        before += [("user", prompt), ("assistant", answer)]
    common = recipe.temperature, recipe.max_tokens, recipe.token_field
    for name in dict.fromkeys(names):
        for prompt in prompts:
            texts = [*before, ("user", prompt.replace(CLASS, name))]
            messages = tuple((role, text.replace(ABOUT, about)) for role, text in texts)
            for sample in range(recipe.samples):
                yield Request(model, name, messages, recipe.seed + sample, *common)
