"""Attention maps that crops follow: one layer of them, and what is known before they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pipeline.core.errors import ConfigError, together
from pipeline.stage import Stage

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LayerMaps:
    """One layer of attention maps."""

    array: Any
    layer: int

    @classmethod
    def of(cls, array: Any, layer: int) -> LayerMaps:
        """Choose a layer of maps (image, layer, row, col); ConfigError if there is no such one."""
        if error := _no_layer(layer, array.shape[1]):
            raise error
        return cls(array, layer)

    @property
    def patches(self) -> int:
        """Number of patches of a map."""
        return int(self.array.shape[-1] ** 2)

    def read(self, rows: slice) -> Tensor:
        """Return the maps of images: float32 (n, patches)."""
        import numpy as np
        import torch

        maps = np.asarray(self.array[rows])[:, self.layer]
        return torch.from_numpy(maps.reshape(len(maps), -1))


def _no_layer(layer: int, layers: int) -> ConfigError | None:
    """Return the error for a layer that maps do not have."""
    if -layers <= layer < layers:
        return None
    return ConfigError(f"crops.layer: {layer} is not one of the {layers} layers of the maps")


@runtime_checkable
class _Shaped(Protocol):
    """A stage of maps whose shape is known before they are computed."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """Number of layers, and of patches along a side."""
        ...


def known_shape(attention: Stage) -> tuple[int, int] | None:
    """Return layers, and patches along a side, of maps; None if only the stored maps can tell."""
    return attention.shape if isinstance(attention, _Shaped) else None


def check_maps(attention: Stage, layer: int, counts: Mapping[str, int]) -> None:
    """Raise ConfigError, with the limit, if maps will have no such layer or too few patches.

    Args:
        attention: Stage of the maps.
        layer: Layer of the settings.
        counts: Number of patches that must be there, by the setting that asks for it.
    """
    shape = known_shape(attention)
    if shape is None:
        return
    layers, side = shape
    errors = [error] if (error := _no_layer(layer, layers)) else []
    errors += [
        ConfigError(f"{name}: {k} is more than the {side**2} patches of a map ({side} x {side})")
        for name, k in counts.items()
        if k > side**2
    ]
    if errors:
        raise together(errors)
