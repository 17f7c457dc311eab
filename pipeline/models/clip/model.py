"""CLIP, loaded: preprocessing, both encoders, and the image encoder in two parts."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.hf_model import HFTextEncoder
from open_clip.model import convert_weights_to_lp
from open_clip.transformer import LayerNormFp32, ResidualAttentionBlock
from torch import Tensor, nn

from pipeline.core.runtime import Runtime
from pipeline.kernels.blocks import all_tokens_after, class_row, fold
from pipeline.kernels.feature_crops import (
    Sequences,
    finish,
    finish_windows,
    prompt_windows,
)
from pipeline.kernels.prompt_names import FeaturePrompt
from pipeline.kernels.resize import Resizer
from pipeline.kernels.towers import Tower
from pipeline.kernels.transfer import to_device
from pipeline.kernels.windows import grid_of
from pipeline.models import weights
from pipeline.models.batches import Batches, Normalise
from pipeline.models.clip.of_open_clip import build as build_of_open_clip
from pipeline.models.clip.of_transformers import families
from pipeline.models.clip.of_transformers.build import TransformersModel
from pipeline.models.clip.of_transformers.build import build as build_of_transformers
from pipeline.models.clip.source import ClipSource
from pipeline.models.clip.steps import Steps
from pipeline.models.clip.texts import text_encoder
from pipeline.models.clip.tokenizer import Tokenizer
from pipeline.models.clip.towers import tower_of
from pipeline.models.device import device_of
from pipeline.models.precision import dtype_of
from pipeline.models.preprocessing import Preprocessing

WINDOWS = {"cpu": 1}
"""Windows at the last layer that take as much memory as an image, by type of device.

