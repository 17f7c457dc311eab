"""A pickle module for `torch.load` that makes tensors and containers, and runs nothing else.

Training checkpoints hold tensors beside objects of any kind (argparse.Namespace, configurations,
NumPy scalars). Every global but those that rebuild tensors becomes an inert stand-in, whose
arguments and state are dropped.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch


def load(*_: Any, **__: Any) -> Any:
    """Refuse formats that torch reads without an `Unpickler`: those before zip archives."""
    raise pickle.UnpicklingError("not a zip archive of torch.save")


class Inert(dict[Any, Any]):
    """Stand-in for an object of an unknown class: accepts any arguments and state, keeps none.

    It keeps the items of a mapping, such as a defaultdict, which may hold the tensors.
    """

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Create a stand-in, whatever the arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> Inert:
        """Return itself, whatever the arguments."""
        return self

    def __setstate__(self, _: Any) -> None: ...

    def __hash__(self) -> int:  # type: ignore[override]
        """Hash by identity, so that it can be a key."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """Compare by identity."""
        return self is other

    def append(self, _: Any) -> None:
        """Ignore an item."""

    def extend(self, _: Any) -> None:
        """Ignore items."""

    def add(self, _: Any) -> None:
        """Ignore an item."""


class Maker:
    """An allowed function, without attributes that a pickle could change."""

    __slots__ = ("_function",)

    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a pickle may not change what rebuilds tensors")

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("a pickle may not change what rebuilds tensors")


def _parameter(data: torch.Tensor, *_: Any) -> torch.Tensor:
    return data


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): torch.Size,
}
"""Functions that a pickle may call, by module and name: makers of tensors and ordered mappings."""


class Unpickler(pickle.Unpickler):
    """Unpickler that resolves only `ALLOWED`, data types of torch, and stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a global without importing anything."""
        if function := ALLOWED.get((module, name)):
            return Maker(function)
        value = getattr(torch, name, None) if module == "torch" else None
        return value if isinstance(value, torch.dtype) else Inert
