"""Byte pair encoding without torch gives the tokens of open_clip's tokenizer."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode, default_bpe

from pipeline.core.errors import AbsError
from pipeline.models.clip.byte_pairs import BytePairs, _byte_characters
from pipeline.models.clip.tokenizer import Tokenizer

ODD = [
    "'S",
    "'\u017f",
    "<start_of_text>",
    "|<END_OF_TEXT>",
    "&amp;amp;",
    "\u00e2\u20ac\u2122s",
    "\0",
]
WORDS = ["a photo of", "Steller\u2019s jay", "1,024", "feathers", "\u9ce5\u306e\u7fbd", "\u0130"]
TEXTS = st.text() | st.lists(st.sampled_from(ODD + WORDS), max_size=30).flatmap(
    lambda parts: st.sampled_from(["", " ", "\u2003", "\u200d"]).map(lambda gap: gap.join(parts))
)


@pytest.mark.slow
def test_tokens_are_those_of_open_clip() -> None:
    ours, theirs = BytePairs(Path(default_bpe())), SimpleTokenizer()

    @given(st.lists(TEXTS, min_size=1, max_size=8), st.sampled_from([77, 12, 2]))
    def tokens_are_the_same(texts: list[str], length: int) -> None:
        expected = theirs(texts, context_length=length).numpy()
        np.testing.assert_array_equal(ours(texts, length), expected)

    tokens_are_the_same()


def test_bytes_are_numbered_as_in_open_clip() -> None:
    assert list(_byte_characters().items()) == list(bytes_to_unicode().items())


@pytest.mark.subprocess
def test_tokens_of_openai_are_counted_without_torch() -> None:
    code = """
import sys
from pipeline.models.clip.tokenizer import find_tokenizer
from pipeline.models.config import ClipConfig
from pipeline.core.paths import Paths
print(find_tokenizer(ClipConfig(model="ViT-B-16"), Paths()).tokens(["a crow"], 4).tolist())
assert not sys.modules.keys() & {"torch", "open_clip", "torchvision"}, "torch is imported"
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "[[49406, 320, 16019, 49407]]\n"


def test_damaged_merges_are_named(tmp_path: Path) -> None:
    for content in (b"no gzip", gzip.compress(b"header\nno-pair\n")):
        (tmp_path / "merges.gz").write_bytes(content)
        with pytest.raises(AbsError, match="the tokenizer of mine cannot be loaded"):
            Tokenizer("mine", {}, tmp_path / "merges.gz").tokens(["a"], 77)
