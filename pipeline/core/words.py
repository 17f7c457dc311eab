"""Words of messages: numbers with their nouns."""

from __future__ import annotations


def counted(count: int, nouns: str) -> str:
    """Return a number with its noun, which is given in the plural: `1,024 images`, `1 image`."""
    if count == 1:
        nouns = nouns.removesuffix("es" if nouns.endswith("sses") else "s")
    return f"{count:,} {nouns}".rstrip()
