"""Dimensions of an image encoder that can be split at a block, and what it has a place for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.core.errors import ConfigError
from pipeline.kernels.prompt_names import FeaturePrompt

Pooling = Literal["class token", "mean", "attention", "segments", "queries"]
"""Source of the vector of an image: its class token, the mean of its patches, an attention over
its tokens by one constant query, the mean of the segments that its patches are grouped into, or
several queries that read its tokens, of which each becomes a vector.
"""

OWN_DEFINITION = "what a feature crop is in this backbone is this project's definition"
"""Remark on figures of feature crops where the paper defines none."""

Blocks = Literal["plain", "of EVA", "convolutions"]
"""Blocks of an encoder: those of a ViT, with rotary positions or gates, or of an EfficientNet."""


@dataclass(frozen=True)
class Vision:
    """Dimensions of an image encoder that can be split."""

    image_size: int
    """Side of the square input, in pixels."""
    patch_size: int
    """Side of a patch, in pixels."""
    layers: int
    """Number of blocks."""
    dim: int
    """Length of an embedding."""
    width: int
    """Length of a token that enters the last block."""
    prefix: int = 1
    """Tokens before the patches: 1 with a class token, else 0, or the number of group tokens."""
    pooling: Pooling = "class token"
    """Source of the vector of an image."""
    blocks: Blocks = "plain"
    """Blocks that windows enter."""
    queries: int = 1
    """Vectors of an image."""
    cells: int | None = None
    """Tokens along a side where they are no patches, but places of a map; else None."""

    @property
    def grid(self) -> int:
        """Tokens along a side; pixels that do not fill a patch are left out."""
        return self.cells or self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return self.prefix + self.grid**2

    @property
    def remark(self) -> str:
        """Remark on figures of feature crops; empty where the class token becomes the vector, as in
        the paper.
        """
        return "" if self.pooling == "class token" else OWN_DEFINITION

    @property
    def window_layers(self) -> int:
        """Number of layers that windows can enter: the blocks, then a pooling by attention."""
        return self.layers + (self.pooling == "attention")

    def check_layer(self, layer: int) -> None:
        """Raise ConfigError for a layer that windows cannot enter; negative ones count from the
        last.
        """
        if -self.window_layers <= layer < self.window_layers:
            return
        if self.window_layers > self.layers:
            places = f"{self.window_layers} layers of CLIP: {self.layers} blocks and the pooling"
        else:
            places = f"{self.layers} blocks of CLIP, and windows enter no pooling by {self.pooling}"
        raise ConfigError(f"feature.layer: {layer} is not one of {places}")

    def check_prompt(self, name: str, prompt: FeaturePrompt, layer: int) -> None:
        """Raise ConfigError for a visual prompt on tokens that a layer has no place for.

        Args:
            name: Name of the model, for errors.
            prompt: Visual prompt.
            layer: Layer that windows enter; negative ones count from the last.
        """
        if layer % self.window_layers == self.layers:
            return
        plain = self.blocks == "plain"
        fits = plain and (prompt != "highlight-attn" or self.pooling == "class token")
        if prompt in ("crop", "mask") or fits:
            return
        lacks = "a class token that becomes its vector" if plain else "plain blocks"
        raise ConfigError(f"feature.prompt: {prompt} needs {lacks}, which {name} lacks")

    def check_class_token(self, name: str) -> None:
        """Raise ConfigError for an encoder without a class token that its vector is made from."""
        if self.prefix != 1 or self.pooling == "mean":
            raise ConfigError(
                f"attention.model: {name} has no class token that its vector is made from, so "
                "no attention of its own; choose a ViT (such as vit_base_patch16_224.dino)"
            )
