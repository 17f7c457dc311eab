"""Attention of the class token to all tokens, in every block of a ViT.

Fused attention keeps no attention maps. But all ViTs of timm call torch's fused function, with
queries and keys as they are compared: normalised, rotated, with the mask to be added. This function
is intercepted while a model runs, and the class token's row is computed from its arguments in
float32; it equals the first row of the full softmax. (`pipeline.kernels.blocks.class_row` computes
the row for the blocks of a CLIP.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.core.errors import ConfigError
from pipeline.core.under_way import tell

NEEDS_CLASS_TOKEN = "choose a ViT with a class token (such as vit_base_patch16_224.dino)"
"""Advice for a model without attention of a class token."""


class StopForward(Exception):
    """Raised to stop a forward pass after its last attention; later results are not needed."""


class ClassRows(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
    """Context that records the first token's attention in every fused attention call, in order.

    Args:
        stop_after: Number of attention calls after which StopForward is raised; None for never.
        expected: Number of attention calls that are expected, for progress.
    """

    def __init__(self, stop_after: int | None = None, expected: int = 0) -> None:
        super().__init__()
        self._stop_after, self._expected = stop_after, expected
        self._rows: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Record the first row of each fused attention."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._rows.append(_first_row(*args, **kwargs))
            tell(len(self._rows), self._expected)
            if len(self._rows) == self._stop_after:
                raise StopForward
        return func(*args, **kwargs)

    def maps(self, name: str, blocks: int, prefix: int, grid: int) -> Tensor:
        """Return attention to the patches, without the other tokens and not renormalised (Eq. 3).

        Args:
            name: Name of the model, for errors.
            blocks: Number of blocks.
            prefix: Number of tokens before the patches, such as the class token and registers.
            grid: Patches along a side.

        Returns:
            Mean over heads, float32 (n, blocks, grid, grid).

        Raises:
            ConfigError: If the model did not compute one attention per block over exactly these
                tokens.
        """
        lengths = {row.shape[1] for row in self._rows}
        if len(self._rows) != blocks or lengths != {prefix + grid * grid}:
            raise ConfigError(
                f"{name} does not attend once per block to all patches ({len(self._rows)} times in "
                f"{blocks} blocks, to {sorted(lengths)} tokens); {NEEDS_CLASS_TOKEN}"
            )
        rows = torch.stack(self._rows, dim=1)[:, :, prefix:]
        return rows.reshape(*rows.shape[:2], grid, grid)


def fuse(modules: Iterable[nn.Module]) -> None:
    """Make modules use fused attention, whatever timm chose for this machine."""
    for module in modules:
        if hasattr(module, "fused_attn"):
            module.fused_attn = True  # type: ignore[assignment]


def _first_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute the first query's attention as the mean over heads.

    Arguments are those of torch's `scaled_dot_product_attention`, (n, heads, tokens, width).

    Returns:
        float32 (n, tokens).
    """
    if is_causal or enable_gqa:
        raise ConfigError(f"attention.model: uses causal or grouped attention; {NEEDS_CLASS_TOKEN}")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    first = query[:, :, 0].float() * scale
    logits = torch.einsum("bhd,bhtd->bht", first, key.float())
    if attn_mask is not None:
        mask = attn_mask.expand(*query.shape[:3], key.shape[2])[:, :, 0]
        logits = (
            logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        )
    return logits.softmax(dim=-1).mean(dim=1)