On a CPU they are worth an image each, so that they stay in its caches.
"""
MANY_WINDOWS = 8
"""The same on other devices."""


class Built(NamedTuple):
    """A model that was built."""

    model: Any
    """Model with a function `encode_text`."""
    tower: Tower
    """Image encoder."""
    steps: Steps
    """Preprocessing."""
    choice: dict[str, str]
    """Model that was taken from a weights file with several (`weights.Found.choice`)."""


class ClipModel:
    """A loaded CLIP. Embeddings are unit vectors, float32 on the CPU."""

    def __init__(self, source: ClipSource, runtime: Runtime) -> None:
        self.device = device_of(runtime)
        model, tower, steps, self._choice = build(source)
        dtype, self._mean_of_queries = dtype_of(source.config.precision), source.mean_of_queries
        for block in tower.blocks:
            if isinstance(block, ResidualAttentionBlock):
                fold(block)
        _convert(model, tower, dtype)
        # Weights keep requires_grad: only then does torch fold a batch of texts into one product,
        # which in bfloat16 is four times as fast.
        self._model = model.to(self.device).eval()
        self._tower, self._grid = tower.to(self.device).eval(), source.grid
        self._tokenizer = Tokenizer.of(source.resolved)
        self._in_batches, self._least = Batches(runtime, self.device), 0
        self._side = source.image_size
        resizer = Resizer(source.image_size, source.resize_mode, source.interpolation)
        self.preprocess = Preprocessing(resizer, steps.resize, self.device)
        self._normalise = Normalise(steps.mean, steps.std, self.device, dtype)

    @property
    def environment(self) -> dict[str, Any]:
        """Device, batch size, and what was taken of a file with several models."""
        return self._in_batches.environment | self._choice

    @property
    def batch_size(self) -> int:
        """Number of images in a batch."""
        return self._in_batches.size

    def fill_batches(self, least: int) -> None:
        """Fill batches of whole images that are smaller up to `least` from now on."""
        self._least = least

    @property
    def layers(self) -> int:
        """Number of blocks of the image encoder."""
        return len(self._tower.blocks)

    def black(self) -> Tensor:
        """Return a batch of black images, to be timed: uint8 (batch size, 3, side, side)."""
        return torch.zeros(self.batch_size, 3, self._side, self._side, dtype=torch.uint8)

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Tensor:
        """Encode texts: (texts, dim)."""
        tokens = self._tokenizer.loaded(texts)
        order, encode = text_encoder(self._model, tokens, self.device)
        return _unit(self._in_batches(encode, tokens[order]))[order.argsort()]

    @torch.inference_mode()
    def encode_images(self, images: Tensor, full: bool = False) -> Tensor:
        """Encode images: uint8 (n, 3, side, side) to (n, numbers of a view); `full` as in
        `Batches`.
        """

        def vectors(batch: Tensor) -> Tensor:
            return finish(self._tower, Sequences(self._embed(batch)), 0)

        return self._of_views(self._in_batches(vectors, images, full, least=self._least))

    @torch.inference_mode()
    def tokens_before(self, images: Tensor, layer: int) -> Tensor:
        """Compute the tokens that enter a layer.

        Args:
            images: uint8 (n, 3, side, side).
            layer: Index of the layer, from 0: a block, or behind them a pooling by attention.

        Returns:
            (n, prefix + grid * grid, width), the patches last, on the device and in the dtype of
                the blocks before.
        """

        def tokens(batch: Tensor) -> Tensor:
            entering = self._embed(batch)
            for block in self._tower.blocks[:layer]:
                entering = all_tokens_after(block, entering)
            return entering

        return self._in_batches(tokens, images, least=self._least)

    @torch.inference_mode()
    def encode_windows(
        self, tokens: Tensor, rows: Tensor, layer: int, prompt: FeaturePrompt, gain: float
    ) -> Tensor:
        """Encode windows of images' tokens (Eq. 7).

        A vector does not depend on the other windows. At a pooling by attention, and at the last
        block where it is plain and the class token alone leaves it, windows of an image share
        almost all computation, which is done in float64 and then rounded; elsewhere, batches are
        full.

        Args:
            tokens: Tokens that enter layer `layer`, (images, prefix + grid * grid, width).
            rows: Image, then window in tokens, integers (n, 5); by image.
            layer: Index of the layer that the windows enter (`ClipSource.window_layers`).
            prompt: Visual prompt; see `pipeline.kernels.feature_crops.prompt_windows`.
            gain: Strength of the two highlights.

        Returns:
            (n, dim).
        """
        tower, prefix = self._tower, self._tower.prefix
        grid_of(tokens, rows[:, 1:], prefix)
        last = layer % tower.layers == tower.layers - 1
        if prompt == "crop" and last and tower.shares_windows:
            return self._finish_windows(tokens, rows)

        def vectors(batch: Tensor) -> Tensor:
            entering = tokens[batch[:, 0]]
            windows = prompt_windows(entering, batch[:, 1:], prompt, gain, prefix)
            return finish(tower, windows, layer)

        on_device = to_device(rows, self.device)
        return self._of_views(self._in_batches(vectors, on_device, full=True))

    def _finish_windows(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Encode windows at the last layer, equally many of each image at once."""
        images, image = rows[:, 0].unique_consecutive(return_inverse=True)
        tokens = tokens if len(images) == len(tokens) else tokens[to_device(images, self.device)]
        windows, place = _equally_many(image, rows[:, 1:])
        each = windows.shape[1] / WINDOWS.get(self.device.type, MANY_WINDOWS)

        def vectors(images: Tensor) -> Tensor:
            start, end = int(images[0]), int(images[-1]) + 1
            return finish_windows(exact_end, tokens[start:end], on_device[start:end])

        exact_end, on_device = self._exact_end, to_device(windows, self.device)
        embeddings = self._in_batches(vectors, torch.arange(len(tokens)), each=each)
        return _unit(embeddings.flatten(0, 1))[place]

    @torch.inference_mode()
    def cls_attention(self, images: Tensor) -> np.ndarray:
        """Compute the class token's attention to each patch, not renormalised (Eq. 3).

        Args:
            images: uint8 (n, 3, side, side).

        Returns:
            Mean over heads, float32 (n, layers, grid, grid).
        """

        def rows(batch: Tensor) -> Tensor:
            tokens, by_block = self._embed(batch), []
            for block in self._tower.blocks:
                by_block.append(class_row(block, tokens))
                tokens = all_tokens_after(block, tokens)
            return torch.stack(by_block, dim=1)[:, :, self._tower.prefix :]

        maps = self._in_batches(rows, images, least=self._least)
        return np.asarray(maps.unflatten(2, (self._grid, self._grid)).cpu().numpy())

    def _of_views(self, embeddings: Tensor) -> Tensor:
        """Normalise the embeddings of views: (n, dim), or (n, queries, dim) to (n, queries * dim),
        or the mean over queries, again normalised.
        """
        vectors = _unit(embeddings)
        if vectors.ndim == 2:
            return vectors
        return _unit(vectors.mean(dim=1)) if self._mean_of_queries else vectors.flatten(1)

    @cached_property
    def _exact_end(self) -> Tower:
        """Last layer and tail of the image encoder in float64, except on MPS."""
        return self._tower if self.device.type == "mps" else self._tower.exact_end()

    def _embed(self, batch: Tensor) -> Tensor:
        """Compute the tokens that enter the first block."""
        tokens: Tensor = self._tower.stem(self._normalise(batch))
        return tokens


