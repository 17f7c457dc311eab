"""The English of the demo: names, sentences and captions about birds.

A sentence makes claims, (attribute, value) pairs, and nothing more; whoever asks for one gives the
claims, so whether a sentence is true of a bird never has to be parsed back out of it. All text is
lower-case ASCII.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.demo.attributes import ATTRIBUTES, Bird, Claim, part_of

GENERA: dict[str, Claim] = {
    "shortbill": ("bill shape", "short"),
    "longbill": ("bill shape", "long"),
    "hookbill": ("bill shape", "hooked"),
    "longshank": ("leg length", "long"),
    "shortshank": ("leg length", "short"),
    "fantail": ("tail shape", "fanned"),
    "forktail": ("tail shape", "forked"),
    "pintail": ("tail shape", "pointed"),
}
"""What each family's name says of its birds."""

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
PLURAL = ("wing", "leg")

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
BEING = (
    "the {part} of {bird} {verb} {value}.",
    "{bird} has {part} that {verb} {value}.",
    "{owner} {part} {verb} {value}.",
    "on {bird} the {part} {verb} {value}.",
)
NAMING = (
    "a photo of {}.",
    "{}.",
    "a picture of {}.",
    "a photo of {}, a type of bird.",
    "this is {}.",
)


@dataclass(frozen=True)
class Name:
    """How a bird is called, and what the name claims about it: "red-winged shortbill", or just
    "bird".
    """

    text: str
    claims: tuple[Claim, ...]

    @property
    def with_article(self) -> str:
        """The name after "a"."""
        return f"a {self.text}"


ANONYMOUS = Name("bird", ())

TEMPLATES = tuple(form.format(Name("{}", ()).with_article) for form in NAMING)
"""The sentences that only name a bird, with {} for the name: "a photo of a {}."."""


def possible_names(bird: Bird) -> list[Name]:
    """Every two-attribute name that is true of `bird`."""
    genera = [(genus, claim) for genus, claim in GENERA.items() if bird[claim[0]] == claim[1]]
    adjectives = [
        (form.format(bird[key]), (key, bird[key]))
        for key, form in ADJECTIVES.items()
        if bird[key] not in ("no", "plain")
    ]
    return [
        Name(f"{adjective} {genus}", (said, claim))
        for genus, claim in genera
        for adjective, said in adjectives
    ]


def noun_phrase(claims: Sequence[Claim]) -> str:
    """The claims, all about one part, as a noun phrase: "striped red wings", "no crest"."""
    part = part_of(claims[0][0])
    values = " ".join(value for _, value in claims)
    return (
        f"{values} {part}s"
        if part in PLURAL
        else f"{values} {part}"
        if values == "no"
        else f"a {values} {part}"
    )


def one_part_sentence(rng: np.random.Generator, name: Name, claims: Sequence[Claim]) -> str:
    """A sentence about one part of a bird of that name; `claims` are one or two, about the same
    part.
    """
    part, absent = part_of(claims[0][0]), claims[0][1] == "no"
    form = int(rng.integers(len(HAVING) + (0 if absent else len(BEING))))
    bird = name.with_article if rng.random() < 0.8 else f"the {name.text}"
    if form < len(HAVING):
        return HAVING[form].format(bird, noun_phrase(claims))
    noun, verb = (f"{part}s", "are") if part in PLURAL else (part, "is")
    template = BEING[form - len(HAVING)]
    if "has {part}" in template and part not in PLURAL:
        noun = f"a {noun}"
    owner = f"the {name.text}'s" if name.claims else "its"
    return template.format(
        part=noun,
        bird=bird,
        owner=owner,
        verb=verb,
        value=" and ".join(value for _, value in claims),
    )


def naming_sentence(rng: np.random.Generator, name: Name) -> str:
    """A sentence that only names the bird: "a photo of a red-winged shortbill."."""
    return str(rng.choice(NAMING)).format(name.with_article)


def portrait_sentence(rng: np.random.Generator, name: Name, claims: Sequence[Claim]) -> str:
    """A sentence that lists several parts: "a photo of a bird with no crest, red wings and a blue
    tail.".
    """
    phrases = [noun_phrase([claim]) for claim in claims]
    listed = (
        " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
    )
    opening = str(rng.choice(("a photo of {} with {}.", "{} with {}.", "{} has {}.")))
    return opening.format(name.with_article, listed)


def part_claims(bird: Bird) -> list[tuple[Claim, ...]]:
    """What one-part sentences can truly say of `bird`: each attribute alone, and both of a part
    that has two.
    """
    single: list[tuple[Claim, ...]] = [((key, bird[key]),) for key in ATTRIBUTES]
    double: list[tuple[Claim, ...]] = [
        ((second, bird[second]), (first, bird[first]))
        for first in ATTRIBUTES
        for second in ATTRIBUTES
        if first != second and first.endswith("colour") and part_of(first) == part_of(second)
    ]
    return single + double
