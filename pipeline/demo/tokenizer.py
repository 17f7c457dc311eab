"""Byte-pair merges for open_clip's `SimpleTokenizer`, learned from the demo's captions.

Words of the captions become one token each. Other text falls back to bytes, so every string can be
tokenised.
"""

from __future__ import annotations

import gzip
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

CONTEXT_LENGTH = 48
MERGES_FILE = "merges.txt.gz"
HEADER = "#version: byte-pair merges of the embedded demo"


def learn_merges(sentences: Iterable[str], limit: int = 1000) -> list[tuple[str, str]]:
    """Learn byte-pair merges: join the most frequent adjacent symbols until words are one symbol.

    Returns at most `limit` merges, in the order of merging.
    """
    counts = Counter(
        word for sentence in sentences for word in re.findall(r"[a-z]+", sentence.lower())
    )
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in sorted(counts)}
    merges: list[tuple[str, str]] = []
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs:
            break
        most_frequent = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(most_frequent)
        words = {word: _join(symbols, most_frequent) for word, symbols in words.items()}
    return merges


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined


def write_merges(path: Path, merges: Iterable[tuple[str, str]]) -> None:
    """Write the merges in `SimpleTokenizer`'s format; equal merges give equal bytes."""
    text = "\n".join([HEADER, *(" ".join(pair) for pair in merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load_tokenizer(folder: Path) -> SimpleTokenizer:
    """Load the tokenizer of a model folder."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(bpe_path=str(folder / MERGES_FILE), context_length=CONTEXT_LENGTH)
