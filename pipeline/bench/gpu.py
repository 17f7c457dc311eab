"""Check and measure this project on a CUDA device: `make gpu`.

First whether results are right there, then how fast it is. Every part has a process of its own, as
an error on a card may spoil all that its process does after it: a part that fails, dies or does not
end is a line of the table, and the next one runs. Weights are random.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.bench import case
from pipeline.bench.case import Case
from pipeline.bench.small import IMAGES, digests
from pipeline.bench.timing import machine
from pipeline.core.progress import Reporter
from pipeline.core.runtime import Runtime
from pipeline.datasets.images import decode
from pipeline.engine.dask.local import PRELOADED
from pipeline.inspect.recompute import recompute
from pipeline.inspect.verify import VerifyReport
from pipeline.kernels import resize
from pipeline.kernels.resize import Resizer, planes
from pipeline.models.clip.model import ClipModel, build
from pipeline.run import Run

MODELS = ("ViT-B-32-quickgelu", "ViT-B-16-quickgelu", "ViT-L-14-quickgelu")
"""Models that are timed; results are checked with the first."""
SECONDS = 460
"""Seconds after which a part is ended, and those that have not begun are left out."""
ENCODERS = ("attention", "embeddings-image", "embeddings-raw", "embeddings-feature")
"""Stages of a run that take time for every image."""


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    what: str
    result: str
    right: bool | None = None
    """Outcome of a check; None for a measurement."""


@dataclass(frozen=True)
class Bench:
    """Models and settings that are checked and measured on a device."""

    case: Case
    device: torch.device
    overrides: tuple[str, ...] = ()
    """Further settings of all runs."""
    models: tuple[str, ...] = MODELS
    crops: int = 2048
    """Crops that are encoded to time an encoder."""
    side: int = 8192
    """Side of the matrices whose product is timed."""
    few: int = 8
    """Images of the plain path."""
    seconds: float = SECONDS
    """Seconds for all parts."""
    begun: float = field(default_factory=time.monotonic)

    def run(self, store: str, *overrides: str, model: str | None = None) -> Run:
        """Return a run on the device, in a store of its own."""
        chosen = f"clip.model={model or self.models[0]}"
        common = f"runtime.device={self.device}", "scores.methods=[clip,cupl,abs]"
        return self.case.run(store, chosen, *common, *self.overrides, *overrides)

    def clip(self, model: str, precision: str, **runtime: int | str) -> ClipModel:
        """Load a CLIP, on the device unless `runtime` names another."""
        run = self.run("clip", f"clip.precision={precision}", model=model)
        where = Runtime.model_validate({"device": str(self.device), **runtime})
        return ClipModel(run.named("embeddings-image")[0].clip, where)  # type: ignore[attr-defined]

    def pixels(self, clip: ClipModel) -> Tensor:
        """Return the images as CLIP's inputs, on its device."""
        images = (decode(file.read_bytes()) for file in self.case.files)
        return clip.preprocess.block((image, None) for image in images)


# --- Checks -----------------------------------------------------------------------------------


def crops_are_pillows(bench: Bench) -> Iterator[Line]:
    """Compare the bytes of crops on the device with those on the CPU, which are Pillow's."""
    rng = np.random.default_rng(0)
    pairs = []
    for file in bench.case.files:
        image = planes(decode(file.read_bytes()))
        ends = rng.integers(0, np.array(image.shape[:0:-1]) - 1, (60, 2, 2))
        pairs.append((image, np.concatenate([ends.min(axis=1), ends.max(axis=1) + 1], axis=1)))
    for resizer in (Resizer(224), Resizer(224, "squash", "bilinear")):
        wanted = torch.cat(list(resizer.by_groups(pairs, torch.device("cpu"))))
        found = torch.cat(list(resizer.by_groups(pairs, bench.device))).cpu()
        yield _differing(f"crops, {resizer.mode} and {resizer.filter}", found, wanted)
    products = [resize._by_products(i.to(bench.device), resizer._crops(b)) for i, b in pairs]
    yield _differing("crops by products in float64", torch.cat(products).cpu(), wanted)


def _differing(what: str, found: Tensor, wanted: Tensor) -> Line:
    count = int((found != wanted).sum())
    return Line(what, f"{count} differing bytes in {len(wanted)} crops", count == 0)


def vectors_are_the_cpus(bench: Bench) -> Iterator[Line]:
    """Compare vectors in float32 with those of the CPU."""
    model = bench.models[0]
    here, there = (
        bench.clip(model, "float32", device=device) for device in ("cpu", str(bench.device))
    )
    pixels = bench.pixels(here)
    yield _close("whole images, against the CPU", there, here, lambda clip: _images(clip, pixels))
    for layer in (0, len(here._tower.blocks) - 1):
        vectors = partial(_windows, pixels=pixels, layer=layer)
        yield _close(f"windows at block {layer}, against the CPU", there, here, vectors)


