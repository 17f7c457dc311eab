"""Models that can be named in the settings, and those whose weights are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.paths import Paths
from pipeline.models.hub import Repository
from pipeline.models.resolved import is_file_name

SOURCES = ("clip", "random")
"""Sources of attention besides ViTs of timm, which need no weights of their own."""


@dataclass(frozen=True)
class Known:
    """A model with the name of its weights."""

    section: str
    """Section of the settings that names it: `clip` or `attention`."""
    model: str
    """Value of `model`."""
    weights: str | None
    """Value of `weights`."""
    file: Path | None
    """Weights on this machine; None if they would be downloaded."""

    @property
    def overrides(self) -> list[str]:
        """Settings that choose the model, as for `--set`."""
        weights = "null" if self.weights is None else self.weights
        return [f"{self.section}.model={self.model}", f"{self.section}.weights={weights}"]

    def as_dict(self) -> dict[str, Any]:
        """Return a row for a list of models, as JSON types."""
        place = str(self.file) if self.file else ""
        return {
            "section": self.section,
            "model": self.model,
            "weights": self.weights,
            "at hand": place,
        }


def clips(paths: Paths) -> Iterator[Known]:
    """Yield the CLIPs of open_clip that can be split for feature crops, with every tag."""
    import open_clip

    from pipeline.models.clip.names import HUB_NAMES
    from pipeline.models.clip.vision import vision_of

    for model, tag in open_clip.list_pretrained():
        try:
            vision_of(model, open_clip.get_model_config(model))
        except ConfigError:
            continue
        known = open_clip.get_pretrained_cfg(model, tag)
        repository, _, name = str(known.get("hf_hub", "")).rpartition("/")
        names = (name,) if name else HUB_NAMES
        yield Known("clip", model, tag, _local(repository, names, known.get("url"), paths))


def attention_models(paths: Paths) -> Iterator[Known]:
    """Yield the sources of attention that need no weights, and the ViTs of timm named DINO."""
    import timm

    from pipeline.models.attention.names import HUB_NAMES

    for source in SOURCES:
        yield Known("attention", source, None, None)
    for model in timm.list_pretrained("vit_*.dino*"):
        known = timm.get_pretrained_cfg(model)
        names = (known.hf_hub_filename,) if known.hf_hub_filename else HUB_NAMES
        found = _local(known.hf_hub_id, names, known.url, paths)
        yield Known("attention", model, "pretrained", found)


def _local(repository: str, names: tuple[str, ...], url: str | None, paths: Paths) -> Path | None:
    """Return the weights file of a repository, or of a URL, if it is on this machine."""
    try:
        place = Repository(repository, paths, "")
    except (ConfigError, TypeError):
        return None
    last = Path(url or "").name
    return place.at_hand(names, last if is_file_name(last) else "")


def clip_at_hand(paths: Paths, model: str) -> Known | None:
    """Return a CLIP whose weights are on this machine, if possible of the architecture `model`.

    OpenAI's weights come first; None if there are none.
    """
    found = [known for known in clips(paths) if known.file]
    if found:
        return min(found, key=lambda known: (known.model != model, known.weights != "openai"))
    return None


def attention_at_hand(paths: Paths) -> Known | None:
    """Return a ViT for attention whose weights are on this machine, the smallest; else None."""
    try:
        found = [known for known in attention_models(paths) if known.file]
    except AbsError:
        return None
    sized = {known: known.file.stat().st_size for known in found if known.file}
    return min(sized, key=lambda known: sized[known]) if sized else None
