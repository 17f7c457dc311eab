"""A timm ViT as a source of attention: its class token's attention in every layer."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor

from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.runtime import Runtime
from pipeline.datasets.images import Images
from pipeline.models import weights
from pipeline.models.attention import vit_weights
from pipeline.models.batches import Batches, Normalise
from pipeline.models.cls_attention import NEEDS_CLASS_TOKEN, ClassRows, StopForward, fuse
from pipeline.models.config import VitConfig
from pipeline.models.device import device_of, quiet
from pipeline.models.initial_values import shapes_alone, undrawn
from pipeline.models.precision import dtype_of
from pipeline.models.preprocessing import squashed
from pipeline.models.resolved import Resolved


class AttentionVit:
    """A loaded ViT with a class token."""

    def __init__(self, config: VitConfig, resolved: Resolved, runtime: Runtime) -> None:
        device, dtype = device_of(runtime), dtype_of(config.precision)
        self._name = config.model
        model, self._choice = _build(resolved)
        self._model = model.to(device, dtype).eval().requires_grad_(False)
        prepare_for_attention(self._model, self._name)
        self._in_batches, self._least = Batches(runtime, device), 0
        self._ran_whole = False
        trained, side = self._model.pretrained_cfg, int(self._model.patch_embed.img_size[0])
        self._side = side
        self.preprocess = squashed(side, "bilinear", device)
        self._normalise = Normalise(trained["mean"], trained["std"], device, dtype)

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self._model.blocks)

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return int(self._model.patch_embed.grid_size[0])

    def fill_batches(self, least: int) -> None:
        """Fill batches that are smaller up to `least` from now on."""
        self._least = least

    @property
    def environment(self) -> dict[str, Any]:
        """Device, batch size, and what was taken of a file with several models."""
        return self._in_batches.environment | self._choice

    def read(self, images: Images, rows: slice) -> Tensor:
        """Read the images of `rows`, preprocessed: uint8 (n, 3, side, side)."""
        return self.preprocess.block((image, None) for image in images.block(rows))

    def try_out(self) -> int:
        """Compute maps of a batch of black images, to be timed; return how many."""
        images = torch.zeros(self._in_batches.size, 3, self._side, self._side, dtype=torch.uint8)
        return len(self.attention(images))

    @torch.inference_mode()
    def attention(self, images: Tensor) -> np.ndarray:
        """Compute the class token's attention to each patch, not renormalised (Eq. 3).

        Args:
            images: uint8 (n, 3, side, side).

        Returns:
            Mean over heads, float32 (n, layers, grid, grid).
        """

        def maps(batch: Tensor) -> Tensor:
            # The first batch runs to the end, to check that no further attention follows.
            whole, pixels = not self._ran_whole, self._normalise(batch)
            attention = class_attention(self._model, pixels, self._name, whole)
            self._ran_whole = True
            return attention

        return np.asarray(self._in_batches(maps, images, least=self._least).cpu().numpy())


def class_attention(model: Any, batch: Tensor, name: str, whole: bool = True) -> Tensor:
    """Run a timm ViT and return the class token's attention in every block.

    Args:
        model: Model that passed `prepare_for_attention`.
        batch: Normalised images, (n, 3, side, side).
        name: Name of the model, for errors.
        whole: Whether to run the model to its end, or only up to its last attention.

    Returns:
        (n, blocks, grid, grid).
    """
    blocks = len(model.blocks)
    rows = ClassRows(None if whole else blocks, blocks)
    with suppress(StopForward), rows:
        model.forward_features(batch)
    grid, prefix = int(model.patch_embed.grid_size[0]), getattr(model, "num_prefix_tokens", 1)
    return rows.maps(f"attention.model: {name}", blocks, prefix, grid)


def prepare_for_attention(model: Any, name: str) -> None:
    """Make a timm model ready for `class_attention`; ConfigError if it has no class token's
    attention.
    """
    blocks, patches = getattr(model, "blocks", None), getattr(model, "patch_embed", None)
    grid, side = getattr(patches, "grid_size", None), getattr(patches, "img_size", None)
    if not blocks or not grid or not side:
        raise ConfigError(f"attention.model: {name} is not a plain ViT; {NEEDS_CLASS_TOKEN}")
    if getattr(model, "cls_token", None) is None:
        raise ConfigError(f"attention.model: {name} has no class token; {NEEDS_CLASS_TOKEN}")
    if grid[0] != grid[1] or side[0] != side[1]:
        raise ConfigError(f"attention.model: {name} has a grid of {grid}, not a square")
    fuse(model.modules())


def check_name(name: str) -> None:
    """Check that an architecture has a class token's attention, without computing any values.

    An architecture that cannot run without values passes; it is checked again when it is loaded.

    Raises:
        ConfigError: If it has none.
    """
    with shapes_alone(), torch.inference_mode():
        try:
            model = timm.create_model(name).eval()
            prepare_for_attention(model, name)
            class_attention(model, torch.zeros(1, 3, *model.patch_embed.img_size), name)
        except AbsError:
            raise
        except Exception:  # architectures that need values fail in many ways
            return


def shape_of(name: str) -> tuple[int, int] | None:
    """Return the number of blocks of an architecture, and of patches along a side.

    No values are computed. None for an architecture that cannot be built without values.
    """
    with shapes_alone():
        try:
            model: Any = timm.create_model(name, pretrained=False)
            return len(model.blocks), int(model.patch_embed.grid_size[0])
        except Exception:  # of many types
            return None


def _build(model: Resolved) -> tuple[Any, dict[str, str]]:
    """Build a model with its weights, or with seeded random ones.

    Returns:
        The model, and what was taken of a file with several models (`weights.Found.choice`).
    """
    found = vit_weights.read(model.file, model) if model.file else None
    # Given a state dict, timm translates names of the model's original release. Where it knows the
    # classifier and the number of classes is another, it would load the rest as far as it is there.
    overlay = {"source": "", "state_dict": found.tensors, "classifier": None} if found else None
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(model.seed or 0)
        try:
            resampled = vit_weights.chosen_sizes(model)
            with (
                nullcontext() if resampled else vit_weights.Unresampled(),
                undrawn() if found else nullcontext(),
            ):
                built: Any = timm.create_model(
                    model.name, pretrained=bool(found), pretrained_cfg_overlay=overlay
                )
        except Exception as error:  # of many types, for weights of another model
            reason = weights.short_reason(error)
            raise AbsError(f"attention weights {model.file} do not fit: {reason}") from None
    built.pretrained_cfg.pop("state_dict", None)
    return built, found.choice if found else {}