def one_batch_size_against_another(bench: Bench) -> Iterator[Line]:
    """Compare vectors in float32 of two batch sizes."""
    one, other = (bench.clip(bench.models[0], "float32", batch_size=size) for size in (64, 7))
    pixels = bench.pixels(one)
    yield _close("batches of 64 and of 7", one, other, lambda clip: _images(clip, pixels))


def _images(clip: ClipModel, pixels: Tensor) -> Tensor:
    return clip.encode_images(pixels)


def _windows(clip: ClipModel, pixels: Tensor, layer: int) -> Tensor:
    tokens = clip.tokens_before(pixels, layer)
    image = torch.arange(len(tokens)).repeat_interleave(3)
    windows = torch.tensor([[0, 0, 2, 3], [1, 0, 3, 2], [0, 0, 3, 3]]).repeat(len(tokens), 1)
    rows = torch.cat([image[:, None], windows], dim=1)
    return clip.encode_windows(tokens, rows, layer, "crop", 2.0)


def _close(
    what: str, one: ClipModel, other: ClipModel, vectors: Callable[[ClipModel], Tensor]
) -> Line:
    """Compare unit vectors; convolutions on CUDA round their inputs to TF32."""
    furthest = float((vectors(one) - vectors(other)).abs().max())
    return Line(what, f"differ by {furthest:.1e} at most", furthest <= 1e-3)


def a_run_again_is_the_same(bench: Bench) -> Iterator[Line]:
    """Run all stages twice in stores of their own; compare digests, then `verify --deep`."""
    runs = [bench.run(store) for store in ("once", "twice")]
    for run in runs:
        run.execute(run.stages, [], quiet=True)
    first, second = (digests(run) for run in runs)
    other = [name for name in first if first[name] != second[name]]
    yield Line("digests of two runs", f"differ: {other}" if other else "equal", not other)
    report = VerifyReport()
    recompute(report, runs[0].store, runs[0].stages, Reporter(quiet=True))
    what = f"{len(report.damage)} of {len(report.again)} units differ"
    yield Line("verify --deep", what, not report.damage and bool(report.again))


