"""Rules that make the texts of the zero-shot baselines: templates, descriptors, Waffle's noise.

Each rule returns one list of texts per class, in the order of the class names. Results depend on
the arguments alone: there is no shared random state, and names are inserted verbatim, never
evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.texts.sets import SLOT, has_one_slot

OPENINGS: tuple[tuple[str, str], ...] = (
    ("a", "which is"),
    ("has", "which"),
    ("often", "which"),
    ("typically", "which"),
    ("may", "which"),
    ("can", "which"),
    ("used", "which is"),
)
"""(beginning of a descriptor, words that join it to the class name); the first match applies."""
DEFAULT_JOINT = "which has"
"""Words that join any other descriptor to the class name."""

EXCLUDED_CHARACTERS = frozenset(" ,.")
"""Characters of descriptors that Waffle does not draw."""


def fill_templates(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Fill every template with each class name: one list of texts per name.

    Other braces, also those in a name, are kept. ValueError for a template that does not have {}
    exactly once.
    """
    for template in templates:
        if not has_one_slot(template):
            raise ValueError(
                f"a template needs {SLOT} once, where the class name goes: {template!r}"
            )
    return [[template.replace(SLOT, name) for template in templates] for name in names]


def templated_texts(
    names: Sequence[str], template: str, sentences: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Put a template before each sentence of a class, and alone first: "a photo of a crow.".

    ValueError unless the template has {} once and there is one list of sentences per name.
    """
    openings = [f"{opening}." for (opening,) in fill_templates(names, [template])]
    return [
        [opening, *(f"{opening} {sentence}" for sentence in own)]
        for opening, own in zip(openings, sentences, strict=True)
    ]


def descriptor_clause(descriptor: str) -> str:
    """Turn a descriptor into a clause after a class name: "long legs" -> "which has long legs".

    Beginnings are compared by letters, not by words, as in CLIP-D's released code: "arched"
    begins with "a" and becomes "which is arched", "canine teeth" begins with "can".
    """
    for opening, joint in OPENINGS:
        if descriptor.startswith(opening):
            return f"{joint} {descriptor}"
    return f"{DEFAULT_JOINT} {descriptor}"


def is_sentence(text: str) -> bool:
    """Return whether a text begins with a capital letter, or ends with one of `.!?`."""
    text = text.strip()
    return text[:1].isupper() or text.endswith((".", "!", "?"))


def descriptor_texts(names: Sequence[str], descriptors: Sequence[Sequence[str]]) -> list[list[str]]:
    """Join each class name with each of its own descriptors: "crow, which is a black bird".

    ValueError unless there is one list of descriptors per name.
    """
    return [
        [f"{name}, {descriptor_clause(descriptor)}" for descriptor in own]
        for name, own in zip(names, descriptors, strict=True)
    ]


@dataclass(frozen=True)
class NoiseShape:
    """Shape of Waffle's noise, which follows numbers and lengths of words in the class names."""

    words: int
    """Random words in a text."""
    word_length: int
    """Characters after which random words are cut."""
    groups: int
    group_length: int
    """Characters in a group."""
    """Groups of random characters in a text."""

    @classmethod
    def of(cls, names: Sequence[str]) -> NoiseShape:
        """Return the shape for class names, halves rounded to even; ValueError without names."""
        if not names:
            raise ValueError("Waffle noise takes its lengths from class names, but none are given")
        lengths = [[len(word) for word in _with_spaces(name).split(" ")] for name in names]
        groups = _rounded_mean([len(words) - 1 for words in lengths]) + 1
        letters = math.ceil(np.mean([max(words) for words in lengths]))
        return cls(
            words=max(_rounded_mean([len(words) for words in lengths]), 1),
            word_length=_rounded_mean([float(np.mean(words)) for words in lengths]),
            groups=groups,
            group_length=letters // groups + 1,
        )


def _with_spaces(name: str) -> str:
    return name.replace("_", " ")


def _rounded_mean(values: Sequence[float]) -> int:
    return int(np.round(np.mean(values)))


def waffle_noise(
    names: Sequence[str],
    words: Sequence[str],
    letters: Iterable[str],
    pairs: int = 15,
    seed: int = 0,
) -> list[str]:
    """Draw 2 * `pairs` texts of noise: random words and random characters in turn.

    Their shape follows the class names. Characters are drawn uniformly from the distinct ones in
    `letters`, without spaces, commas and full stops. Fewer pairs are a prefix of more. ValueError
    without names, words or characters, or for fewer than one pair.
    """
    shape, characters = NoiseShape.of(names), sorted(set("".join(letters)) - EXCLUDED_CHARACTERS)
    if not words or not characters or pairs < 1:
        missing = "at least one pair" if pairs < 1 else "words" if not words else "letters"
        raise ValueError(f"Waffle noise needs {missing}")
    generator = np.random.Generator(np.random.Philox(seed))
    noise = []
    for _ in range(pairs):
        noise.append(_random_words(generator, words, shape))
        noise.append(_random_characters(generator, characters, shape))
    return noise


def _random_words(rng: np.random.Generator, words: Sequence[str], shape: NoiseShape) -> str:
    return " ".join(word[: shape.word_length] for word in _draw(rng, words, shape.words))


def _random_characters(
    rng: np.random.Generator, characters: Sequence[str], shape: NoiseShape
) -> str:
    drawn = [_draw(rng, characters, shape.group_length) for _ in range(shape.groups)]
    return ", ".join("".join(group) for group in drawn)


def _draw(rng: np.random.Generator, items: Sequence[str], count: int) -> list[str]:
    indices = (rng.random(count) * len(items)).astype(np.int64)
    return [items[index] for index in indices]


def waffle_texts(
    names: Sequence[str],
    words: Sequence[str],
    letters: Iterable[str],
    pairs: int = 15,
    seed: int = 0,
) -> list[list[str]]:
    """Draw noise and join it with every class: "A photo of a crow, which has tablz gone.".

    All classes have the same noise. ValueError as in `waffle_noise`.
    """
    return noise_texts(names, waffle_noise(names, words, letters, pairs, seed))


def noise_texts(names: Sequence[str], noise: Sequence[str]) -> list[list[str]]:
    """Join every class name with the same noise; underscores in names become spaces."""
    clauses = [descriptor_clause(text) for text in noise]
    return [
        [f"A photo of a {_with_spaces(name)}, {clause}." for clause in clauses] for name in names
    ]
