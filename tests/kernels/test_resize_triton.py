"""Triton's kernels for crops: Pillow's bytes under the interpreter, and code for cards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pipeline.kernels.resize import Resizer
from tests.helpers.runs import ROOT

triton = pytest.importorskip("triton", reason="Triton is not installed; it comes with CUDA's torch")

TAPS = {"rows": "*i32", "firsts": "*i32", "weights": "*i32", "side": "i32", "most": "i32"}
PASS = {"source": "*u8", "target": "*u8", "shapes": "*i64", **TAPS}


@pytest.mark.slow
@pytest.mark.subprocess
def test_crops_of_many_images_have_the_bytes_of_pillow() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.interpreted_crops", "6"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(boxes for boxes, _ in found) >= 100
    assert [bytes_ for _, bytes_ in found] == [0, 0, 0]


def test_kernels_are_launched_on_the_device_of_their_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which need not be the current one, such as `cuda:1`."""
    from pipeline.kernels import resize_triton

    current: list[torch.Tensor | None] = [None]
    launched: list[torch.Tensor | None] = []

    @contextmanager
    def device_of(tensor: torch.Tensor) -> Iterator[None]:
        current.append(tensor)
        yield
        current.pop()

    class Kernel:
        def __getitem__(self, grid: object) -> Callable[..., None]:
            return lambda *_, **__: launched.append(current[-1])

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    for name in ("_taps", "_pass"):
        monkeypatch.setattr(resize_triton, name, Kernel())
    image, box = torch.zeros(3, 5, 5, dtype=torch.uint8), np.array([[0, 0, 5, 5]])
    views, order = Resizer(4)._views(np.array([[5, 5]])), np.array([False])
    resize_triton.resized([image], [box], views, order, 4, "bicubic", torch.device("cpu"))
    assert len(launched) == 3
    assert all(tensor is not None for tensor in launched)


def compiled(kernel: str, types: dict[str, str], capability: int, **constants: int) -> str:
    """Compile a kernel for a card that need not be there; return its PTX."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.kernels import resize_triton

    signature = types | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=getattr(resize_triton, kernel), signature=signature, constexprs=constants)
    target = GPUTarget("cuda", capability, 32)
    built = triton.compile(source, target=target, options={"enable_fp_fusion": False})
    assert built.asm["cubin"]
    return str(built.asm["ptx"])


@pytest.mark.slow
@pytest.mark.parametrize("capability", [75, 80, 90])
def test_the_kernels_compile_for_cards(capability: int) -> None:
    """Weights are rounded after each product and sum, as Pillow's are."""
    weights = compiled("_taps", TAPS, capability, cubic=1, WIDTH=256)
    assert "div.rn.f64" in weights
    assert "fma.rn.f64" not in weights
    for second, shapes in ((0, "*i64"), (1, "*i32")):
        compiled("_pass", PASS | {"shapes": shapes}, capability, SECOND=second, BLOCK=1024)
