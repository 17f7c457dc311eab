"""Byte pair encoding of OpenAI's CLIP without torch and open_clip, whose import takes seconds.

Made for counting tokens; `tests/models/clip/test_byte_pairs.py` compares it with open_clip's.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import ftfy
import numpy as np
import regex
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

START, END = "<start_of_text>", "<end_of_text>"
"""Tokens that open and close every text, and are tokens inside a text too."""

MERGES = 49152 - 256 - 2
"""Merges of the vocabulary: 49,152 entries without the bytes and the two above."""

WORDS = regex.compile(
    rf"{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)
"""Parts of a text that no token crosses: words, digits and runs of other characters."""

END_OF_WORD = "</w>"


class BytePairs:
    """Tokens of texts in lower case, by the merges of a gzipped file."""

    def __init__(self, merges: Path) -> None:
        lines = gzip.decompress(merges.read_bytes()).decode().split("\n")[1 : MERGES + 1]
        pairs = [(first, second) for first, second in (line.split() for line in lines)]
        self._bytes = _byte_characters()
        alphabet = list(self._bytes.values())
        words = [*alphabet, *(letter + END_OF_WORD for letter in alphabet)]
        words += [first + second for first, second in pairs]
        vocabulary = {word: number for number, word in enumerate([*words, START, END])}
        self._model = BPE(vocabulary, pairs, end_of_word_suffix=END_OF_WORD)
        self._known = {word: [vocabulary[word]] for word in (START, END)}
        self._tokens = lru_cache(maxsize=2**16)(self._encoded)

    def __call__(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Return the tokens of texts, each cut or padded to `length`: int64 (texts, length)."""
        tokens = np.zeros((len(texts), length), dtype=np.int64)
        (first,), (last,) = self._known[START], self._known[END]
        for row, text in zip(tokens, texts, strict=True):
            found = [first, *self._tokens(text), last][:length]
            row[: len(found)] = found
            row[len(found) - 1] = last
        return tokens

    def _encoded(self, text: str) -> list[int]:
        return [token for word in WORDS.findall(_clean(text)) for token in self._of_word(word)]

    def _of_word(self, word: str) -> list[int]:
        if word not in self._known:
            symbols = "".join(self._bytes[byte] for byte in word.encode())
            self._known[word] = [token.id for token in self._model.tokenize(symbols)]
        return self._known[word]


def _clean(text: str) -> str:
    """Return a text with mended encoding, entities as characters, single spaces, in lower case."""
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(mended.split()).lower()


@cache
def _byte_characters() -> dict[int, str]:
    """Return the character that stands for each byte, those that stand for themselves first."""
    alphabet = sorted(ByteLevel.alphabet())
    own = {ord(letter): letter for letter in alphabet if ord(letter) < 256}
    others = [byte for byte in range(256) if byte not in own]
    return own | dict(zip(others, alphabet[len(own) :], strict=True))