def _equally_many(image: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Group windows by image.

    Args:
        image: Image of each window, ascending from 0 without gaps, int64 (n,).
        windows: Windows, integers (n, 4).

    Returns:
        Windows (images, most, 4); an image with fewer than `most` has the grid's first token in the
            places left.
        Place of each window among all of them, int64 (n,).
    """
    counts = image.bincount()
    images, most = len(counts), int(counts.max())
    before = counts.cumsum(0) - counts
    place = most * image + torch.arange(len(image)) - before[image]
    grouped = torch.tensor([0, 0, 1, 1]).repeat(images * most, 1)
    grouped[place] = windows
    return grouped.unflatten(0, (images, most)), place


def _unit(vectors: Tensor) -> Tensor:
    """Normalise rows to length 1, float32 on the CPU."""
    precise = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return F.normalize(precise, dim=-1).float().cpu()


def _convert(model: Any, tower: Tower, dtype: torch.dtype) -> None:
    """Convert products to `dtype`; norms stay in float32.

    So do the last block over images, which costs little for the class token alone, and the tail
    behind it.
    """
    if dtype == torch.float32:
        return
    exact = deepcopy((tower.blocks[-1], tower.tail))
    for part in _convertible(model):
        convert_weights_to_lp(part, dtype)
    own = model.convertible if isinstance(model, TransformersModel) else []
    own += model.text.modules() if isinstance(getattr(model, "text", None), HFTextEncoder) else []
    for module in [*tower.blocks.modules(), *own]:
        if not isinstance(module, nn.LayerNorm | nn.BatchNorm1d | nn.BatchNorm2d):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
    tower.blocks[-1], tower.tail = exact
    for module in [*model.modules(), *tower.modules()]:
        if isinstance(module, nn.LayerNorm):  # on CUDA, input and weights must agree
            module.__class__ = LayerNormFp32


def _convertible(model: Any) -> list[nn.Module]:
    """Return the parts of a model that open_clip can convert to another dtype.

    It fails at a text encoder whose projection is a layer with a bias, but not at its parts.
    """
    if isinstance(model, TransformersModel):
        return []
    text = getattr(model, "text", nn.Identity())
    if isinstance(text, HFTextEncoder):
        return [model.visual]
    if isinstance(getattr(text, "text_projection", None), nn.Linear):
        return [model.visual, *text.children()]
    return [model]


def build(source: ClipSource) -> Built:
    """Build the model in float32, with its weights or seeded random ones.

    Raises:
        AbsError: If the weights do not fit the model.
    """
    model = source.resolved
    found = weights.read(model.file) if model.file else None
    choice = found.choice if found else {}
    if config := model.architecture["model"].get(families.KEY):
        assert found is not None
        built = build_of_transformers(model.name, config, found.tensors)
        return Built(built, built.tower, Steps.by_pillow(source), choice)
    built, transform = build_of_open_clip(model, found)
    return Built(built, tower_of(built.visual), Steps.of(transform), choice)
