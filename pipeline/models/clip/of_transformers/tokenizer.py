"""Tokenizers of transformers' models, read from the model's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import AbsError
from pipeline.models.clip.of_transformers.families import FAMILIES, context_length, padding, part

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class TransformersTokenizer:
    """A tokenizer of the class that the model's family needs, loaded on first use."""

    folder: Path
    """Folder with the files of the tokenizer."""
    config: Mapping[str, Any]
    """Content of the model's `config.json`."""

    @property
    def context_length(self) -> int:
        """Number of tokens that the text encoder reads: as many as it has positions."""
        return context_length(self.config)

    def tokens(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Return the tokens of texts, each cut or padded to `length`: int64 (texts, length).

        AbsError if the tokenizer cannot be loaded.
        """
        return self._encoded(texts, "max_length", length).numpy()

    def loaded(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens of texts, padded to the longest: int64 (texts, tokens)."""
        return self._encoded(texts, "longest", self.context_length)

    def _encoded(self, texts: Sequence[str], to: str, length: int) -> Tensor:
        options = {"truncation": True, "max_length": length, "return_tensors": "pt"}
        tokens: Tensor = self._own(list(texts), padding=to, **options)["input_ids"]
        return tokens

    @cached_property
    def _own(self) -> Any:
        """Tokenizer of transformers; AbsError if it cannot be loaded, or does not fit the model."""
        import transformers

        from pipeline.models.device import quiet
        from pipeline.models.weights import short_reason

        family = FAMILIES[self.config["model_type"]]
        try:
            with quiet():
                found = getattr(transformers, family.tokenizer).from_pretrained(
                    str(self.folder), local_files_only=True
                )
        except Exception as error:  # of many types, for files of another tokenizer
            reason = short_reason(error)
            raise AbsError(f"the tokenizer in {self.folder} cannot be loaded: {reason}") from None
        known = part(self.config, family.text).get("vocab_size", len(found))
        if len(found) > known:
            raise AbsError(
                f"the tokenizer in {self.folder} has {len(found):,} tokens, its model {known:,}"
            )
        pad = padding(self.config)
        if pad not in (None, found.pad_token_id):
            raise AbsError(
                f"the tokenizer in {self.folder} pads with token {found.pad_token_id}, its model "
                f"with {pad}"
            )
        found.padding_side = "right"  # the first token is read, whatever a folder was saved for
        return found
