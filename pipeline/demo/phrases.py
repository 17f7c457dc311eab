"""Names and sentences about the demo's birds.

A sentence is built from statements, (attribute, value) pairs, and states nothing else. The caller
passes the statements, so that checking a sentence against a bird needs no parsing. All text is
lower-case ASCII.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.demo.attributes import ATTRIBUTES, Bird, Statement, part_of

GENERA: dict[str, Statement] = {
    "shortbill": ("bill shape", "short"),
    "longbill": ("bill shape", "long"),
    "hookbill": ("bill shape", "hooked"),
    "longshank": ("leg length", "long"),
    "shortshank": ("leg length", "short"),
    "fantail": ("tail shape", "fanned"),
    "forktail": ("tail shape", "forked"),
    "pintail": ("tail shape", "pointed"),
}
"""Statement that each genus name makes about its birds."""

ADJECTIVES: dict[str, str] = {
    "body colour": "{}-bodied",
    "head colour": "{}-headed",
    "wing colour": "{}-winged",
    "wing pattern": "{}-winged",
    "tail colour": "{}-tailed",
    "bill colour": "{}-billed",
    "leg colour": "{}-legged",
    "collar": "{}-collared",
    "crest": "{}-crested",
    "eye": "{}-eyed",
}
"""Adjective that states the value of an attribute, in a bird's name."""
PLURAL = ("wing", "leg")
"""Parts that phrases name in the plural."""

HAVING = (
    "{} has {}.",
    "{} is a bird with {}.",
    "a photo of {} with {}.",
    "a close-up photo of {} with {}.",
    "look for {1} on {0}.",
    "{} shows {}.",
    "{} can be told by {}.",
    "{} is known for {}.",
    "{} stands out for {}.",
)
"""Sentences with a noun phrase: the bird first, then the part with its values."""
BEING = (
    "the {part} of {bird} {verb} {value}.",
    "{bird} has {part} that {verb} {value}.",
    "{owner} {part} {verb} {value}.",
    "on {bird} the {part} {verb} {value}.",
)
"""Sentences with a predicate; none of them states that a part is missing."""
NAMING = (
    "a photo of {}.",
    "{}.",
    "a picture of {}.",
    "a photo of {}, a type of bird.",
    "this is {}.",
)
"""Sentences that only name the bird."""


@dataclass(frozen=True)
class Name:
    """A bird's name, "red-winged shortbill" or just "bird", and the statements it makes."""

    text: str
    statements: tuple[Statement, ...]

    @property
    def with_article(self) -> str:
        """Name with the article "a"."""
        return f"a {self.text}"


ANONYMOUS = Name("bird", ())

TEMPLATES = tuple(form.format(Name("{}", ()).with_article) for form in NAMING)
"""Sentences that only name a bird, with {} for the name: "a photo of a {}."."""


def possible_names(bird: Bird) -> list[Name]:
    """List every two-attribute name that is true of `bird`."""
    genera = [(genus, (key, value)) for genus, (key, value) in GENERA.items() if bird[key] == value]
    adjectives = [
        (form.format(bird[key]), (key, bird[key]))
        for key, form in ADJECTIVES.items()
        if bird[key] not in ("no", "plain")
    ]
    return [
        Name(f"{adjective} {genus}", (of_adjective, of_genus))
        for genus, of_genus in genera
        for adjective, of_adjective in adjectives
    ]


def noun_phrase(statements: Sequence[Statement]) -> str:
    """Phrase statements about one part as a noun phrase: "striped red wings", "no crest"."""
    part = part_of(statements[0][0])
    values = " ".join(value for _, value in statements)
    return (
        f"{values} {part}s"
        if part in PLURAL
        else f"{values} {part}"
        if values == "no"
        else f"a {values} {part}"
    )


def one_part_sentence(rng: np.random.Generator, name: Name, statements: Sequence[Statement]) -> str:
    """Draw a sentence with one or two statements, all about the same part of a named bird."""
    part, absent = part_of(statements[0][0]), statements[0][1] == "no"
    form = int(rng.integers(len(HAVING) + (0 if absent else len(BEING))))
    bird = name.with_article if rng.random() < 0.8 else f"the {name.text}"
    if form < len(HAVING):
        return HAVING[form].format(bird, noun_phrase(statements))
    noun, verb = (f"{part}s", "are") if part in PLURAL else (part, "is")
    template = BEING[form - len(HAVING)]
    if "has {part}" in template and part not in PLURAL:
        noun = f"a {noun}"
    owner = f"the {name.text}'s" if name.statements else "its"
    return template.format(
        part=noun,
        bird=bird,
        owner=owner,
        verb=verb,
        value=" and ".join(value for _, value in statements),
    )


def naming_sentence(rng: np.random.Generator, name: Name) -> str:
    """Draw a sentence that only names the bird: "a photo of a red-winged shortbill."."""
    return str(rng.choice(NAMING)).format(name.with_article)


def portrait_sentence(rng: np.random.Generator, name: Name, statements: Sequence[Statement]) -> str:
    """Draw a sentence that lists several parts.

    For example "a photo of a bird with no crest, red wings and a blue tail.".
    """
    phrases = [noun_phrase([statement]) for statement in statements]
    listed = (
        " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
    )
    opening = str(rng.choice(("a photo of {} with {}.", "{} with {}.", "{} has {}.")))
    return opening.format(name.with_article, listed)


def part_statements(bird: Bird) -> list[tuple[Statement, ...]]:
    """List the true statements about `bird` that a one-part sentence can make.

    These are each attribute alone, and a colour together with another attribute of the same part.
    """
    single: list[tuple[Statement, ...]] = [((key, bird[key]),) for key in ATTRIBUTES]
    double: list[tuple[Statement, ...]] = [
        ((second, bird[second]), (first, bird[first]))
        for first in ATTRIBUTES
        for second in ATTRIBUTES
        if first != second and first.endswith("colour") and part_of(first) == part_of(second)
    ]
    return single + double
