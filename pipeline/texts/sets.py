"""Settings of text sets: the rule and the prompt files that their texts come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipeline.core.paths import Paths
from pipeline.core.section import MAX_SEED, NOT_IN_KEY, Section

OPTIONAL = "?"
"""Prefix of a path that may be missing; methods that need its texts are then not scored."""
SLOT = "{}"
"""Place of the class name in a template."""


def has_one_slot(template: str) -> bool:
    """Return whether a template has {} exactly once, and no other braces."""
    before, slot, after = template.partition(SLOT)
    return bool(slot) and not {"{", "}"} & set(before + after)


def _one_slot(template: str) -> str:
    if not has_one_slot(template):
        raise ValueError("a template needs {} once, where the class name goes, and no other braces")
    return template


class _TextSet(Section):
    """Base of all text sets, which may be read from a prompt file."""

    file: Annotated[str | None, NOT_IN_KEY] = None

    def missing_input(self, paths: Paths) -> str | None:
        """Return the setting without which there are no texts, and the reason; None if complete."""
        return self._missing_file(paths, "file")

    def _missing_file(self, paths: Paths, field: str) -> str | None:
        value = getattr(self, field)
        if value is None:
            return f"{field} is not set"
        path = value.removeprefix(OPTIONAL)
        if path == value or paths.there(path):
            return None
        return f"{field} not found: looked for {', '.join(map(str, paths.places(path)))}"


class Templates(_TextSet):
    """Sentences with {} in place of the class name: from the settings, a JSON list or a library."""

    rule: Literal["templates"]
    templates: tuple[str, ...] = ()
    library: Literal["openai-imagenet"] | None = None
    """`openai-imagenet`: the 80 templates that OpenAI published, from the installed open_clip."""

    @field_validator("templates", mode="before")
    @classmethod
    def _as_tuple(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given or ()

    @model_validator(mode="after")
    def _one_source(self) -> Templates:
        for template in self.templates:
            _one_slot(template)
        if sum(map(bool, (self.templates, self.library, self.file))) > 1:
            raise ValueError("give one of templates, library and file, and null for the others")
        return self

    def missing_input(self, paths: Paths) -> str | None:
        """Return the file and the reason it is missing, if neither templates nor library is set."""
        given = self.templates or self.library
        return None if given else super().missing_input(paths)


class Sentences(_TextSet):
    """Texts used as they are: a JSON object of lists by class name (CuPL)."""

    rule: Literal["sentences"]


class DistinctSentences(_TextSet):
    """Sentences of which no two of a class are much alike, in a shuffled order.

    How BiFTA filters texts as far as its published files tell; its own filter is not published.
    """

    rule: Literal["distinct"]
    more: Annotated[str | None, NOT_IN_KEY] = None
    """Further sentences, in a file as `file`; None for no others."""
    threshold: float = Field(default=0.99, ge=-1, le=1)
    """Largest cosine of two texts that are kept."""
    most: int | None = Field(default=50, ge=1)
    """Most texts of a class that are kept; None for all."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the order."""

    def missing_input(self, paths: Paths) -> str | None:
        """Return the first of `file` and `more` that is missing, and the reason."""
        return super().missing_input(paths) or (self.more and self._missing_file(paths, "more"))


class TemplatedSentences(_TextSet):
    """A template with the class name, alone and before each sentence (AWT)."""

    rule: Literal["templated"]
    template: Annotated[str, AfterValidator(_one_slot)] = "a photo of a {}"
    """Template without a full stop at its end, which is added."""


class Descriptors(_TextSet):
    """`{class}, which has {descriptor}`: a JSON object of lists by class name (CLIP-D)."""

    rule: Literal["descriptors"]


class Noise(_TextSet):
    """`A photo of a {class}, which has {noise}.`, the same noise for all classes (Waffle).

    Random characters are drawn from those of the descriptors in `file`.
    """

    rule: Literal["waffle"]
    words: Annotated[str | None, NOT_IN_KEY] = None
    """Text file with one word per line."""
    pairs: int = Field(default=15, ge=1)
    """Number of texts with random words, and of texts with random characters."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    def missing_input(self, paths: Paths) -> str | None:
        """Return the first of `file` and `words` that is missing, and the reason."""
        return super().missing_input(paths) or self._missing_file(paths, "words")


class SameTexts(_TextSet):
    """The texts of another set, under this name too."""

    rule: Literal["same"]
    of: str
    """Name of the other set."""


TextSet = Annotated[
    Templates
    | Sentences
    | DistinctSentences
    | TemplatedSentences
    | Descriptors
    | Noise
    | SameTexts,
    Field(discriminator="rule"),
]


RULES: dict[str, type[Section]] = {
    "templates": Templates,
    "sentences": Sentences,
    "templated": TemplatedSentences,
    "distinct": DistinctSentences,
    "descriptors": Descriptors,
    "waffle": Noise,
    "same": SameTexts,
}
