"""Plain implementation of the method: the baseline of `abs bench`.

It crops one box at a time with Pillow, computes every block for all tokens, in float32, and matches
with one large softmax. Boxes and windows are read from the store, so that both implementations use
the same ones.
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

from pipeline.datasets.images import decode

BATCH = 16


@dataclass(frozen=True)
class Plain:
    """Encoders of a plain implementation: an open_clip CLIP and a timm ViT, in float32."""

    clip: Any
    vit: Any

    def __post_init__(self) -> None:
        """Disable fused attention, which does not compute attention maps."""
        for block in self.vit.blocks:
            block.attn.fused_attn = False

    @property
    def device(self) -> torch.device:
        """Device of CLIP."""
        device: torch.device = self.clip.visual.proj.device
        return device

    @property
    def geometry(self) -> Callable[[Image.Image], Image.Image]:
        """Resize and centre crop of CLIP's preprocessing, from image to image."""
        steps = [s for s in self.transform.transforms if not isinstance(s, ToTensor | Normalize)]  # type: ignore[attr-defined]
        resize_and_crop: Callable[[Image.Image], Image.Image] = Compose(steps)
        return resize_and_crop

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Preprocessing of open_clip for CLIP."""
        preprocess = PreprocessCfg(size=self.clip.visual.image_size)
        transform: Callable[[Image.Image], Tensor] = image_transform_v2(preprocess, is_train=False)
        return transform

    def attention(self, files: list[Path]) -> Tensor:
        """Compute the class token's attention in the last layer: (images, patches)."""
        config, side = self.vit.pretrained_cfg, self.vit.patch_embed.img_size[0]
        mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
        rows: list[Tensor] = []
        device = next(self.vit.parameters()).device
        dropout = self.vit.blocks[-1].attn.attn_drop
        hook = dropout.register_forward_hook(
            lambda module, inputs, maps: rows.append(maps[:, :, 0, 1:].mean(1))
        )
        for file in files:
            image = decode(file.read_bytes()).resize((side, side), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
            self.vit.forward_features(((pixels - mean) / std)[None].to(device))
        hook.remove()
        return torch.cat(rows)

    def texts(self, texts: list[str]) -> Tensor:
        """Encode texts as unit vectors (texts, dim)."""
        return F.normalize(self.clip.encode_text(open_clip.tokenize(texts).to(self.device)), dim=-1)

    def images(self, files: list[Path]) -> Tensor:
        """Encode whole images as unit vectors (images, dim)."""
        transform = self.transform
        return self.encode([transform(decode(file.read_bytes())) for file in files])

    def boxes(self, files: list[Path], boxes: np.ndarray) -> Tensor:
        """Encode boxes (images, n, 4) as unit vectors (images, n, dim)."""
        transform, vectors = self.transform, []
        for file, image_boxes in zip(files, boxes.tolist(), strict=True):
            image = decode(file.read_bytes())
            vectors.append(self.encode([transform(image.crop(box)) for box in image_boxes]))
        return torch.stack(vectors)

    def windows(self, files: list[Path], windows: np.ndarray) -> Tensor:
        """Encode token windows (images, n, 4) as unit vectors (images, n, dim)."""
        transform, visual, vectors = self.transform, self.clip.visual, []
        *blocks, last = visual.transformer.resblocks
        for file, image_windows in zip(files, windows.tolist(), strict=True):
            pixels = transform(decode(file.read_bytes()))[None]
            tokens = visual._embeds(pixels.to(self.device))
            for block in blocks:
                tokens = block(tokens)
            grid = math.isqrt(tokens.shape[1] - 1)
            image = tokens[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))
            cut = torch.cat(
                [
                    F.interpolate(image[:, :, top:bottom, left:right], (grid, grid), mode="bicubic")
                    for left, top, right, bottom in image_windows
                ]
            )
            sequences = [tokens[:, :1].expand(len(cut), -1, -1), cut.flatten(2).transpose(1, 2)]
            embeddings = visual.ln_post(last(torch.cat(sequences, dim=1)))[:, 0] @ visual.proj
            vectors.append(F.normalize(embeddings, dim=-1))
        return torch.stack(vectors)

    def encode(self, batch: list[Tensor]) -> Tensor:
        """Encode preprocessed images as unit vectors (n, dim), in batches of `BATCH`."""
        pixels = torch.stack(batch).to(self.device)
        parts = [
            self.clip.encode_image(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)
        ]
        return F.normalize(torch.cat(parts), dim=-1)


def soft_match(crops: Tensor, texts: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Compute soft matching scores (images, classes) with one softmax over all texts.

    `crops` are (images, crops, dim), `texts` (n, dim), `labels` the class of each text (n,).
    """
    similarity = crops @ texts.T
    weighted = (similarity / temperature).softmax(dim=-1) * similarity
    scores = crops.new_zeros(*similarity.shape[:2], int(labels.max()) + 1)
    return scores.index_add_(2, labels, weighted).sum(dim=1)
