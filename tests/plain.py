"""The method as one would write it down in an afternoon: what `make bench` measures against.

Crop by crop with Pillow, every block in full, float32, one large softmax. Only the places of crops
and windows are taken from the store, so that both ways work on the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor

BATCH = 16


@dataclass(frozen=True)
class Plain:
    """An open_clip CLIP and a timm ViT, in float32."""

    clip: Any
    vit: Any

    def __post_init__(self) -> None:
        """Have every attention of the ViT show its maps."""
        for block in self.vit.blocks:
            block.attn.fused_attn = False

    @property
    def device(self) -> torch.device:
        """Where CLIP is."""
        found: torch.device = self.clip.visual.proj.device
        return found

    @property
    def geometry(self) -> Callable[[Image.Image], Image.Image]:
        """That without what makes it a tensor."""
        steps = [s for s in self.transform.transforms if not isinstance(s, ToTensor | Normalize)]  # type: ignore[attr-defined]
        found: Callable[[Image.Image], Image.Image] = Compose(steps)
        return found

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """CLIP's own preprocessing."""
        preprocess = PreprocessCfg(**self.clip.visual.preprocess_cfg)
        found: Callable[[Image.Image], Tensor] = image_transform_v2(preprocess, is_train=False)
        return found

    def attention(self, files: list[Path]) -> Tensor:
        """(images, patches): the last layer's attention of the class token."""
        config, side = self.vit.pretrained_cfg, self.vit.patch_embed.img_size[0]
        mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
        rows: list[Tensor] = []
        device = next(self.vit.parameters()).device
        dropout = self.vit.blocks[-1].attn.attn_drop
        hook = dropout.register_forward_hook(
            lambda *told: rows.append(told[2][:, :, 0, 1:].mean(1))
        )
        for file in files:
            image = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
            self.vit.forward_features(((pixels - mean) / std)[None].to(device))
        hook.remove()
        return torch.cat(rows)

    def texts(self, texts: list[str]) -> Tensor:
        """(texts, dim)"""
        return F.normalize(self.clip.encode_text(open_clip.tokenize(texts).to(self.device)), dim=-1)

    def images(self, files: list[Path]) -> Tensor:
        """(images, dim)"""
        transform = self.transform
        return self.encode([transform(Image.open(file).convert("RGB")) for file in files])

    def boxes(self, files: list[Path], boxes: np.ndarray) -> Tensor:
        """Boxes (images, n, 4) to (images, n, dim)."""
        transform, found = self.transform, []
        for file, of_image in zip(files, boxes.tolist(), strict=True):
            image = Image.open(file).convert("RGB")
            found.append(self.encode([transform(image.crop(box)) for box in of_image]))
        return torch.stack(found)

    def windows(self, files: list[Path], windows: np.ndarray) -> Tensor:
        """Windows of tokens (images, n, 4) to (images, n, dim), through the whole last block."""
        transform, visual, found = self.transform, self.clip.visual, []
        *blocks, last = visual.transformer.resblocks
        for file, of_image in zip(files, windows.tolist(), strict=True):
            pixels = transform(Image.open(file).convert("RGB"))[None]
            tokens = visual._embeds(pixels.to(self.device))
            for block in blocks:
                tokens = block(tokens)
            grid = math.isqrt(tokens.shape[1] - 1)
            image = tokens[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))
            cut = torch.cat(
                [
                    F.interpolate(image[:, :, top:bottom, left:right], (grid, grid), mode="bicubic")
                    for left, top, right, bottom in of_image
                ]
            )
            sequences = [tokens[:, :1].expand(len(cut), -1, -1), cut.flatten(2).transpose(1, 2)]
            after = visual.ln_post(last(torch.cat(sequences, dim=1)))[:, 0] @ visual.proj
            found.append(F.normalize(after, dim=-1))
        return torch.stack(found)

    def encode(self, batch: list[Tensor]) -> Tensor:
        """Preprocessed images to unit vectors (n, dim)."""
        pixels = torch.stack(batch).to(self.device)
        parts = [
            self.clip.encode_image(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)
        ]
        return F.normalize(torch.cat(parts), dim=-1)


def soft_match(crops: Tensor, texts: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """(images, crops, dim) and texts (n, dim) of classes (n,) to (images, classes), at once."""
    similarity = crops @ texts.T
    share = (similarity / temperature).softmax(dim=-1) * similarity
    scores = crops.new_zeros(*similarity.shape[:2], int(labels.max()) + 1)
    return scores.index_add_(2, labels, share).sum(dim=1)
