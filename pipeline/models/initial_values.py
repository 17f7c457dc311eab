"""Build models without the initial values that their weights replace.

Libraries draw them all the same, which takes seconds for a large model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pipeline.models.device import quiet

DRAWS = frozenset(
    {"uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_"}
    | {"xavier_uniform_", "xavier_normal_"}
)
"""Names of torch's functions that draw initial values in place."""

CHANGES = DRAWS | {"erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_", "constant_"}
"""Names of these and of the functions that change what was drawn."""


class Instead(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
    """Context in which another function is called in place of some that change a tensor.

    Args:
        names: Their names.
        other: Function of the tensor that they would change.
    """

    def __init__(self, names: frozenset[str], other: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._names, self._other = names, other

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, or the other."""
        named = kwargs or {}
        if getattr(func, "__name__", "") in self._names:
            return self._other(args[0] if args else named["tensor"])
        return func(*args, **named)


@contextmanager
def undrawn() -> Iterator[None]:
    """Build models with zeros where values would be drawn; all parameters are loaded afterwards.

    Zeros, and not what lies in memory: some functions draw again until values are in a range.
    """
    with Instead(DRAWS, _zeros):
        yield


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Build models that have shapes and types, and no values."""
    with torch.device("meta"), quiet(), Instead(CHANGES, _as_it_is):
        yield


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@torch.no_grad()
def _zeros(tensor: Tensor) -> Tensor:
    return tensor.zero_()
