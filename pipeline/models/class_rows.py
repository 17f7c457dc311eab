"""The class token's row of every attention in a ViT, taken where the attention is computed.

Fused attention keeps no maps. But all of timm's ViTs end in torch's fused function, with queries
and keys as they are compared: normalised, rotated, with the mask that is added. So the function is
watched while a model runs, and the row is computed from what it is given, in float32; it equals
the first row of the full softmax. open_clip's blocks are asked for the row itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.errors import ConfigError
from pipeline.kernels import folding
from pipeline.kernels.blocks import in_dtype_of

ANOTHER = "choose a ViT with a class token (such as vit_base_patch16_224.dino)"
"""What to do about a model without class attention."""


class Enough(Exception):
    """Stops a model once its last attention has been seen: what follows is for nobody."""


class ClassRows(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
    """While active, keeps the first token's attention in every fused attention, in order.

    wanted: after so many it raises Enough; None: never.
    """

    def __init__(self, wanted: int | None = None) -> None:
        super().__init__()
        self._wanted = wanted
        self._rows: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._rows.append(_first_row(*args, **kwargs))
            if len(self._rows) == self._wanted:
                raise Enough
        return func(*args, **kwargs)

    def maps(self, name: str, blocks: int, prefix: int, grid: int) -> Tensor:
        """Attention to the patches, the `prefix` other tokens dropped and not renormalised (Eq. 3).

        Returns float32 (n, blocks, grid, grid), the mean of the heads. Raises ConfigError if the
        model `name` did not compute one attention per block over just these tokens.
        """
        lengths = {row.shape[1] for row in self._rows}
        if len(self._rows) != blocks or lengths != {prefix + grid * grid}:
            raise ConfigError(
                f"{name} does not attend once per block to all patches ({len(self._rows)} times in "
                f"{blocks} blocks, to {sorted(lengths)} tokens); {ANOTHER}"
            )
        rows = torch.stack(self._rows, dim=1)[:, :, prefix:]
        return rows.reshape(*rows.shape[:2], grid, grid)


def class_row(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """The same for a block of open_clip: tokens (n, tokens, width) that enter it to (n, tokens)."""
    normed = block.ln_1(in_dtype_of(block, tokens))
    folded = folding.folded_query(block.attn, normed[:, 0])
    return folding.attention_of(folded, normed).mean(dim=1).float()


def fuse(modules: Iterable[nn.Module]) -> None:
    """Have `modules` use fused attention, whatever timm chose for this machine."""
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
    """Head-mean attention of the first query: (n, heads, tokens, width) to float32 (n, tokens)."""
    if is_causal or enable_gqa:
        raise ConfigError(f"attention.model: attends causally or in groups; {ANOTHER}")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    first = query[:, :, 0].float() * scale
    logits = torch.einsum("bhd,bhtd->bht", first, key.float())
    if attn_mask is not None:
        mask = attn_mask.expand(*query.shape[:3], key.shape[2])[:, :, 0]
        logits = (
            logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        )
    return logits.softmax(dim=-1).mean(dim=1)
