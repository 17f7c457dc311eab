"""The 24 test species, held out from training, and their texts.

Six genera of four species. Species of a genus share the attribute that its name states and differ
in others. A name states two attributes, so the name of a class alone does not determine the bird.
Training birds differ from every test species in more than `DISTANCE` attributes, and no training
caption contains the name of a test species.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.demo.attributes import (
    ATTRIBUTES,
    PARTS,
    Bird,
    Statement,
    differences,
    part_of,
    random_bird,
)
from pipeline.demo.phrases import (
    GENERA,
    Name,
    noun_phrase,
    one_part_sentence,
    part_statements,
    possible_names,
)

SEED = 2025
TEST_GENERA = ("shortbill", "longbill", "hookbill", "longshank", "fantail", "forktail")
SPECIES_PER_GENUS = 4
REDRAWN = 5
"""Number of attributes that a species draws anew, starting from the common form of its genus."""
DISTANCE = 2
"""Largest number of differing attributes at which two birds still count as too similar."""
DESCRIPTIONS = 16
"""Number of descriptions of a class."""
WRONG_SHARE = 0.25
"""Share of wrong sentences in `cupl.json`."""
DESCRIPTORS = (6, 8)
"""Smallest and largest number of descriptors of a class."""


@dataclass(frozen=True)
class Species:
    """A test class: its name, and the attributes of its birds."""

    name: Name
    bird: Bird


@cache
def species() -> tuple[Species, ...]:
    """Return the test species, in order of genus; names and birds are distinct."""
    rng = np.random.default_rng(SEED)
    return tuple(drawn_species(rng, dict.fromkeys(TEST_GENERA, SPECIES_PER_GENUS)))


def drawn_species(
    rng: np.random.Generator, genera: Mapping[str, int], redrawn: int = REDRAWN
) -> list[Species]:
    """Draw distinct species, genus after genus.

    Args:
        rng: Random generator.
        genera: Number of species of each genus.
        redrawn: Number of attributes that a species draws anew; fewer make more similar species.
    """
    chosen: list[Species] = []
    for genus, count in genera.items():
        attribute, value = GENERA[genus]
        common = random_bird(rng) | {attribute: value}
        full = len(chosen) + count
        while len(chosen) < full:
            candidate = _species(rng, genus, common, redrawn)
            if _is_new(candidate, chosen):
                chosen.append(candidate)
    return chosen


def _species(rng: np.random.Generator, genus: str, common: Bird, redrawn: int) -> Species:
    free = [name for name in ATTRIBUTES if name != GENERA[genus][0]]
    bird = dict(common)
    for name in rng.choice(free, redrawn, replace=False):
        bird[name] = str(rng.choice(ATTRIBUTES[name]))
    names = [name for name in possible_names(bird) if name.text.endswith(genus)]
    return Species(names[int(rng.integers(len(names)))], bird)


def _is_new(candidate: Species, chosen: list[Species]) -> bool:
    return all(
        other.name.text != candidate.name.text
        and differences(other.bird, candidate.bird) > DISTANCE
        for other in chosen
    )


@cache
def reserved_names() -> frozenset[str]:
    """Return the names of the test species, which no training caption may contain."""
    return frozenset(one.name.text for one in species())


def training_bird(rng: np.random.Generator) -> Bird:
    """Draw a bird that differs from every test species in more than `DISTANCE` attributes."""
    while True:
        bird = random_bird(rng)
        if all(differences(bird, one.bird) > DISTANCE for one in species()):
            return bird


def descriptions(wrong_share: float) -> dict[str, list[str]]:
    """Write `DESCRIPTIONS` one-part sentences for each test species; `wrong_share` are wrong."""
    return descriptions_of(species(), wrong_share, SEED)


def descriptions_of(of: Sequence[Species], wrong_share: float, seed: int) -> dict[str, list[str]]:
    """Write `DESCRIPTIONS` one-part sentences for each species; exactly `wrong_share` are wrong.

    A wrong sentence has the name of its class and the part of a random other bird, like a mistake
    of a language model. The correct sentences are the same for every share.
    """
    total = len(of) * DESCRIPTIONS
    wrong = set(
        np.random.default_rng(seed + 1).permutation(total)[: round(wrong_share * total)].tolist()
    )
    sentences: dict[str, list[str]] = {}
    for index, one in enumerate(of):
        topics = _topics(np.random.default_rng([seed + 2, index]), one.bird)
        first = index * DESCRIPTIONS
        sentences[one.name.text] = [
            _description(seed, first + i, one, topic, first + i in wrong)
            for i, topic in enumerate(topics)
        ]
    return sentences


def _topics(rng: np.random.Generator, bird: Bird) -> list[tuple[Statement, ...]]:
    """Draw `DESCRIPTIONS` of the statements that one-part sentences can make about a bird."""
    topics = part_statements(bird)
    return [topics[i] for i in sorted(rng.choice(len(topics), DESCRIPTIONS, replace=False))]


def _description(
    seed: int, index: int, one: Species, statements: tuple[Statement, ...], wrong: bool
) -> str:
    rng = np.random.default_rng([seed + 3, index])
    if wrong:
        statements = wrong_statements(np.random.default_rng([seed + 4, index]), statements)
    sentence = one_part_sentence(rng, one.name, statements)
    return sentence[0].upper() + sentence[1:]


def wrong_statements(
    rng: np.random.Generator, statements: tuple[Statement, ...]
) -> tuple[Statement, ...]:
    """Replace the values by those of a random other bird that differs in at least one of them."""
    while True:
        other = random_bird(rng)
        replaced = tuple((name, other[name]) for name, _ in statements)
        if replaced != statements:
            return replaced


def descriptors() -> dict[str, list[str]]:
    """Write short phrases for each class, each about a different part: "a white head", "no crest".

    All of them are correct.
    """
    return {
        one.name.text: _descriptors(np.random.default_rng([SEED + 5, index]), one.bird)
        for index, one in enumerate(species())
    }


def _descriptors(rng: np.random.Generator, bird: Bird) -> list[str]:
    count = int(rng.integers(DESCRIPTORS[0], DESCRIPTORS[1], endpoint=True))
    parts = [PARTS[i] for i in sorted(rng.choice(len(PARTS), count, replace=False))]
    topics = [
        [topic for topic in part_statements(bird) if part_of(topic[0][0]) == part] for part in parts
    ]
    return [noun_phrase(of_part[int(rng.integers(len(of_part)))]) for of_part in topics]
