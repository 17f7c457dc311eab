"""The species of the test: twenty-four birds that training never draws, and what is said of them.

Six genera of four species. Species of a genus share what its name says and differ elsewhere; a name
tells two attributes, so that a class's name alone does not settle what it is. Training keeps its
distance: no bird it draws is within `DISTANCE` attributes of a test species, and no caption it
reads bears a test species' name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.demo.attributes import (
    ATTRIBUTES,
    PARTS,
    Bird,
    Claim,
    differences,
    part_of,
    random_bird,
)
from pipeline.demo.phrases import (
    GENERA,
    Name,
    noun_phrase,
    one_part_sentence,
    part_claims,
    possible_names,
)

SEED = 2025
TEST_GENERA = ("shortbill", "longbill", "hookbill", "longshank", "fantail", "forktail")
SPECIES_PER_GENUS = 4
REDRAWN = 5
"""How many attributes a species redraws from its genus's common form."""
DISTANCE = 2
DESCRIPTIONS = 16
WRONG_SHARE = 0.25
DESCRIPTORS = (6, 8)
"""The fewest and the most parts that descriptors tell of."""


@dataclass(frozen=True)
class Species:
    """A class of the test: its name and its one bird."""

    name: Name
    bird: Bird


@cache
def species() -> tuple[Species, ...]:
    """The test's species, in order of genus; names and birds are distinct."""
    rng = np.random.default_rng(SEED)
    found: list[Species] = []
    for genus in TEST_GENERA:
        said, value = GENERA[genus]
        common = random_bird(rng) | {said: value}
        while (
            len(found) % SPECIES_PER_GENUS or not found or not found[-1].name.text.endswith(genus)
        ):
            candidate = _species(rng, genus, common)
            if _is_new(candidate, found):
                found.append(candidate)
    return tuple(found)


def _species(rng: np.random.Generator, genus: str, common: Bird) -> Species:
    free = [name for name in ATTRIBUTES if name != GENERA[genus][0]]
    bird = dict(common)
    for name in rng.choice(free, REDRAWN, replace=False):
        bird[name] = str(rng.choice(ATTRIBUTES[name]))
    names = [name for name in possible_names(bird) if name.text.endswith(genus)]
    return Species(names[int(rng.integers(len(names)))], bird)


def _is_new(candidate: Species, found: list[Species]) -> bool:
    return all(
        other.name.text != candidate.name.text
        and differences(other.bird, candidate.bird) > DISTANCE
        for other in found
    )


@cache
def reserved_names() -> frozenset[str]:
    """Names no training caption may bear."""
    return frozenset(one.name.text for one in species())


def training_bird(rng: np.random.Generator) -> Bird:
    """A random bird that is far from every test species."""
    while True:
        bird = random_bird(rng)
        if all(differences(bird, one.bird) > DISTANCE for one in species()):
            return bird


def descriptions(wrong_share: float) -> dict[str, list[str]]:
    """`DESCRIPTIONS` one-part sentences for each class name; exactly `wrong_share` of all of them
    are not so.

    A wrong one says under the class's name what is true of a random other bird's part, as a
    language model errs. The others are the same sentences at every share.
    """
    total = len(species()) * DESCRIPTIONS
    wrong = set(
        np.random.default_rng(SEED + 1).permutation(total)[: round(wrong_share * total)].tolist()
    )
    told: dict[str, list[str]] = {}
    for index, one in enumerate(species()):
        claims = _topics(np.random.default_rng([SEED + 2, index]), one.bird)
        first = index * DESCRIPTIONS
        told[one.name.text] = [
            _description(first + i, one, said, first + i in wrong) for i, said in enumerate(claims)
        ]
    return told


def _topics(rng: np.random.Generator, bird: Bird) -> list[tuple[Claim, ...]]:
    """What a class's sentences tell: all that can be told of the parts, less a random few to make
    `DESCRIPTIONS`.
    """
    topics = part_claims(bird)
    return [topics[i] for i in sorted(rng.choice(len(topics), DESCRIPTIONS, replace=False))]


def _description(index: int, one: Species, claims: tuple[Claim, ...], wrong: bool) -> str:
    rng = np.random.default_rng([SEED + 3, index])
    told = mistaken(np.random.default_rng([SEED + 4, index]), claims) if wrong else claims
    sentence = one_part_sentence(rng, one.name, told)
    return sentence[0].upper() + sentence[1:]


def mistaken(rng: np.random.Generator, claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    """The same topic told of a random other bird, one that does differ in it."""
    while True:
        other = random_bird(rng)
        told = tuple((name, other[name]) for name, _ in claims)
        if told != claims:
            return told


def descriptors() -> dict[str, list[str]]:
    """Short phrases for each class name, each about another part: "a white head", "no crest".

    All of them are so; nothing is made wrong here.
    """
    return {
        one.name.text: _descriptors(np.random.default_rng([SEED + 5, index]), one.bird)
        for index, one in enumerate(species())
    }


def _descriptors(rng: np.random.Generator, bird: Bird) -> list[str]:
    count = int(rng.integers(DESCRIPTORS[0], DESCRIPTORS[1], endpoint=True))
    parts = [PARTS[i] for i in sorted(rng.choice(len(PARTS), count, replace=False))]
    topics = [
        [claims for claims in part_claims(bird) if part_of(claims[0][0]) == part] for part in parts
    ]
    return [noun_phrase(told[int(rng.integers(len(told)))]) for told in topics]
