"""Texts that a text encoder cuts, and texts that it cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

SHOWN = 48
"""Characters of a text in messages."""


class Tokenizes(Protocol):
    """A tokenizer, and the number of tokens that the text encoder reads."""

    @property
    def context_length(self) -> int:
        """Number of tokens, the first and the last included."""
        ...

    def tokens(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Return the tokens of texts, each cut or padded to `length`: int64 (texts, length)."""
        ...


@dataclass(frozen=True)
class TokenLoss:
    """Texts of a set of which the encoder does not read all."""

    context_length: int
    total: int
    """Number of texts in the set."""
    cut: list[str]
    """Texts with more tokens than the encoder reads, each with its place."""
    alike: list[str]
    """Texts with the tokens, and so the vector, of another text of their class."""

    @property
    def messages(self) -> list[str]:
        """Counts in words, with an example each; empty if nothing is lost."""
        found = []
        if self.cut:
            found.append(
                f"{len(self.cut):,} of {self.total:,} texts are cut at {self.context_length} "
                f"tokens, such as {self.cut[0]}"
            )
        if self.alike:
            found.append(
                f"{len(self.alike):,} of {self.total:,} texts get the vector of another text of "
                f"their class, such as {self.alike[0]}"
            )
        return found


def token_loss(
    texts: Sequence[Sequence[str]], names: Sequence[str], tokenizer: Tokenizes
) -> TokenLoss:
    """Count the texts that are cut, and those that share all tokens with another of their class.

    texts: the texts of each class. names: the classes' names, for messages. Texts that are equal
    are one text here. A text with fewer bytes than the encoder reads tokens cannot be cut, so that
    a set of one such text per class needs no tokenizer.
    """
    length, total = tokenizer.context_length, sum(map(len, texts))
    if all(len(own) == 1 and _is_short(own[0], length) for own in texts):
        return TokenLoss(length, total, [], [])
    distinct = list(dict.fromkeys(text for own in texts for text in own))
    read, longer = (tokenizer.tokens(distinct, length + more) for more in (0, 1))
    is_cut = (read != longer[:, :length]).any(axis=1)  # the last token closes a text
    number = {text: n for n, text in enumerate(distinct)}
    cut, alike = list[str](), list[str]()
    for name, own in zip(names, texts, strict=True):
        first = dict[bytes, tuple[int, str]]()
        for place, text in enumerate(own, 1):
            if is_cut[number[text]]:
                cut.append(f"text {place} of {name!r} ({_shown(text)})")
            other, same = first.setdefault(read[number[text]].tobytes(), (place, text))
            if same != text:
                alike.append(f"text {place} of {name!r}, equal to text {other}")
    return TokenLoss(length, total, cut, alike)


def _is_short(text: str, length: int) -> bool:
    """Return whether a text has fewer bytes than tokens are read, whatever the tokenizer cleans."""
    return text.isascii() and "&" not in text and len(text) + 2 <= length


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}...")
