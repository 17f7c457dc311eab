"""A timm ViT as a source of attention: its CLS row in every layer.

timm's fused attention keeps no maps, so the row is computed from the queries and keys that a
hook sees; it equals the full softmax's first row.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.layers import Attention
from torch import Tensor, nn

from pipeline.errors import AbsError
from pipeline.images import pixels
from pipeline.models.device import device_of, quiet
from pipeline.models.resolved import LOCAL, Resolved
from pipeline.models.sources import VitSource
from pipeline.runtime import Runtime


class AttentionVit:
    """A loaded ViT with a class token."""

    def __init__(self, source: VitSource, runtime: Runtime) -> None:
        self.device = device_of(runtime)
        self._batch = runtime.batch_size
        self._model = _build(source.resolved).to(self.device).eval().requires_grad_(False)
        config = self._model.pretrained_cfg
        self._side = int(self._model.patch_embed.img_size[0])
        self._mean = torch.tensor(config["mean"], device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(config["std"], device=self.device).view(1, 3, 1, 1)
        self._rows: list[Tensor] = []
        for block in self._model.blocks:
            block.attn.qkv.register_forward_hook(partial(self._keep_cls_row, block.attn))

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

    @torch.inference_mode()
    def attention(self, images: np.ndarray) -> np.ndarray:
        """Head-mean attention of the class token to each patch, not renormalised (Eq. 3).

        uint8 (n, 3, side, side) to float32 (n, layers, grid, grid).
        """
        parts = []
        for start in range(0, len(images), self._batch):
            batch = torch.from_numpy(images[start : start + self._batch]).to(self.device)
            self._rows.clear()
            self._model.forward_features((batch.float().div_(255) - self._mean) / self._std)
            parts.append(torch.stack(self._rows, dim=1).cpu())
        self._rows.clear()
        found = torch.cat(parts)
        return found.reshape(len(images), self.layers, self.grid, self.grid).numpy()

    def _keep_cls_row(self, attn: Attention, _: nn.Module, __: Any, qkv: Tensor) -> None:
        batch, tokens, width = qkv.shape
        heads = attn.num_heads
        qkv = qkv.reshape(batch, tokens, 3, heads, width // 3 // heads).float()
        query, key = attn.q_norm(qkv[:, 0, 0]), attn.k_norm(qkv[:, :, 1])
        row = torch.einsum("bhd,bthd->bht", query * attn.scale, key).softmax(dim=-1)
        self._rows.append(row.mean(dim=1)[:, self._model.num_prefix_tokens :])


def _build(model: Resolved) -> Any:
    local = model.name.startswith(LOCAL)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(model.seed or 0)
        try:
            built: Any = timm.create_model(
                model.name,
                pretrained=local,
                checkpoint_path="" if local or model.file is None else str(model.file),
            )
        except Exception as error:  # whatever a damaged file makes the library raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise AbsError(f"attention weights {model.file} cannot be loaded: {reason}") from None
    if not _has_class_attention(built):
        raise AbsError(f"attention.model: {model.name} is not a ViT with a class token")
    return built


def _has_class_attention(model: Any) -> bool:
    blocks = getattr(model, "blocks", [])
    plain = all(isinstance(getattr(block, "attn", None), Attention) for block in blocks)
    return bool(len(blocks)) and plain and getattr(model, "cls_token", None) is not None
