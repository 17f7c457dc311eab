"""A CUDA device without a card: tensors on it have shape, dtype and device, but no values.

Tensors on the CPU are real. What would be an error on a card, or wait for it in silence, is an
error here: operations across devices, and values that are read from the device one by one.
Launches, copies and waits are counted. An event tells no time before the host has waited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.models.preprocessing import Preprocessing

VALUELESS = FakeTensorMode(allow_non_fake_inputs=True)
"""Torch's own mode for tensors without values; one for all, since tensors of two do not mix."""
FREE = {"empty", "new_empty", "empty_like", "empty_strided", "_unsafe_view", "lift_fresh", "device"}
"""Operations that start no kernel, beside those that return views."""
FUSED = {"scaled_dot_product_attention"}
"""Operations that torch writes as several, but that are one kernel on a card."""
COPIES = {"_to_copy", "copy_"}
"""Operations that may copy between devices."""


@dataclass
class Counts:
    """What a card was asked to do."""

    launches: int = 0
    """Operations that start a kernel."""
    waits: int = 0
    """Copies to the host, each of which waits for the device."""
    sent: int = 0
    """Bytes copied from host to device."""
    pageable: int = 0
    """Copies to the device from memory that is not pinned, or that the host waits for."""
    names: dict[str, int] = field(default_factory=dict)
    """Launches by name of the operation."""

    def restart(self) -> None:
        """Forget what was counted, such as the loading of a model."""
        self.launches = self.waits = self.sent = self.pageable = 0
        self.names = {}


@dataclass
class FakeEvent:
    """An event in the stream of a card."""

    counts: Counts
    waits: int | None = None
    """Waits of the host before it was recorded."""

    def record(self, stream: object) -> None:
        """Record it; the stream is the device's current one."""
        self.waits = self.counts.waits

    def elapsed_time(self, end: FakeEvent) -> float:
        """Return a millisecond; RuntimeError unless the host has waited since both events."""
        if self.waits is None or end.waits is None or self.counts.waits <= end.waits:
            raise RuntimeError("the host has not waited for both events")
        return 1.0


class FakeCuda(TorchDispatchMode):
    """Mode in which the device `cuda` exists, and everything it is asked to do is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self._pinned: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        name = func.overloadpacket.__name__
        if func.namespace == "aten" and func._can_decompose() and name not in FUSED:
            with self:
                return func.decompose(*args, **kwargs)
        if name == "is_pinned":
            return args[0].untyped_storage().data_ptr() in self._pinned
        if name == "_pin_memory":
            return self._pin(args[0])
        on_device = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if not on_device and not _asks_for_cuda(leaves):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        host = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor)]
        if name in COPIES:
            return self._copied(func, args, kwargs, host)
        if any(tensor.ndim for tensor in host):
            raise RuntimeError(f"{func} mixes tensors of the host and of the device")
        if not _is_free(func, name):
            self._launched(name)
        return func(*args, **kwargs)

    def _pin(self, tensor: Tensor) -> Tensor:
        with unset_fake_temporarily():
            pinned = tensor.clone()
        self._pinned.add(pinned.untyped_storage().data_ptr())
        return pinned

    def _copied(self, func: Any, args: Any, kwargs: dict[str, Any], host: list[Tensor]) -> Any:
        """Copy within the device, to it, or from it; what comes from it is zeros."""
        result = func(*args, **kwargs)
        if host and not isinstance(args[0], FakeTensor) and func is torch.ops.aten.copy_.default:
            self.counts.waits += 1
            return args[0].zero_()
        if host:
            (source,) = host
            self.counts.sent += source.numel() * source.element_size()
            pinned = source.untyped_storage().data_ptr() in self._pinned
            self.counts.pageable += not (pinned and kwargs.get("non_blocking"))
            return result
        if result.device.type == "cpu":
            self.counts.waits += 1
            with unset_fake_temporarily():
                return torch.zeros(result.shape, dtype=result.dtype)
        self._launched(func.overloadpacket.__name__)
        return result

    def _launched(self, name: str) -> None:
        self.counts.launches += 1
        self.counts.names[name] = self.counts.names.get(name, 0) + 1


def _asks_for_cuda(leaves: list[Any]) -> bool:
    return any(isinstance(leaf, torch.device) and leaf.type == "cuda" for leaf in leaves)


def _is_free(func: Any, name: str) -> bool:
    """Return whether an operation starts no kernel: it allocates, or returns a view."""
    views = [value.alias_info for value in func._schema.returns]
    return name in FREE or any(info is not None and not info.is_write for info in views)


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
    """Stand in for torch's own method, which cannot put one fake parameter in another's place."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(function(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else function(buffer)
    return module


@contextmanager
def fake_cuda() -> Iterator[Counts]:
    """Run what is inside on a card that does not exist; yield the counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "_apply", _apply)
        patch.setattr(torch.cuda, "get_device_name", lambda *_: "no card")
        patch.setattr(Preprocessing, "_matches_pillow", lambda *_: True)  # there are no bytes
        mode = FakeCuda()
        patch.setattr(torch.cuda, "Event", lambda **_: FakeEvent(mode.counts))
        patch.setattr(torch.cuda, "current_stream", lambda device: device)
        with VALUELESS, mode:
            yield mode.counts
