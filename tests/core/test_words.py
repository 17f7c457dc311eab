"""Numbers agree with their nouns."""

from __future__ import annotations

import pytest

from pipeline.core.words import counted


@pytest.mark.parametrize(
    ("count", "nouns", "text"),
    [
        (0, "images", "0 images"),
        (1, "images", "1 image"),
        (1, "classes", "1 class"),
        (1, "files", "1 file"),
        (1234, "classes", "1,234 classes"),
        (1, "", "1"),
    ],
)
def test_a_number_agrees_with_its_noun(count: int, nouns: str, text: str) -> None:
    assert counted(count, nouns) == text
