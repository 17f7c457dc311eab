"""Pictures of an image as CLIP sees it, also where the run was made on another machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.core.errors import AbsError
from pipeline.core.hash_cache import HashCache
from pipeline.models.clip.preprocess import OPENAI, preprocess_of
from pipeline.models.clip.source import ClipSource
from pipeline.models.clip.vision import vision_of
from pipeline.models.config import RANDOM
from pipeline.models.resolved import HUB, LOCAL, is_file_name
from pipeline.settings import Settings
from pipeline.views.config import TokenGrid


def token_grid(settings: Settings) -> TokenGrid | None:
    """Return CLIP's token grid with the part of an image that it covers.

    Nothing is downloaded and no weights are read. Returns None for a model that is not known here:
    a folder that is gone, or a repository or weights file that no run on this store used.
    """
    try:
        model, architecture = settings.clip.model, _architecture(settings)
        if architecture is None:
            return None
        vision = vision_of(model, architecture["model"])
        mode = preprocess_of(model, architecture["preprocess"]).resize_mode
    except AbsError:
        return None
    return TokenGrid(tokens=vision.grid, pixels=vision.image_size, mode=mode)


def frame(grid: TokenGrid, width: int, height: int) -> list[float]:
    """Return what CLIP sees of an image: left, top, right, bottom in pixels of the image.

    Where the image is padded, the ends lie outside of it.
    """
    view = grid.view(width, height)
    scale = width / view.lengths[0], height / view.lengths[1]
    left, top = (view.offsets[axis] * scale[axis] for axis in (0, 1))
    return [left, top, left + view.side * scale[0], top + view.side * scale[1]]


def _architecture(settings: Settings) -> dict[str, Any] | None:
    """Return the configuration of a folder, of what a run on this store resolved (a repository
    too), or of a published name.
    """
    model, weights = settings.clip.model, settings.clip.weights or ""
    source = ClipSource(settings.clip, settings.paths, HashCache(Path(os.devnull)))
    if model.startswith(LOCAL):
        return source.resolved.architecture
    if (resolved := source.from_cache()) is not None:
        return resolved.architecture
    if model.startswith(HUB) or (is_file_name(weights) and not weights.startswith(RANDOM)):
        return None
    import open_clip

    config, tag = open_clip.get_model_config(model), open_clip.get_pretrained_cfg(model, weights)
    preprocess = {name: tag[name] for name in OPENAI if name in (tag or {})}
    return {"model": config, "preprocess": preprocess} if config else None