def memory_that_runs_out(bench: Bench) -> Iterator[Line]:
    """Leave too little memory for a batch: it is halved, and vectors stay the same."""
    clip = bench.clip(bench.models[0], "float32", batch_size=4096)
    pixels = bench.pixels(clip)
    few = pixels[torch.arange(4096, device=bench.device) % len(pixels)]
    total = torch.cuda.get_device_properties(bench.device).total_memory
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(bench.device) + (2 << 30)
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), bench.device)
    try:
        found = clip.encode_images(few)[: len(pixels)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
    furthest = float((found - clip.encode_images(pixels)).abs().max())
    said = f"a batch of 4096 became {clip.batch_size}; vectors differ by {furthest:.1e} at most"
    yield Line("memory that runs out", said, clip.batch_size < 4096 and furthest <= 1e-3)


# --- Speed ------------------------------------------------------------------------------------


def matrix_rate(bench: Bench) -> float:
    """Measure products of square matrices in bfloat16, in FLOP/s."""
    a, b = torch.randn(2, bench.side, bench.side, device=bench.device, dtype=torch.bfloat16)
    return 2 * bench.side**3 / _seconds(lambda: a @ b, bench.device, 10)


def products(bench: Bench) -> Iterator[Line]:
    """Report the rate of products."""
    yield Line("matrix products, bfloat16", f"{matrix_rate(bench) / 1e12:.1f} TFLOP/s")


def encoder(bench: Bench, model: str) -> Iterator[Line]:
    """Time the image encoder beside open_clip's own, both in bfloat16, on pixels on the device."""
    clip = bench.clip(model, "bfloat16")
    pixels = bench.pixels(clip)
    crops = pixels[torch.arange(bench.crops, device=bench.device) % len(pixels)]
    ours = bench.crops / _seconds(lambda: clip.encode_images(crops, full=True), bench.device, 3)
    source = bench.run("clip", model=model).named("embeddings-image")[0].clip  # type: ignore[attr-defined]
    plain = build(source)[0].to(bench.device, torch.bfloat16).eval()
    batch = crops[: clip.batch_size].to(torch.bfloat16)
    seconds = _seconds(lambda: F.normalize(plain.encode_image(batch), dim=-1), bench.device, 3)
    share = ours * operations_of(plain, batch[:1]) / matrix_rate(bench)
    result = f"{ours:.0f} crops/s, {share:.0%} of the matrix rate"
    yield Line(f"{model}, crops", f"{result}; open_clip's own {len(batch) / seconds:.0f} crops/s")


def operations_of(model: torch.nn.Module, image: Tensor) -> int:
    """Count the operations of open_clip's forward pass of an image.

    With gradients, as without them torch runs attention in one operation that is not counted.
    """
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model.encode_image(image)  # type: ignore[operator]
    return int(counter.get_total_flops())


def end_to_end(bench: Bench, model: str) -> Iterator[Line]:
    """Time the stages that take time for every image, from files to vectors, one after another.

    Files are decoded each time, and nothing is read ahead, unlike in a run.
    """
    precision = ("clip.precision=bfloat16", "attention.precision=bfloat16")
    run = bench.run(f"end-{bench.models.index(model)}", *precision, model=model)
    before = [stage for stage in run.stages if stage.kind in ("index", "attention", "crops")]
    run.execute(before, [], quiet=True)
    total = 0.0
    for name in ENCODERS:
        (stage,) = run.named(name)
        work = partial(case.work_of, stage.worker(run.store), stage, run.store)
        total += _seconds(work, bench.device, 1)
    rate = len(bench.case.files) / total
    yield Line(f"{model}, end to end", f"{rate:.1f} images/s, N = {run.settings.scores.n}")


def plain_path(bench: Bench) -> Iterator[Line]:
    """Time the plain implementation of the same stages, in float32, on a few of the images."""
    few = Case.of(bench.case.folder / "few", bench.case.folder / "images", bench.few)
    total = sum(_seconds(work, bench.device, 1) for work in few.plain_stages.values())
    what = f"{case.CLIP}, the plain path, float32"
    yield Line(what, f"{len(few.files) / total:.1f} images/s, N = {case.N}")


def _seconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Return the mean seconds of a call, after one that is not counted."""
    with torch.inference_mode():
        work()
        _wait(device)
        start = time.perf_counter()
        for _ in range(times):
            work()
        _wait(device)
    return (time.perf_counter() - start) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- The table --------------------------------------------------------------------------------

Part = Callable[[Bench], Iterator[Line]]
CHECKS: dict[str, Part] = {
    "crops": crops_are_pillows,
    "vectors": vectors_are_the_cpus,
    "batch sizes": one_batch_size_against_another,
    "two runs": a_run_again_is_the_same,
    "out of memory": memory_that_runs_out,
}


def parts_of(bench: Bench) -> dict[str, Part]:
    """Return all parts by name: checks first, then speed, by model."""
    timed: dict[str, Part] = {"matrix products": products}
    for model in bench.models:
        timed[f"{model}, crops"] = partial(encoder, model=model)
        timed[f"{model}, end to end"] = partial(end_to_end, model=model)
    return {**CHECKS, **timed, "the plain path": plain_path}


def lines_of(bench: Bench, parts: dict[str, Part]) -> Iterator[Line]:
    """Run parts, each in a process of its own, until time is up."""
    for name, part in parts.items():
        left = bench.seconds - (time.monotonic() - bench.begun)
        if left <= 0:
            yield Line(name, "not run: time is up", False)
            continue
        processes = get_context("forkserver")
        processes.set_forkserver_preload(PRELOADED)
        here, there = processes.Pipe(duplex=False)
        process = processes.Process(target=_send, args=(there, bench, name, part))
        process.start()
        there.close()
        yield from _received(here, name, left)
        process.kill()
        process.join()


def _send(there: Connection, bench: Bench, name: str, part: Part) -> None:
    there.send(outcome(bench, name, part))


def _received(here: Connection, name: str, seconds: float) -> list[Line]:
    """Return the lines of a part from its process, or one that says why there are none."""
    if not here.poll(seconds):
        return [Line(name, "ended: time is up", False)]
    try:
        return list(here.recv())
    except EOFError:
        return [Line(name, "failed: its process died", False)]


def outcome(bench: Bench, name: str, part: Part) -> list[Line]:
    """Run a part; if it fails, the last line says why, with a traceback on stderr."""
    lines: list[Line] = []
    try:
        lines.extend(part(bench))
    except Exception as error:
        traceback.print_exc()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        lines.append(Line(name, f"failed: {reason}", False))
    return lines


def markdown(lines: list[Line]) -> str:
    """Format the table, below a line about the machine."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    words = {None: "", True: "passed", False: "FAILED"}
    rows = [f"| {line.what} | {line.result} | {words[line.right]} |\n" for line in lines]
    return f"{facts}.\n\n| what | result | |\n|---|---|---|\n" + "".join(rows)


def main(images: Path) -> int:
    """Check and measure on images of a folder; print the table.

    Returns 1 if a part failed, 2 without a CUDA device.
    """
    if not torch.cuda.is_available():
        print(
            f"gpu: torch {torch.__version__} finds no CUDA device; run this where a card and its "
            "driver are, with torch built for CUDA",
            file=sys.stderr,
        )
        return 2
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Case.of(Path(folder), images, 64), torch.device("cuda:0"))
        for line in lines_of(bench, parts_of(bench)):
            Reporter().say(f"{line.what}: {line.result}")
            lines.append(line)
    print(markdown(lines))
    return int(any(line.right is False for line in lines))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else IMAGES))
