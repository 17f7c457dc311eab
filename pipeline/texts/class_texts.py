"""The texts of one text set, joined with the classes by name."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.core.errors import AbsError, ConfigError, did_you_mean, first_of, nearest
from pipeline.core.hash_cache import HashCache
from pipeline.core.hashing import digest
from pipeline.core.paths import Paths
from pipeline.datasets.classes import Classes
from pipeline.datasets.open_clip_lists import openai_templates
from pipeline.texts.readers import read_templates, read_texts, read_words
from pipeline.texts.rules import (
    descriptor_clause,
    descriptor_texts,
    fill_templates,
    is_sentence,
    noise_texts,
    templated_texts,
    waffle_noise,
)
from pipeline.texts.sets import (
    OPTIONAL,
    Descriptors,
    DistinctSentences,
    Noise,
    Sentences,
    TemplatedSentences,
    Templates,
    TextSet,
)

FEW_SENTENCES = 0.1
"""Share of sentences that a file of descriptors may have; published ones have 0.4 % at most."""


@dataclass(frozen=True)
class ClassTexts:
    """The texts of one text set for every class. Prompt files are read on first use."""

    name: str
    config: TextSet
    classes: Classes
    paths: Paths
    digests: HashCache

    def identity(self) -> dict[str, Any]:
        """Return the digests of prompt files and library templates, for the key.

        Texts given in the settings themselves are in the key through the section.
        """
        digests = {
            f"{field}_sha256": self.digests.sha256(self.path(field)) for field in self.file_fields
        }
        if isinstance(self.config, Templates) and self.config.library:
            digests["library"] = digest(openai_templates())
        return digests

    @property
    def file_fields(self) -> list[str]:
        """Names of the settings that give a prompt file: `file`, `words`, `more`."""
        return [field for field in ("file", "words", "more") if getattr(self.config, field, None)]

    def path(self, field: str) -> Path:
        """Return the prompt file of a setting; ConfigError if unset, MissingInput if not found."""
        setting, given = f"descriptions.{self.name}.{field}", getattr(self.config, field)
        if given is None:
            raise ConfigError(
                f"{setting}: give a file, or leave methods that read it out of scores.methods"
            )
        return self.paths.find(given.removeprefix(OPTIONAL), f"texts of {self.name!r}", setting)

    @cached_property
    def texts(self) -> list[list[str]]:
        """Texts of each class, by label; AbsError if a class has none."""
        names, config = self.classes.names, self.config
        if isinstance(config, Templates):
            return fill_templates(names, self._templates(config))
        if isinstance(config, Noise):
            return noise_texts(names, self._noise(config))
        keys = self._all_keys
        listed = [self._by_class[key] for key in keys]
        if isinstance(config, Sentences):
            return listed
        if isinstance(config, DistinctSentences):
            return [[*own, *more] for own, more in zip(listed, self._more(config), strict=True)]
        if isinstance(config, TemplatedSentences):
            return templated_texts(names, config.template, listed)
        return descriptor_texts(self._names_in_texts(keys), listed)

    def _more(self, config: DistinctSentences) -> list[list[str]]:
        """Read the further sentences of each class: none without a second file."""
        if config.more is None:
            return [[] for _ in self.classes.names]
        return replace(self, config=Sentences(rule="sentences", file=config.more)).texts

    def _names_in_texts(self, keys: list[str]) -> list[str]:
        """Return a name for each class: an alias that the prompt file has for this class alone,
        else its own. Another spelling, which only the file has, is not used."""
        counts, classes = Counter(keys), self.classes
        return [
            key if counts[key] == 1 and key in aliases else name
            for name, aliases, key in zip(classes.names, classes.aliases, keys, strict=True)
        ]

    @cached_property
    def rows(self) -> list[tuple[int, int, str]]:
        """(label, position within the class, text) of every text, by label."""
        return [(c, i, text) for c, texts in enumerate(self.texts) for i, text in enumerate(texts)]

    def _templates(self, config: Templates) -> Sequence[str]:
        if config.library:
            return openai_templates()
        return config.templates or read_templates(self.path("file"))

    def _noise(self, config: Noise) -> list[str]:
        """Return Waffle's noise in the shape of the class names in the file of descriptors."""
        words, descriptors = read_words(self.path("words")), self._by_class
        letters = [text for texts in descriptors.values() for text in texts]
        try:
            return waffle_noise(list(descriptors), words, letters, config.pairs, config.seed)
        except ValueError as error:
            raise AbsError(f"{self.path('file')}: {error}") from None

    @cached_property
    def _by_class(self) -> dict[str, list[str]]:
        return read_texts(self.path("file"), f"texts of {self.name!r}", empty=True)

    @property
    def warnings(self) -> list[str]:
        """Return a line if the file of descriptors seems to hold sentences; else nothing."""
        if not isinstance(self.config, Descriptors):
            return []
        given = [text for texts in self._by_class.values() for text in texts]
        sentences = list(filter(is_sentence, given))
        if len(sentences) <= FEW_SENTENCES * len(given):
            return []
        return [
            f"{len(sentences):,} of {len(given):,} descriptors look like sentences, such as "
            f"{sentences[0]!r}, which becomes '..., {descriptor_clause(sentences[0])}'; give "
            "descriptors such as 'a long tail', or read the file by the rule `sentences`"
        ]

    @property
    def unused_classes(self) -> list[str]:
        """Class names of the prompt file that no class of the dataset uses."""
        if isinstance(self.config, Templates):
            return []
        return [name for name in self._by_class if name not in self._keys]

    @property
    def _all_keys(self) -> list[str]:
        """Name under which the prompt file lists each class; AbsError that lists those without."""
        absent = [label for label, key in enumerate(self._keys) if not key]
        names = [self.classes.aliases[label][0] for label in absent]
        if not names:
            return [key for key in self._keys if key]
        if len(names) == 1:
            which = f"class {names[0]!r}; {did_you_mean(names[0], self._by_class)}"
        else:
            listed = first_of([self._with_nearest(name) for name in names])
            which = f"{len(names)} of {len(self._keys)} classes: {', '.join(listed)}"
            if len(names) == len(self._keys):
                which += f"; the file lists {', '.join(map(repr, list(self._by_class)[:3]))}"
        raise AbsError(f"{self.path('file')}: no texts for {which}")

    @property
    def listed(self) -> dict[str, list[str]]:
        """The entry of the prompt file for each class name; empty for a class without texts."""
        pairs = zip(self.classes.names, self._keys, strict=True)
        return {name: self._by_class[key] if key else [] for name, key in pairs}

    def _with_nearest(self, name: str) -> str:
        """Return a class name, with the nearest one in the prompt file that no class has."""
        near = nearest(name, [key for key in self._by_class if key not in self._keys])
        return f"{name!r} (did you mean {near!r}?)" if near else repr(name)

    @cached_property
    def _keys(self) -> list[str | None]:
        """Key of each class in the prompt file: one of its names, else its identifier unless that
        is the key of another class; None without one."""
        names, aliases = self.classes.names, self.classes.aliases
        keys = [self._exact(known) for known in aliases]
        owner = {key: name for key, name in zip(keys, names, strict=True) if key}
        for label, name in enumerate(names):
            if keys[label] is None and (key := self._alike(aliases[label])):
                if owner.setdefault(key, name) != name:
                    raise AbsError(
                        f"{self.path('file')}: {key!r} is the name of class {owner[key]!r}, and no "
                        f"other fits class {name!r}; add texts for it"
                    )
                keys[label] = key
        taken = set(keys)
        for label, identifier in enumerate(self.classes.identifiers):
            own = (identifier,)
            if keys[label] is None and (other := self._exact(own) or self._alike(own)) not in taken:
                keys[label] = other
                taken.add(other)
        return keys

    def _exact(self, aliases: tuple[str, ...]) -> str | None:
        """Return the first alias in the prompt file."""
        return next((name for name in aliases if name in self._by_class), None)

    def _alike(self, aliases: tuple[str, ...]) -> str | None:
        """Return the only name in the prompt file that equals the first alias possible but for
        case, spaces, underscores and hyphens. AbsError if there are several."""
        for name in aliases:
            alike = self._by_plain_name.get(plain_name(name), [])
            if len(alike) > 1:
                both = " and ".join(map(repr, alike))
                raise AbsError(f"{self.path('file')}: {both} both fit class {name!r}; remove one")
            if alike:
                return alike[0]
        return None

    @cached_property
    def _by_plain_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self._by_class:
            names.setdefault(plain_name(name), []).append(name)
        return names


def plain_name(name: str) -> str:
    """Return a class name without case, Unicode form, and kind of separator between words."""
    words = re.split(r"[\s_-]+", unicodedata.normalize("NFC", name.casefold()))
    return " ".join(filter(None, words))
