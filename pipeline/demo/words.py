"""The demo's byte-pair merges, learned from its own captions, for open_clip's own
`SimpleTokenizer`.

Frequent words become one token each; any other text falls back to bytes, so every string has
tokens.
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
    """Join the most frequent adjacent pair of symbols, again and again, until every word is one
    symbol.
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
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: _join(symbols, best) for word, symbols in words.items()}
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
    """Write the file `SimpleTokenizer` reads; the same merges always make the same bytes."""
    text = "\n".join([HEADER, *(" ".join(pair) for pair in merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load_tokenizer(folder: Path) -> SimpleTokenizer:
    """The tokenizer of a model folder."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(bpe_path=str(folder / MERGES_FILE), context_length=CONTEXT_LENGTH)
