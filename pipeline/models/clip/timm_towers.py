"""Image encoders of timm that open_clip's configurations name, by their dimensions.

open_clip's configurations say nothing about the inside of these encoders, and timm is slow to
import; so dimensions are listed here, as timm builds them. Encoders that are not listed are
refused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TimmTower:
    """Dimensions of an image encoder of timm."""

    image_size: int
    """Side of the square input, in pixels."""
    patch_size: int
    """Side of a patch, in pixels."""
    layers: int
    """Number of blocks."""
    width: int
    """Length of a token."""
    prefix: int = 1
    """Tokens before the patches: 1 with a class token, else 0."""
    eva: bool = False
    """True for blocks of EVA, with rotary positions, norms or gates that plain blocks lack."""


def _siglip(layers: int, width: int, patch_size: int, *sides: int) -> dict[int, TimmTower]:
    return {side: TimmTower(side, patch_size, layers, width, prefix=0) for side in sides}


SIGLIP = {
    "base_patch16": _siglip(12, 768, 16, 224, 256, 384, 512),
    "base_patch32": _siglip(12, 768, 32, 256),
    "large_patch16": _siglip(24, 1024, 16, 256, 384, 512),
    "so400m_patch14": _siglip(27, 1152, 14, 224, 378, 384),
    "so400m_patch16": _siglip(27, 1152, 16, 256, 384, 512),
    "giantopt_patch16": _siglip(40, 1536, 16, 256, 384),
}
"""Encoders of SigLIP and SigLIP2, by size and side of the input."""

TOWERS = {
    "eva_giant_patch14_224": TimmTower(224, 14, 40, 1408, eva=True),
    "eva02_base_patch16_clip_224": TimmTower(224, 16, 12, 768, eva=True),
    "eva02_large_patch14_clip_224": TimmTower(224, 14, 24, 1024, eva=True),
    "eva02_large_patch14_clip_336": TimmTower(336, 14, 24, 1024, eva=True),
    "eva02_enormous_patch14_clip_224": TimmTower(224, 14, 64, 1792, eva=True),
    "vit_base_mci_224": TimmTower(224, 16, 12, 768),
    "vit_large_patch14_clip_224": TimmTower(224, 14, 24, 1024),
    "vit_medium_patch16_gap_256": TimmTower(256, 16, 12, 512, prefix=0),
    "vit_pe_core_tiny_patch16_384": TimmTower(384, 16, 12, 192, eva=True),
    "vit_pe_core_small_patch16_384": TimmTower(384, 16, 12, 384, eva=True),
    "vit_pe_core_base_patch16_224": TimmTower(224, 16, 12, 768, eva=True),
    "vit_pe_core_large_patch14_336": TimmTower(336, 14, 24, 1024, eva=True),
    "vit_pe_core_gigantic_patch14_448": TimmTower(448, 14, 50, 1536, prefix=0, eva=True),
    **{
        f"vit_{size}_siglip_{side}": tower
        for size, by_side in SIGLIP.items()
        for side, tower in by_side.items()
    },
}
"""Encoders that can be split at a block, by timm's names."""
