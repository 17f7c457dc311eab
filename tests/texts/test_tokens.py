"""Texts that a text encoder cuts, or cannot tell apart, against plain counting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.paths import Paths
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.tokenizer import Tokenizer, find_tokenizer
from pipeline.models.config import ClipConfig
from pipeline.run import Run
from pipeline.texts.tokens import token_loss
from tests.helpers import small_models
from tests.helpers.runs import DEMO

LONG = ", ".join(f"feature {n}" for n in range(40))
"""Far more than 77 tokens."""


class Words:
    """A tokenizer of words, case aside, between a first and a last token."""

    context_length = 6

    def __init__(self) -> None:
        self._number = dict[str, int]()
        self.loaded = False

    def tokens(self, texts: Sequence[str], length: int) -> np.ndarray:
        self.loaded = True
        rows = np.zeros((len(texts), length), np.int64)
        for row, text in zip(rows, texts, strict=True):
            words = text.lower().split()[: length - 2]
            numbers = [3 + self._number.setdefault(word, len(self._number)) for word in words]
            row[: len(words) + 2] = [1, *numbers, 2]
        return rows


WORDS = st.lists(st.sampled_from(["a", "A", "long", "tail", "é"]), max_size=7)
CLASSES = st.lists(st.lists(WORDS.map(" ".join), min_size=1, max_size=5), min_size=1, max_size=4)


@given(CLASSES)
def test_counts_are_those_of_a_plain_loop(texts: list[list[str]]) -> None:
    loss = token_loss(texts, [f"c{n}" for n in range(len(texts))], Words())
    cut, alike = 0, 0
    for own in texts:
        seen: dict[tuple[str, ...], str] = {}
        for text in own:
            words = text.lower().split()
            cut += len(words) > 4
            alike += seen.setdefault(tuple(words[:4]), text) != text
    assert (len(loss.cut), len(loss.alike)) == (cut, alike)
    assert loss.total == sum(map(len, texts))
    assert len(loss.messages) == (cut > 0) + (alike > 0)


def test_messages_name_an_example() -> None:
    texts = [["a b c d"], ["x", "a b c d e", "A B C D F"]]
    assert token_loss(texts, ["crow", "kite"], Words()).messages == [
        "2 of 4 texts are cut at 6 tokens, such as text 2 of 'kite' ('a b c d e')",
        "1 of 4 texts get the vector of another text of their class, such as text 3 of 'kite', "
        "equal to text 2",
    ]


def test_equal_texts_of_two_classes_are_no_matter() -> None:
    assert token_loss([["a b"], ["a b", "a b"]], ["crow", "kite"], Words()).messages == []


def test_one_short_text_per_class_loads_no_tokenizer() -> None:
    for texts, loaded in ((["a", "b c"], False), (["a", "b c d"], True), (["a", "é"], True)):
        tokenizer = Words()
        token_loss([[text] for text in texts], texts, tokenizer)
        assert tokenizer.loaded == loaded


def configured(model: str, weights: str | None = "openai") -> Tokenizer:
    return find_tokenizer(ClipConfig(model=model, weights=weights), Paths())


PIECES = st.lists(
    st.sampled_from(["!", "a", "feature", "&amp;", "\u00e9", "zyx", "<b>"]), max_size=90
)


@given(PIECES.map(" ".join))
def test_cut_texts_of_clip_are_those_with_more_tokens(text: str) -> None:
    loss = token_loss([[text, "x"]], ["crow"], CLIP)
    assert len(loss.cut) == (len(PLAIN.encode(text)) > 75)


CLIP, PLAIN = configured("ViT-B-16"), SimpleTokenizer()


def test_an_end_token_in_a_text_is_plain_text() -> None:
    """As in open_clip; transformers takes it for the end of the text."""
    (row,) = CLIP.tokens(["a crow<|endoftext|> in flight"], 77)
    tokens = [token for token in row.tolist() if token]
    assert tokens[-3:] == [*PLAIN.encode("in flight"), PLAIN.eot_token_id]
    assert tokens.count(PLAIN.eot_token_id) == 1


def test_texts_that_clip_cuts_to_one_have_one_vector() -> None:
    texts = [f"{LONG}, and red", f"{LONG}, and blue", "A crow.", "a  CROW.", "a rook."]
    loss = token_loss([texts], ["crow"], configured("ViT-B/32"))
    assert [line[:16] for line in loss.cut] == ["text 1 of 'crow'", "text 2 of 'crow'"]
    assert loss.alike == ["text 2 of 'crow', equal to text 1", "text 4 of 'crow', equal to text 3"]


def test_a_stored_model_has_its_own_length_and_merges(tmp_path: Path) -> None:
    """Without merges, each letter is a token; the model reads 64."""
    small_models.write_clip(tmp_path / "clip", 32, 8)
    texts = ["x" * 62, "x" * 63, "x" * 64]
    source = small_models.clip_source(tmp_path, f"local-dir:{tmp_path / 'clip'}")
    clip = ClipModel(source, small_models.CPU)
    (tmp_path / "clip" / "open_clip_model.safetensors").unlink()
    loss = token_loss([texts], ["crow"], configured(f"local-dir:{tmp_path / 'clip'}", None))
    assert loss.context_length == 64
    assert [line[:16] for line in loss.cut] == ["text 2 of 'crow'", "text 3 of 'crow'"]
    vectors = clip.encode_texts(texts).numpy()
    same = [np.allclose(vectors[i], vectors[j], atol=1e-6) for i, j in ((0, 1), (1, 2))]
    assert same == [False, True]
    assert loss.alike == ["text 3 of 'crow', equal to text 2"]


def test_tokenizers_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(AbsError, match="open_clip has no model 'ViT-B-17'"):
        configured("ViT-B-17")
    with pytest.raises(AbsError, match="the tokenizer bert-base-uncased of ViT-L-14-CLIPA is"):
        configured("ViT-L-14-CLIPA")
    with pytest.raises(AbsError, match="hf-hub:nobody/nothing is not on this machine"):
        configured("hf-hub:nobody/nothing", None)
    with pytest.raises((AbsError, ConfigError), match="nowhere"):
        configured("local-dir:nowhere", None)
    config = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "owner/words"}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(AbsError, match="has no files of the tokenizer owner/words"):
        configured(f"local-dir:{tmp_path}", None)
    (tmp_path / "tokenizer.json").write_text("{}")
    stored = configured(f"local-dir:{tmp_path}", None)
    with pytest.raises(AbsError, match=r"the tokenizer of local-dir:.* cannot be loaded"):
        token_loss([[LONG]], ["crow"], stored)
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}')
    with pytest.raises(AbsError, match="has no text_cfg"):
        configured(f"local-dir:{tmp_path}", None)


def test_the_closing_line_of_descriptions_says_what_was_cut(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = json.loads((DEMO / "prompts" / "cupl.json").read_text())
    texts = {name: [f"{LONG} a", f"{LONG} b"] for name in names}
    (tiny.parent / "cupl.json").write_text(json.dumps(texts))
    prompts = f"descriptions.cupl.file={tiny.parent / 'cupl.json'}"
    run = Run.of(str(tiny), "official", ["scores.n=4", prompts])
    for state in ("done", "cached"):
        run.make_alone("descriptions-cupl", [], quiet=False)
        told = capsys.readouterr().err
        assert f"descriptions-cupl: {state}" in told
        assert "descriptions-cupl: 4 of 4 texts are cut at 48 tokens, such as text 1 of" in told
        assert "descriptions-cupl: 2 of 4 texts get the vector of another text of their" in told
