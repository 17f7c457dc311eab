"""Run a model in batches that fit into memory, on inputs of the dtype of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pipeline.core.errors import AbsError
from pipeline.core.progress import Reporter
from pipeline.core.runtime import Runtime
from pipeline.core.under_way import stretch
from pipeline.kernels.transfer import to_device
from pipeline.models.device import device_name
from pipeline.models.side_by_side import side_by_side

SIZES = {"cpu": 16}
"""Default batch size by type of device; on a CPU, images that stay in its caches."""
LARGE = 256
"""Default batch size on other devices."""


class Batches:
    """Batched application of a model; the batch size is halved if the device runs out of memory."""

    def __init__(self, runtime: Runtime, device: torch.device) -> None:
        self.size = runtime.batch_size or SIZES.get(device.type, LARGE)
        self._device = device

    @property
    def environment(self) -> dict[str, Any]:
        """Device, torch version and batch size; on a CPU also threads and instruction set.

        Different ones may change results by rounding.
        """
        values: dict[str, Any] = {"device": device_name(self._device), "torch": torch.__version__}
        values["batch_size"] = self.size
        if self._device.type != "cpu":
            return values
        kind = torch.backends.cpu.get_cpu_capability()
        return values | {"threads": torch.get_num_threads(), "instructions": kind}

    def __call__(
        self,
        function: Callable[[Tensor], Tensor],
        values: Tensor,
        full: bool = False,
        each: float = 1.0,
        least: int = 0,
    ) -> Tensor:
        """Apply a function to all values, batch by batch.

        Args:
            function: Function of a batch, (n, ...) to (n, ...).
            values: Inputs, (n, ...).
            full: Make all batches of one size, filling the last one with copies of its last row, so
                that the result of a row does not depend on the number of rows. On a CPU the size is
                then a multiple of 16: with 5 or 7 rows, results were seen to depend by rounding on
                the row's place in the batch. There, batches run side by side.
            each: Memory that a value takes, in images; there are `size` images in a batch.
            least: Values up to which a smaller batch is filled, as if `full`; at most `size`.

        Raises:
            AbsError: If the device runs out of memory with batch size 1.
        """
        if self._device.type != "cpu":
            return torch.cat(list(self._in_turn(function, values, full, each, least)))
        size = -(-self.size // 16) * 16 if full else self._size(each)
        fill = size if full else min(least, size)
        results = side_by_side(
            lambda batch: _of_filled(function, batch, fill), values.split(size), alone=not full
        )
        return torch.cat(results)

    def _in_turn(
        self,
        function: Callable[[Tensor], Tensor],
        values: Tensor,
        full: bool,
        each: float,
        least: int,
    ) -> Iterator[Tensor]:
        """Yield results batch by batch, of ever smaller ones if the device runs out of memory."""
        start = 0
        while start < len(values):
            size = self.size if full else self._size(each)
            batch = values[start : start + size]
            with stretch(start / len(values), (start + len(batch)) / len(values)):
                part = _try(function, batch, size if full else min(least, size))
            if part is None:
                self._halve()  # not in the handler, which holds the failed batch's tensors
            else:
                yield part
                start += size

    def _size(self, each: float) -> int:
        """Return the number of values in a batch, if one takes the memory of `each` images."""
        return max(1, int(self.size / each))

    def _halve(self) -> None:
        """Halve the batch size and report it."""
        if self.size == 1:
            raise AbsError("out of memory with batch size 1; set runtime.device=cpu")
        self.size //= 2
        torch.cuda.empty_cache()
        Reporter().say(f"out of memory; continuing with runtime.batch_size={self.size}")


def _try(function: Callable[[Tensor], Tensor], batch: Tensor, least: int) -> Tensor | None:
    """Run one batch as `_of_filled`; None if the device runs out of memory."""
    try:
        return _of_filled(function, batch, least)
    except torch.OutOfMemoryError:
        return None


def _of_filled(function: Callable[[Tensor], Tensor], batch: Tensor, least: int) -> Tensor:
    """Run a batch, filled up to `least` rows with copies of its last one; return its own rows."""
    if len(batch) >= least:
        return function(batch)
    copies = batch[-1:].expand(least - len(batch), *batch.shape[1:])
    return function(torch.cat([batch, copies]))[: len(batch)]


@runtime_checkable
class FillsBatches(Protocol):
    """A loaded model whose results for an image may differ by rounding with the size of a batch."""

    def fill_batches(self, least: int) -> None:
        """Fill batches of whole images that are smaller up to `least` from now on."""
        ...


class Normalise:
    """Normalisation of pixels: (x / 255 - mean) / std of each channel."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std)
        )
        self._dtype = dtype

    def __call__(self, images: Tensor) -> Tensor:
        """Convert uint8 (n, 3, side, side) to the model's dtype, on its device."""
        bytes_ = to_device(images, self._mean.device)
        return ((bytes_.float().div_(255) - self._mean) / self._std).to(self._dtype)
