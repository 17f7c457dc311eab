"""A timm ViT as a source of attention: its CLS row in every layer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor

from pipeline.errors import AbsError, ConfigError
from pipeline.images import Images
from pipeline.models import weights
from pipeline.models.batches import Batches, Normalise
from pipeline.models.class_rows import ANOTHER, ClassRows, Enough, fuse
from pipeline.models.device import device_of, quiet
from pipeline.models.precision import dtype_of
from pipeline.models.preprocessing import squashed
from pipeline.models.resolved import Resolved
from pipeline.models.sources import VitSource
from pipeline.runtime import Runtime


class AttentionVit:
    """A loaded ViT with a class token."""

    def __init__(self, source: VitSource, runtime: Runtime) -> None:
        device, dtype = device_of(runtime), dtype_of(source.config.precision)
        self._name = source.config.model
        self._model = _build(source.resolved).to(device, dtype).eval().requires_grad_(False)
        check(self._model, self._name)
        self._in_batches = Batches(runtime, device)
        self._seen_whole = False
        config, side = self._model.pretrained_cfg, int(self._model.patch_embed.img_size[0])
        self.preprocess = squashed(side, "bilinear", device)
        self._normalise = Normalise(config["mean"], config["std"], device, dtype)

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self._model.blocks)

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return int(self._model.patch_embed.grid_size[0])

    @property
    def facts(self) -> dict[str, Any]:
        """Device and batch size."""
        return self._in_batches.facts

    def read(self, images: Images, rows: slice) -> Tensor:
        """The images of `rows`, preprocessed: uint8 (n, 3, side, side)."""
        return torch.cat([self.preprocess(image) for image in images.block(rows)])

    @torch.inference_mode()
    def attention(self, images: Tensor) -> np.ndarray:
        """Head-mean attention of the class token to each patch, not renormalised (Eq. 3).

        uint8 (n, 3, side, side) to float32 (n, layers, grid, grid).
        """

        def maps(batch: Tensor) -> Tensor:
            # The first batch runs to the end, which shows that there are no more attentions.
            whole, pixels = not self._seen_whole, self._normalise(batch)
            found = class_attention(self._model, pixels, self._name, whole)
            self._seen_whole = True
            return found

        return np.asarray(self._in_batches(maps, images).cpu().numpy())


def class_attention(model: Any, batch: Tensor, name: str, whole: bool = True) -> Tensor:
    """Maps of the class token in every block: (n, 3, side, side) to (n, blocks, grid, grid).

    whole: whether the model runs to its end, or only up to its last attention.
    """
    rows = ClassRows(None if whole else len(model.blocks))
    with suppress(Enough), rows:
        model.forward_features(batch)
    grid, prefix = int(model.patch_embed.grid_size[0]), getattr(model, "num_prefix_tokens", 1)
    return rows.maps(f"attention.model: {name}", len(model.blocks), prefix, grid)


def check(model: Any, name: str) -> None:
    """Make a timm model ready for `class_attention`; ConfigError if it is no ViT that has any."""
    blocks, patches = getattr(model, "blocks", None), getattr(model, "patch_embed", None)
    grid, side = getattr(patches, "grid_size", None), getattr(patches, "img_size", None)
    if not blocks or not grid or not side:
        raise ConfigError(f"attention.model: {name} is not a plain ViT; {ANOTHER}")
    if getattr(model, "cls_token", None) is None:
        raise ConfigError(f"attention.model: {name} has no class token; {ANOTHER}")
    if grid[0] != grid[1] or side[0] != side[1]:
        raise ConfigError(f"attention.model: {name} has a grid of {grid}, not a square")
    fuse(model.modules())


def check_name(name: str) -> None:
    """ConfigError if the architecture `name` has no class attention; nothing is computed.

    One that does not run without values is let pass; it is checked again once it is loaded.
    """
    with torch.device("meta"), torch.inference_mode(), quiet():
        try:
            model = timm.create_model(name).eval()
            check(model, name)
            class_attention(model, torch.zeros(1, 3, *model.patch_embed.img_size), name)
        except AbsError:
            raise
        except Exception:  # whatever an architecture does that needs values
            return


def _build(model: Resolved) -> Any:
    tensors = weights.read(model.file) if model.file else None
    # With a state dict at hand, timm translates names of the model's first publication.
    overlay = {"source": "", "state_dict": tensors} if tensors else None
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(model.seed or 0)
        try:
            built: Any = timm.create_model(
                model.name, pretrained=bool(tensors), pretrained_cfg_overlay=overlay
            )
        except Exception as error:  # whatever weights of another model make the library raise
            reason = weights.in_one_line(error)
            raise AbsError(f"attention weights {model.file} do not fit: {reason}") from None
    built.pretrained_cfg.pop("state_dict", None)
    return built
