"""A timm ViT as a source of attention: its CLS row in every layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import AbsError, ConfigError
from pipeline.images import Images, pixels
from pipeline.models import weights
from pipeline.models.class_rows import ANOTHER, ClassRows, fuse
from pipeline.models.device import device_of, quiet
from pipeline.models.resolved import Resolved
from pipeline.models.sources import VitSource
from pipeline.runtime import Runtime


class AttentionVit:
    """A loaded ViT with a class token."""

    def __init__(self, source: VitSource, runtime: Runtime) -> None:
        self.device = device_of(runtime)
        self._batch = runtime.batch_size
        self._name = source.config.model
        self._model = _build(source.resolved).to(self.device).eval().requires_grad_(False)
        check(self._model, self._name)
        config = self._model.pretrained_cfg
        self._side = int(self._model.patch_embed.img_size[0])
        self._mean = torch.tensor(config["mean"], device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(config["std"], device=self.device).view(1, 3, 1, 1)

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self._model.blocks)

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return int(self._model.patch_embed.grid_size[0])

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """The whole image squashed to the model's square, bilinear: uint8 (3, side, side).

        The released code feeds DINO so; timm's own transform would crop the border away.
        """
        return pixels(image.resize((self._side, self._side), Image.Resampling.BILINEAR))

    def read(self, images: Images, rows: slice) -> np.ndarray:
        """The images of `rows`, preprocessed: uint8 (n, 3, side, side)."""
        return np.stack([self.preprocess(image) for image in images.block(rows)])

    @torch.inference_mode()
    def attention(self, images: np.ndarray) -> np.ndarray:
        """Head-mean attention of the class token to each patch, not renormalised (Eq. 3).

        uint8 (n, 3, side, side) to float32 (n, layers, grid, grid).
        """
        parts = []
        for start in range(0, len(images), self._batch):
            batch = torch.from_numpy(images[start : start + self._batch]).to(self.device)
            batch = (batch.float().div_(255) - self._mean) / self._std
            parts.append(class_attention(self._model, batch, self._name).cpu())
        return np.asarray(torch.cat(parts).numpy())


def class_attention(model: Any, batch: Tensor, name: str) -> Tensor:
    """Maps of the class token in every block: (n, 3, side, side) to (n, blocks, grid, grid)."""
    rows = ClassRows()
    with rows:
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
