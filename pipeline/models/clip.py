"""CLIP through open_clip: preprocessing, the two encoders, and the image encoder in two halves."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import cached_property
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import convert_weights_to_lp
from open_clip.transformer import (
    LayerNorm,
    LayerNormFp32,
    ResidualAttentionBlock,
    VisionTransformer,
)
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor

from pipeline.errors import AbsError
from pipeline.kernels.blocks import all_tokens_after
from pipeline.kernels.feature_crops import (
    Sequences,
    encode_windows,
    finish,
    prompt_windows,
)
from pipeline.kernels.prompt_names import FeaturePrompt
from pipeline.kernels.resize import Resizer
from pipeline.models import weights
from pipeline.models.batches import Batches, Normalise
from pipeline.models.class_rows import class_row
from pipeline.models.clip_weights import fill
from pipeline.models.device import device_of, quiet
from pipeline.models.folders import MERGES
from pipeline.models.precision import dtype_of
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.resolved import Resolved
from pipeline.models.sources import ClipSource
from pipeline.runtime import Runtime


class Clip:
    """A loaded CLIP. Embeddings are unit vectors, float32 on the CPU."""

    def __init__(self, source: ClipSource, runtime: Runtime) -> None:
        self.device = device_of(runtime)
        model, transform = _build(source.resolved)
        visual, dtype = _plain_vit(model), dtype_of(source.config.precision)
        _convert(model, visual, dtype)
        # Nothing asks for gradients here, but only for weights that could have them torch folds a
        # batch of texts into one product: in bfloat16 that is four times as fast.
        self._model = model.to(self.device).eval()
        self._visual, self._blocks = visual, list(visual.transformer.resblocks)
        self._tokenizer = _tokenizer(source.resolved)
        self._in_batches = Batches(runtime, self.device)
        steps = transform.transforms
        self.preprocess = Preprocessing(
            Resizer(source.image_size, source.resize_mode, source.interpolation),
            Compose([step for step in steps if not isinstance(step, ToTensor | Normalize)]),
            self.device,
        )
        (known,) = (step for step in steps if isinstance(step, Normalize))
        self._normalise = Normalise(known.mean, known.std, self.device, dtype)

    @property
    def facts(self) -> dict[str, Any]:
        """Device and batch size."""
        return self._in_batches.facts

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Tensor:
        """(texts, dim)"""
        tokens = self._tokenizer(texts)
        return _unit(self._in_batches(lambda b: self._model.encode_text(b.to(self.device)), tokens))

    @torch.inference_mode()
    def encode_images(self, images: Tensor, full: bool = False) -> Tensor:
        """uint8 (n, 3, side, side) to (n, dim); `full` as of `Batches`."""

        def vectors(batch: Tensor) -> Tensor:
            return finish(self._visual, Sequences(self._embed(batch)), 0)

        return _unit(self._in_batches(vectors, images, full))

    @torch.inference_mode()
    def tokens_before(self, images: Tensor, layer: int) -> Tensor:
        """Tokens that enter block `layer`, (n, 1 + grid * grid, width), the class token first, on
        the device and of the precision of the blocks before."""

        def tokens(batch: Tensor) -> Tensor:
            found = self._embed(batch)
            for block in self._blocks[:layer]:
                found = all_tokens_after(block, found)
            return found

        return self._in_batches(tokens, images)

    @torch.inference_mode()
    def encode_windows(
        self, tokens: Tensor, rows: Tensor, layer: int, prompt: FeaturePrompt, gain: float
    ) -> Tensor:
        """Windows of images' tokens that enter block `layer`: (images, ...) and (n, 5) to (n, dim).

        rows: the image, then the window; by image. A vector does not depend on the other windows:
        of the last block, where those of an image share almost all that is to be done, because it
        is worked out in float64 and rounded; before, because batches are full.
        """
        if prompt == "crop" and layer in (-1, len(self._blocks) - 1):
            found = [
                encode_windows(self._exact_end, tokens[i], windows, layer)
                for i, windows in _by_image(rows)
            ]
            return _unit(torch.cat(found))

        def vectors(batch: Tensor) -> Tensor:
            parts = [
                prompt_windows(tokens[i], windows, prompt, gain) for i, windows in _by_image(batch)
            ]
            return finish(self._visual, Sequences.joined(parts), layer)

        return _unit(self._in_batches(vectors, rows, full=True))

    @torch.inference_mode()
    def cls_attention(self, images: Tensor) -> np.ndarray:
        """Head-mean attention of the class token to each patch, not renormalised (Eq. 3).

        uint8 (n, 3, side, side) to float32 (n, layers, grid, grid).
        """

        def rows(batch: Tensor) -> Tensor:
            tokens, found = self._embed(batch), []
            for block in self._blocks:
                found.append(class_row(block, tokens))
                tokens = all_tokens_after(block, tokens)
            return torch.stack(found, dim=1)[:, :, 1:]

        maps = self._in_batches(rows, images).unflatten(2, self._visual.grid_size)
        return np.asarray(maps.cpu().numpy())

    @cached_property
    def _exact_end(self) -> VisionTransformer:
        """The same encoder with its last block, norm and projection in float64, where there is."""
        if self.device.type == "mps":
            return self._visual
        end = deepcopy(self._visual, {id(block): block for block in self._blocks[:-1]})
        for part in (end.transformer.resblocks[-1], end.ln_post):
            for module in part.double().modules():
                if isinstance(module, LayerNormFp32):
                    module.__class__ = LayerNorm
        assert end.proj is not None
        end.proj.data = end.proj.data.double()
        return end

    def _embed(self, batch: Tensor) -> Tensor:
        tokens: Tensor = self._visual._embeds(self._normalise(batch))
        return tokens


def _by_image(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each image of (n, 5) with its windows, (m, 4)."""
    for image in rows[:, 0].unique_consecutive().tolist():
        yield image, rows[rows[:, 0] == image, 1:]


def _plain_vit(model: Any) -> VisionTransformer:
    visual = model.visual
    plain = isinstance(visual, VisionTransformer) and visual.attn_pool is None
    if not plain or visual.pool_type != "tok" or visual.proj is None:
        raise AbsError("clip.model: needs a ViT of open_clip whose class token is projected")
    blocks = visual.transformer.resblocks
    if not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
        raise AbsError("clip.model: needs a ViT of open_clip with plain blocks")
    return visual


def _unit(vectors: Tensor) -> Tensor:
    """Rows scaled to length 1, float32 on the CPU."""
    precise = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return F.normalize(precise, dim=-1).float().cpu()


def _convert(model: Any, visual: VisionTransformer, dtype: torch.dtype) -> None:
    """Products in `dtype`, norms in float32. So are the last block over images, which costs little
    for the class token alone, and the projection behind it."""
    if dtype == torch.float32:
        return
    blocks = visual.transformer.resblocks
    last, projection = deepcopy(blocks[-1]), visual.proj
    assert projection is not None
    exact = projection.detach().clone()
    convert_weights_to_lp(model, dtype)
    blocks[-1] = last
    projection.data = exact
    for module in model.modules():
        if isinstance(module, LayerNorm):  # CUDA takes no norm whose weights are of another dtype
            module.__class__ = LayerNormFp32


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
