"""An image encoder in three parts that can be cut between any two blocks: stem, blocks and tail."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

from open_clip.transformer import (
    LayerNorm,
    LayerNormFp32,
    ResidualAttentionBlock,
    VisionTransformer,
)
from torch import Tensor, nn

from pipeline.kernels.pooling import FirstToken, Product, Tail


class Tower(nn.Module):
    """An image encoder.

    Args:
        stem: Computes the tokens that enter the first block, (n, 3, side, side) to (n, tokens,
            width): tokens that are no patches, then patches by row.
        blocks: Blocks, of the kinds that `pipeline.kernels.blocks.all_tokens_after` knows.
        tail: Pooling and all behind it.
        prefix: Number of tokens before the patches.
    """

    def __init__(
        self, stem: nn.Module, blocks: Iterable[nn.Module], tail: Tail, prefix: int
    ) -> None:
        super().__init__()
        self.stem, self.blocks, self.tail = stem, nn.ModuleList(blocks), tail
        self.prefix = prefix

    @property
    def layers(self) -> int:
        """Number of layers that windows can enter: the blocks, then a pooling by attention."""
        return len(self.blocks) + self.tail.attends

    @property
    def shares_windows(self) -> bool:
        """True if windows of an image at the last layer share their computation
        (`pipeline.kernels.feature_crops.finish_windows`).
        """
        if self.tail.attends:
            return True
        plain = isinstance(self.blocks[-1], ResidualAttentionBlock)
        return plain and self.tail.reads_class_token_only and self.prefix == 1

    def exact_end(self) -> Tower:
        """Return a tower of the last layer and the tail alone, as copies in float64."""
        last = [] if self.tail.attends else [deepcopy(self.blocks[-1])]
        end = Tower(nn.Identity(), last, deepcopy(self.tail), self.prefix)
        for module in end.double().modules():
            if isinstance(module, LayerNormFp32):
                module.__class__ = LayerNorm
        return end


class Stem(nn.Module):
    """Part of open_clip's ViT before its blocks."""

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the tokens that enter the first block."""
        tokens: Tensor = self.visual._embeds(pixels)
        return tokens


def class_token_tower(visual: VisionTransformer) -> Tower:
    """Return the tower of an open_clip ViT whose vector is its projected class token.

    The parts are those of the ViT, not copies.
    """
    assert visual.proj is not None
    tail = Tail(visual.ln_post, FirstToken(), Product(visual.proj))
    return Tower(Stem(visual), visual.transformer.resblocks, tail, 1)
