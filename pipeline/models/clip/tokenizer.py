"""The tokenizer of a CLIP, without weights: open_clip's own, or one stored with the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.core.paths import Paths
from pipeline.models.clip.folder import read_config
from pipeline.models.clip.of_transformers import families
from pipeline.models.clip.of_transformers.tokenizer import TransformersTokenizer
from pipeline.models.config import ClipConfig
from pipeline.models.local_dir import MERGES, OPEN_CLIP, TRANSFORMERS
from pipeline.models.resolved import HUB, LOCAL, Resolved

if TYPE_CHECKING:
    import numpy as np

    from pipeline.models.clip.byte_pairs import BytePairs

OPENAI_MERGES = "bpe_simple_vocab_16e6.txt.gz"
"""OpenAI's merges in open_clip's package."""

DEFAULT_LENGTH = 77
"""Tokens of a text where the configuration has no `context_length`, as in open_clip."""


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer that open_clip loads on first use."""

    model: str
    """Name of an architecture of open_clip, or `local-dir:` with a full path."""
    text: dict[str, Any]
    """The `text_cfg` of the model's configuration."""
    merges: Path | None = None
    """Merges of the model; None for OpenAI's."""
    folder: Path | None = None
    """Folder of a tokenizer of transformers; None where open_clip looks for it by its name."""

    @classmethod
    def of(cls, model: Resolved) -> Tokenizer | TransformersTokenizer:
        """Return the tokenizer of a resolved model."""
        if config := model.architecture["model"].get(families.KEY):
            return TransformersTokenizer(model.extra[0].parent, config)
        text = model.architecture["model"]["text_cfg"]
        if text.get("hf_tokenizer_name") and model.extra:
            return cls(model.name, text, folder=model.extra[0].parent)
        merges = [path for path in model.extra if path.name == MERGES]
        return cls(model.name, text, *merges)

    @property
    def context_length(self) -> int:
        """Number of tokens that the text encoder reads, the first and the last included."""
        return int(self.text.get("context_length", DEFAULT_LENGTH))

    def tokens(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Return the tokens of texts, each cut or padded to `length`: int64 (texts, length).

        open_clip is imported only for a tokenizer that is not OpenAI's. AbsError if the tokenizer
        cannot be loaded.
        """
        if self.folder or self.text.keys() & {"hf_tokenizer_name", "tokenizer_kwargs"}:
            return self.loaded(list(texts), context_length=length).numpy()  # type: ignore[no-any-return]
        return self._byte_pairs(texts, length)

    @cached_property
    def _byte_pairs(self) -> BytePairs:
        from pipeline.models.clip.byte_pairs import BytePairs

        with self._loading():
            return BytePairs(self.merges or _open_clip() / OPENAI_MERGES)

    @cached_property
    def loaded(self) -> Any:
        """open_clip's tokenizer; AbsError if it cannot be loaded."""
        import open_clip

        from pipeline.models.device import quiet

        options = {"bpe_path": str(self.merges)} if self.merges else {}
        options |= self.text.get("tokenizer_kwargs") or {}
        with self._loading(), quiet():
            if self.folder:
                mode = self.text.get("tokenizer_mode")
                more = {"context_length": self.context_length, "tokenizer_mode": mode}
                return open_clip.tokenizer.HFTokenizer(str(self.folder), **more, **options)
            if self.text.get("hf_tokenizer_name"):
                return open_clip.get_tokenizer(self.model)
            return open_clip.SimpleTokenizer(context_length=self.context_length, **options)

    @contextmanager
    def _loading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of many types, for other libraries' tokenizers
            from pipeline.models.weights import short_reason

            reason = short_reason(error)
            raise AbsError(f"the tokenizer of {self.model} cannot be loaded: {reason}") from None


def find_tokenizer(config: ClipConfig, paths: Paths) -> Tokenizer | TransformersTokenizer:
    """Return the tokenizer of a configured CLIP without its weights, and without a download.

    AbsError if the model's configuration or its tokenizer is not on this machine.
    """
    if not config.model.startswith((LOCAL, HUB)):
        return _built_in(config.model)
    folder = _folder(config.model, paths)
    found = read_config(folder)
    if described := found.model.get(families.KEY):
        return TransformersTokenizer(folder, described)
    merges = [path for path in found.extra if path.name == MERGES]
    return Tokenizer(f"{LOCAL}{folder}", _text_of(found.model, folder), *merges)


def _built_in(name: str) -> Tokenizer:
    """Return the tokenizer of an architecture of open_clip, which is not imported."""
    file = _open_clip() / "model_configs" / f"{name.replace('/', '-')}.json"
    if not file.is_file():
        raise AbsError(f"clip.model: open_clip has no model {name!r}")
    text = _text_of(files.read_json(file, "model configuration"), file)
    if other := text.get("hf_tokenizer_name"):
        raise AbsError(f"the tokenizer {other} of {name} is loaded only with the model")
    return Tokenizer(name, text)


def _open_clip() -> Path:
    """Return the folder of open_clip's package, which is not imported."""
    spec = find_spec("open_clip")
    return Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path()


def _text_of(model: Any, where: Path) -> dict[str, Any]:
    text = model.get("text_cfg") if isinstance(model, dict) else None
    if not isinstance(text, dict):
        raise AbsError(f"clip.model: the configuration in {where} has no text_cfg")
    return text


def _folder(model: str, paths: Paths) -> Path:
    if model.startswith(LOCAL):
        return paths.find(model.removeprefix(LOCAL), "model folder", "clip.model")
    from pipeline.models.hub import Repository  # imports huggingface_hub

    repository = Repository(model.removeprefix(HUB), paths, "")
    for layout in (OPEN_CLIP, TRANSFORMERS):
        if found := repository.copy(layout.config):
            return found.parent
    raise AbsError(f"{model} is not on this machine")
