"""Images into a model: batches that fit, of the dtype its weights have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import AbsError
from pipeline.models.device import name_of
from pipeline.progress import Reporter
from pipeline.runtime import Runtime

SIZES = {"cpu": 16}
"""Images at once that a device does best with: on a CPU, what stays in its caches."""
LARGE = 256
"""On any other device."""


class Batches:
    """Cuts what a model is given into batches; smaller ones, if the device lacks the memory."""

    def __init__(self, runtime: Runtime, device: torch.device) -> None:
        self.size = runtime.batch_size or SIZES.get(device.type, LARGE)
        self._device = device

    @property
    def facts(self) -> dict[str, Any]:
        """The device, torch and the batch size: other ones may round otherwise."""
        found: dict[str, Any] = {"device": name_of(self._device), "torch": torch.__version__}
        found["batch_size"] = self.size
        if self._device.type != "cpu":
            return found
        kind = torch.backends.cpu.get_cpu_capability()
        return found | {"threads": torch.get_num_threads(), "instructions": kind}

    def __call__(
        self, function: Callable[[Tensor], Tensor], values: Tensor, full: bool = False
    ) -> Tensor:
        """`function` of all of `values`, (n, ...) to (n, ...). AbsError if one is too many.

        full: all batches are of one size, the last filled up with copies of its last row, so that
        what comes of a row does not depend on how many there are. On a CPU the size is a multiple
        of 16: with 5 or 7 it was seen to depend on the row's place in a batch, by rounding.
        """
        parts, start = [], 0
        while start < len(values):
            size = self._whole if full else self.size
            batch = values[start : start + size]
            part = self._try(function, _filled(batch, size) if full else batch)
            if part is None:
                self._halve()  # out here, where nothing holds what the failed batch had
            else:
                parts.append(part[: len(batch)])
                start += size
        return torch.cat(parts)

    @property
    def _whole(self) -> int:
        return -(-self.size // 16) * 16 if self._device.type == "cpu" else self.size

    @staticmethod
    def _try(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor | None:
        try:
            return function(batch)
        except torch.OutOfMemoryError:
            return None

    def _halve(self) -> None:
        if self.size == 1:
            raise AbsError("the device has not the memory for a batch of 1; set runtime.device=cpu")
        self.size //= 2
        torch.cuda.empty_cache()
        Reporter().say(f"out of memory on the device: going on with runtime.batch_size={self.size}")


def _filled(batch: Tensor, size: int) -> Tensor:
    if len(batch) == size:
        return batch
    return torch.cat([batch, batch[-1:].expand(size - len(batch), *batch.shape[1:])])


class Normalise:
    """Bytes to what a model was trained on: (x / 255 - mean) / std of each channel."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._mean, self._std = (
            torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (mean, std)
        )
        self._dtype = dtype

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (n, 3, side, side) to the same of the model's dtype, on its device."""
        bytes_ = images.to(self._mean.device, non_blocking=True)
        return ((bytes_.float().div_(255) - self._mean) / self._std).to(self._dtype)
