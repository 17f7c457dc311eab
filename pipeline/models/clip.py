"""CLIP through open_clip: preprocessing, the two encoders, and the image encoder in two halves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor

from pipeline.errors import AbsError
from pipeline.images import pixels
from pipeline.kernels.feature_crops import Sequences, finish
from pipeline.models import weights
from pipeline.models.class_rows import class_row
from pipeline.models.clip_weights import fill
from pipeline.models.device import device_of, quiet
from pipeline.models.folders import MERGES
from pipeline.models.resolved import Resolved
from pipeline.models.sources import ClipSource
from pipeline.runtime import Runtime


class Clip:
    """A loaded CLIP. Embeddings are unit vectors, float32 on the CPU."""

    def __init__(self, source: ClipSource, runtime: Runtime) -> None:
        self.device = device_of(runtime)
        self._batch = runtime.batch_size
        model, transform = _build(source.resolved)
        self._model = model.to(self.device).eval().requires_grad_(False)
        self._visual = _plain_vit(model)
        self._blocks = list(self._visual.transformer.resblocks)
        self._tokenizer = _tokenizer(source.resolved)
        steps = transform.transforms
        self._geometry = Compose([s for s in steps if not isinstance(s, ToTensor | Normalize)])
        normalize = next(s for s in steps if isinstance(s, Normalize))
        self._mean = torch.tensor(normalize.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(normalize.std, device=self.device).view(1, 3, 1, 1)

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """CLIP's own resize and crop of an RGB image: uint8 (3, side, side)."""
        return pixels(self._geometry(image))

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Tensor:
        """(texts, dim)"""
        parts = []
        for start in range(0, len(texts), self._batch):
            tokens = self._tokenizer(texts[start : start + self._batch]).to(self.device)
            parts.append(unit(self._model.encode_text(tokens)))
        return torch.cat(parts)

    @torch.inference_mode()
    def encode_images(self, images: np.ndarray) -> Tensor:
        """uint8 (n, 3, side, side) to (n, dim)"""
        return torch.cat(
            [self._finish(Sequences(self._embed(b)), 0) for b in self._batches(images)]
        )

    @torch.inference_mode()
    def tokens_before(self, images: np.ndarray, layer: int) -> Tensor:
        """Tokens that enter block `layer`: (n, 1 + grid * grid, width), the class token first."""
        parts = []
        for batch in self._batches(images):
            tokens = self._embed(batch)
            for block in self._blocks[:layer]:
                tokens = block(tokens)
            parts.append(tokens.cpu())
        return torch.cat(parts)

    @torch.inference_mode()
    def finish(self, sequences: Sequences, layer: int) -> Tensor:
        """Blocks from `layer` on, final norm and projection: n sequences to (n, dim)."""
        batches = sequences.split(self._batch)
        return torch.cat([self._finish(b.to(self.device), layer) for b in batches])

    @torch.inference_mode()
    def cls_attention(self, images: np.ndarray) -> np.ndarray:
        """Head-mean attention of the class token to each patch, not renormalised (Eq. 3).

        uint8 (n, 3, side, side) to float32 (n, layers, grid, grid).
        """
        parts = []
        for batch in self._batches(images):
            tokens = self._embed(batch)
            rows = []
            for block in self._blocks:
                rows.append(class_row(block, tokens))
                tokens = block(tokens)
            parts.append(torch.stack(rows, dim=1)[:, :, 1:].cpu())
        maps = torch.cat(parts).unflatten(2, self._visual.grid_size)
        return np.asarray(maps.numpy())

    def _finish(self, sequences: Sequences, layer: int) -> Tensor:
        return unit(finish(self._visual, sequences, layer))

    def _embed(self, batch: Tensor) -> Tensor:
        tokens: Tensor = self._visual._embeds(batch)
        return tokens

    def _batches(self, images: np.ndarray) -> Iterator[Tensor]:
        for start in range(0, len(images), self._batch):
            batch = torch.from_numpy(images[start : start + self._batch]).to(self.device)
            yield (batch.float().div_(255) - self._mean) / self._std


def _plain_vit(model: Any) -> VisionTransformer:
    visual = model.visual
    plain = isinstance(visual, VisionTransformer) and visual.attn_pool is None
    if not plain or visual.pool_type != "tok" or visual.proj is None:
        raise AbsError("clip.model: needs a ViT of open_clip whose class token is projected")
    blocks = visual.transformer.resblocks
    if not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
        raise AbsError("clip.model: needs a ViT of open_clip with plain blocks")
    return visual


def unit(vectors: Tensor) -> Tensor:
    """Rows scaled to length 1, float32 on the CPU."""
    return F.normalize(vectors.float(), dim=-1).cpu()


def _build(model: Resolved) -> tuple[Any, Compose]:
    tensors = weights.read(model.file) if model.file else None
    preprocess = model.architecture["preprocess"] or {}
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(model.seed or 0)
        try:
            built, _, transform = open_clip.create_model_and_transforms(
                model.name,
                load_weights=False,
                pretrained_text=False,
                image_mean=preprocess.get("mean"),
                image_std=preprocess.get("std"),
                image_interpolation=preprocess.get("interpolation"),
                image_resize_mode=preprocess.get("resize_mode"),
                precision="fp32",
            )
            if tensors:
                fill(built, tensors)
        except Exception as error:  # whatever weights of another model make the library raise
            reason = weights.in_one_line(error)
            raise AbsError(f"{model.name} with weights {model.file}: {reason}") from None
    return built, transform


def _tokenizer(model: Resolved) -> Any:
    """open_clip's own, with the merges that lie beside the weights if there are any."""
    merges = [path for path in model.extra if path.name == MERGES]
    try:
        with quiet():
            own = {"bpe_path": str(merges[0])} if merges else {}
            return open_clip.get_tokenizer(model.name, **own)
    except Exception as error:  # whatever a tokenizer of another library lacks
        reason = weights.in_one_line(error)
        raise AbsError(f"the tokenizer of {model.name} cannot be loaded: {reason}") from None
