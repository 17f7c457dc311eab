"""A CLIP in a folder: its configuration, in open_clip's or transformers' layout, beside weights.

Read without importing either library. Only files that decide the model's output count, so that a
model is the same in a checkout, in a cache of the hub and in a folder of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.models.clip import transformers_layout
from pipeline.models.clip.of_transformers import families, processor
from pipeline.models.clip.preprocess import preprocess_of
from pipeline.models.clip.vision import vision_of
from pipeline.models.local_dir import (
    MERGES,
    OPEN_CLIP,
    TOKENIZER,
    TRANSFORMERS,
    FolderLayout,
)
from pipeline.models.resolved import LOCAL, Resolved

VOCABULARIES = tuple(name for name in TOKENIZER if name != TRANSFORMERS.config)
"""Files of a tokenizer beside a model whose `config.json` is in its identity already."""


@dataclass(frozen=True)
class FolderConfig:
    """Configuration of a CLIP, in open_clip's terms, or of transformers (`families.KEY`)."""

    path: Path
    """File that it was read from."""
    model: dict[str, Any]
    """Architecture (`model_cfg`)."""
    preprocess: Any
    """Preprocessing (`preprocess_cfg`); None if it is not given."""
    extra: tuple[Path, ...] = ()
    """Files that decide the tokenizer; none for open_clip's own with OpenAI's merges."""
    note: str = ""
    """Assumption, in one line; empty if there is none."""


def read_clip(folder: Path) -> Resolved:
    """Read a CLIP from a folder; AbsError if part of it is missing or is something else."""
    found = read_config(folder)
    name = f"{LOCAL}{folder}"
    preprocess_of(name, found.preprocess)
    architecture = {"model": found.model, "preprocess": found.preprocess}
    weights = _layout(folder).weights_in(folder)
    return Resolved(name, architecture, weights, extra=found.extra, note=found.note)


def read_config(folder: Path) -> FolderConfig:
    """Read the configuration of a CLIP in a folder; AbsError if it has none."""
    return _open_clip(folder) if _layout(folder) is OPEN_CLIP else _transformers(folder)


def _layout(folder: Path) -> FolderLayout:
    """Return the layout that a folder has whole, else the one whose configuration it has."""
    layouts = (OPEN_CLIP, TRANSFORMERS)
    present = [layout for layout in layouts if (folder / layout.config).is_file()]
    return next((layout for layout in present if layout.complete(folder)), [*present, OPEN_CLIP][0])


def config_beside(weights: Path) -> FolderConfig | None:
    """Return the configuration that lies beside a weights file; None if there is none.

    `config.json` is a name of many things: it counts beside weights under transformers' own names,
    and then comes first, as where the folder itself is given.
    """
    folder = weights.parent
    if weights.name in TRANSFORMERS.files and (folder / TRANSFORMERS.config).is_file():
        return _transformers(folder)
    return _open_clip(folder) if (folder / OPEN_CLIP.config).is_file() else None


def _open_clip(folder: Path) -> FolderConfig:
    """Read the configuration in open_clip's layout."""
    path = folder / OPEN_CLIP.config
    config = files.read_json(path, "model configuration")
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise AbsError(f"model configuration {path} has no model_cfg")
    model = config["model_cfg"]
    extra = tuple(_tokenizer_files(folder, model))
    return FolderConfig(path, model, config.get("preprocess_cfg"), extra)


def _transformers(folder: Path) -> FolderConfig:
    """Read the configuration in transformers' layout."""
    path = folder / TRANSFORMERS.config
    config = files.read_json(path, "model configuration")
    if not isinstance(config, dict):
        raise AbsError(f"model configuration {path} is not a mapping")
    if families.family_of(config):
        return _of_family(path, families.deciding(config))
    model = transformers_layout.model_config(path, config)
    side = vision_of(str(path), model).image_size
    preprocess = transformers_layout.preprocess_config(folder, side)
    missing = {
        "no preprocessor_config.json; assumed OpenAI mean and std, bicubic, shortest side":
            preprocess is not None,
        "no merges.txt or tokenizer.json; assumed OpenAI's tokenizer":
            transformers_layout.check_tokenizer(folder),
    }  # fmt: skip
    assumed = [what for what, there in missing.items() if not there]
    note = f"{folder}: {'; '.join(assumed)}" if assumed else ""
    return FolderConfig(path, model, preprocess, note=note)


def _of_family(path: Path, config: dict[str, Any]) -> FolderConfig:
    """Read the configuration of a model that open_clip has no counterpart for."""
    folder, model = path.parent, {families.KEY: config}
    side = vision_of(str(path), model).image_size
    preprocess = processor.preprocess_of(folder, config["model_type"], side)
    extra = tuple(folder / name for name in VOCABULARIES if (folder / name).is_file())
    if not extra:
        raise AbsError(f"{folder} has no files of the tokenizer that its model needs")
    return FolderConfig(path, model, preprocess, extra)


def _tokenizer_files(folder: Path, model: dict[str, Any]) -> list[Path]:
    """Return the files that decide the tokenizer; none for open_clip's own with OpenAI's merges."""
    text = model.get("text_cfg")
    name = text.get("hf_tokenizer_name") if isinstance(text, dict) else None
    paths = [folder / file for file in TOKENIZER if (folder / file).is_file()] if name else []
    if name and not paths:
        raise AbsError(f"{folder} has no files of the tokenizer {name} that its model needs")
    return paths or [path for path in [folder / MERGES] if path.is_file()]
