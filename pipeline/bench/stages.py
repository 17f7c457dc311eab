"""Benchmark of every stage against a plain implementation: `abs bench`.

Both implementations run alternately in one process, and the result is the median of their ratios,
because seconds depend on the other load of the machine. Weights are random: times and agreement of
the vectors are measured, accuracy is not.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.bench import plain
from pipeline.bench.builds import Build
from pipeline.bench.case import CLIP, TEXTS, VIT, Case, N
from pipeline.bench.timing import Row, Work, compare, in_turns, machine, seconds_of
from pipeline.core import files
from pipeline.core.paths import PROJECT
from pipeline.core.progress import Reporter
from pipeline.datasets.images import decode
from pipeline.engine.inline import WRITERS
from pipeline.kernels.matching import Descriptions, soft_match
from pipeline.kernels.resize import Resizer, planes
from pipeline.models.precision import best
from pipeline.store.artifact import Artifact
from pipeline.store.units import ArraySpec, Unit, row_units

CLASSES, TEXTS_PER_CLASS, DIM = 1000, 50, 512
"""Size of the text set for soft matching, as for ImageNet."""


def main(
    images: Path, number: int, pairs: int, out: Path, parts: list[Part], other: Path | None
) -> None:
    """Run comparisons, print a Markdown table, and store it in `out` as .md and .parquet.

    Args:
        images: Folder of photographs.
        number: Number of images to process.
        pairs: Number of timings of both sides.
        out: Folder of the tables.
        parts: Which comparisons to run.
        other: Folder of another build's code, to compare raw crops with; None for none.
    """
    rows, reporter = [], Reporter()
    works = [PARTS[part] for part in parts] + ([partial(builds, other)] if other else [])
    with tempfile.TemporaryDirectory() as folder:
        case = Case.of(Path(folder), images, number)
        for part in works:
            for row in part(case, pairs):
                reporter.say(f"{row.what}: {row.ratio:.2f}")
                rows.append(row)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    out.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame([{**asdict(row), **machine()} for row in rows])
    frame.to_parquet(out / f"{stamp}.parquet", index=False)
    text = markdown(rows, number, pairs)
    files.write_atomic(out / f"{stamp}.md", text.encode())
    print(text)


def markdown(rows: list[Row], number: int, pairs: int) -> str:
    """Format the table, below a line about models, counts and machine."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    head = f"{CLIP}, {VIT}, N = {N}, {number} images, medians of {pairs} pairs; {facts}.\n\n"
    table = "| what | ours | against | ratio | |\n|---|---|---|---|---|\n"
    cells = [
        (row.what, _clock(row.ours), _clock(row.against), f"{row.ratio:.2f}", row.note)
        for row in rows
    ]
    return head + table + "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds * 1e3:.1f} ms"


# --- Comparisons ------------------------------------------------------------------------------


def kernels(case: Case, pairs: int) -> Iterator[Row]:
    """Compare matrix products, crops and soft matching."""
    device = case.plain.device
    a, b = torch.randn(2048, 768, device=device), torch.randn(768, 3072, device=device)
    half = a.bfloat16(), b.bfloat16()
    operations = 2 * a.numel() * b.shape[1]
    row = compare(
        "matrix product, bfloat16 against float32",
        lambda: [torch.mm(*half) for _ in range(4)],
        lambda: [torch.mm(a, b) for _ in range(4)],
        4 * pairs,
    )
    rates = [4 * operations / seconds / 1e9 for seconds in (row.ours, row.against)]
    yield replace(row, note=f"{rates[0]:.0f} and {rates[1]:.0f} GFLOP/s")
    yield _crops(case, pairs)
    yield _matching(device, pairs)


def _crops(case: Case, pairs: int) -> Row:
    """Compare cropping and resizing with Pillow on one thread, and count differing bytes."""
    image = decode(case.files[0].read_bytes())
    pixels, generator = planes(image).to(case.plain.device), np.random.default_rng(0)
    shares = generator.random((2, N, 2))
    sides = ((0.5 + 0.4 * shares[0]) * min(image.size)).astype(int)
    corners = (shares[1] * (np.array(image.size) - sides)).astype(int)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    resizer, by_pillow = Resizer(224), case.plain.geometry
    expected = np.stack([np.asarray(by_pillow(image.crop(tuple(box)))) for box in boxes.tolist()])
    differing = int((resizer(pixels, boxes).cpu().numpy() != expected.transpose(0, 3, 1, 2)).sum())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    row = compare(
        f"crop and resize of {N} boxes, against Pillow",
        lambda: resizer(pixels, boxes),
        lambda: [np.asarray(by_pillow(image.crop(tuple(box)))) for box in boxes.tolist()],
        2 * pairs,
        f"{differing} differing bytes",
    )
    torch.set_num_threads(threads)
    return row


def _matching(device: torch.device, pairs: int) -> Row:
    """Compare soft matching with its matrix product and with the plain implementation."""
    texts = F.normalize(torch.randn(CLASSES * TEXTS_PER_CLASS, DIM), dim=-1)
    labels = torch.arange(CLASSES).repeat_interleave(TEXTS_PER_CLASS)
    crops = F.normalize(torch.randn(8, 2 * N, DIM), dim=-1)
    table = Descriptions.from_rows(texts, labels, CLASSES).to(device)
    texts, labels, crops = texts.to(device), labels.to(device), crops.to(device)
    rows, out = crops.flatten(0, 1), torch.empty(8 * 2 * N, 5000, device=device)

    def product() -> None:
        for start in range(0, len(texts), 5000):
            torch.mm(rows, texts[start : start + 5000].T, out=out)

    against_product = compare(
        "soft matching, against its matrix product alone",
        lambda: soft_match(crops, table, 0.03),
        product,
        2 * pairs,
    )
    against_plain = compare(
        "", lambda: soft_match(crops, table, 0.03),
        lambda: plain.soft_match(crops, texts, labels, 0.03), pairs,
    )  # fmt: skip
    note = f"{against_plain.ratio:.1f} times as fast as the plain implementation"
    return replace(against_product, note=note)


def store(case: Case, pairs: int) -> Iterator[Row]:
    """Compare vectors with NumPy files, in units of 128 images of 60 crops.

    They are written by as many threads as in a run.
    """
    block, units = 128, row_units(1024, 128)
    values = np.random.default_rng(0).random((block, N, DIM)).astype(np.float16)
    shape, chunks = (1024, N, DIM), (block, N, DIM)
    spec = ArraySpec("embeddings", ("image", "view", "dim"), shape, chunks, "float16")
    artifact, npy_folder = Artifact(case.folder / "vectors", "vectors"), case.folder / "plain"

    def write_unit(unit: Unit) -> None:
        written = artifact.write(unit, {"embeddings": values})
        artifact.commit(unit, block, written, {}, {})

    def write() -> None:
        artifact.begin({})
        artifact.create(spec)
        with ThreadPoolExecutor(WRITERS) as writers:  # as in a run
            list(writers.map(write_unit, units))
        artifact.finalise([], {})

    def write_npy() -> None:
        npy_folder.mkdir()
        for unit in units:
            with open(npy_folder / f"{unit.name}.npy", "wb") as file:
                np.save(file, values)
                os.fsync(file.fileno())

    remove: dict[Work, Work] = {
        write: artifact.remove,
        write_npy: partial(shutil.rmtree, npy_folder, ignore_errors=True),
    }

    def seconds(work: Work) -> float:
        remove[work]()  # before the clock starts: writing is what is compared
        return seconds_of(work)

    size, what = values.nbytes * len(units) / 1e6, "writing vectors, against numpy.save and fsync"
    row = compare(what, write, write_npy, pairs, seconds=seconds)
    yield replace(row, note=f"{size / row.ours:,.0f} and {size / row.against:,.0f} MB/s")
    array = artifact.array("embeddings")
    row = compare(
        "reading vectors, against numpy.load",
        lambda: [array[unit.rows] for unit in units],
        lambda: [np.load(npy_folder / f"{unit.name}.npy") for unit in units],
        pairs,
    )
    yield replace(row, note=f"{size / row.ours:,.0f} and {size / row.against:,.0f} MB/s")


def indexing(case: Case, pairs: int) -> Iterator[Row]:
    """Compare the index stage with decoding alone, and a second index with the first."""
    class_folder, count = case.folder / "many" / "any", 200
    class_folder.mkdir(parents=True)
    for i in range(count):
        source = case.files[i % len(case.files)]
        (class_folder / f"{i:04d}{source.suffix}").symlink_to(source.resolve())
    links = sorted(class_folder.iterdir())

    def index(delete_store: bool) -> None:
        run = case.run("index", f"dataset.root={class_folder.parent}", "index.max_skipped=1")
        if delete_store:
            shutil.rmtree(case.folder / "index", ignore_errors=True)
        run.execute(run.named("index"), [], quiet=True)

    row = compare(
        f"index of {count} files, against decoding them",
        lambda: index(True),
        lambda: [decode(file.read_bytes()) for file in links],
        pairs,
    )
    yield replace(row, note=f"{count / row.ours:,.0f} images/s")
    row = compare(
        "index of unchanged files, against their first index",
        lambda: index(False),
        lambda: index(True),
        pairs,
    )
    yield replace(row, note=f"{count / row.ours:,.0f} images/s")


def encoders(case: Case, pairs: int) -> Iterator[Row]:
    """Compare the models alone, on preprocessed tensors."""
    clip, bare = case.clip, case.plain.clip.visual
    pixels = torch.randint(0, 256, (N, 3, 224, 224), dtype=torch.uint8)
    normalised = clip._normalise(pixels)
    batches = normalised.split(plain.BATCH)
    yield compare(
        f"{N} raw crops, against forward passes of open_clip",
        lambda: clip.encode_images(pixels),
        lambda: [bare(batch) for batch in batches],
        pairs,
    )
    for each in (clip, case.auto_clip):
        yield _share_of_products(each, pixels, pairs)
    last, generator = len(clip._tower.blocks) - 1, np.random.default_rng(0)
    sides = generator.choice([7, 9, 11, 13], N)
    corners = (generator.random((2, N)) * (15 - sides)).astype(int)
    ends = [np.zeros(N, int), *corners, *(corners + sides)]
    windows = torch.from_numpy(np.stack(ends, axis=1))
    tokens = clip.tokens_before(pixels[:1], last)
    row = compare(
        f"{N} feature crops in the last block, against one forward pass of open_clip",
        lambda: clip.encode_windows(tokens, windows, last, "crop", 2.0),
        lambda: bare(normalised[:1]),
        2 * pairs,
    )
    yield replace(row, note=f"{1 / row.ratio:.3f} of a forward pass")
    maps = case.workers["attention"].maps
    timm_vit = timm.create_model(VIT).eval().to(clip.device)
    yield compare(
        "attention of 16 images, against a forward pass of timm",
        lambda: maps.attention(pixels[:16]),
        lambda: timm_vit(normalised[:16]),
        pairs,
    )
    auto, reason = best("auto")
    yield compare(
        f"{N} raw crops, {auto} against float32",
        lambda: case.auto_clip.encode_images(pixels),
        lambda: clip.encode_images(pixels),
        pairs,
        reason,
    )


def _share_of_products(clip: Any, pixels: Tensor, pairs: int) -> Row:
    """Compare encoding crops with the four F.linear of every block but the last, alone."""
    blocks = clip._tower.blocks[:-1]
    count, length = clip.batch_size, 1 + clip._grid**2
    mlp, attention = blocks[0].mlp, blocks[0].attn
    layers = (
        (attention.in_proj_weight, attention.in_proj_bias),
        (attention.out_proj.weight, attention.out_proj.bias),
        (mlp.c_fc.weight, mlp.c_fc.bias),
        (mlp.c_proj.weight, mlp.c_proj.bias),
    )
    inputs = [torch.randn(count, length, w.shape[1], device=clip.device).to(w) for w, _ in layers]
    whole = pixels[: len(pixels) // count * count]

    def products() -> None:
        for _ in range(len(whole) // count * len(blocks)):
            for tokens, (weight, bias) in zip(inputs, layers, strict=True):
                F.linear(tokens, weight, bias)

    dtype = str(attention.in_proj_weight.dtype).removeprefix("torch.")
    what = f"{len(whole)} raw crops, {dtype}, against the four F.linear of their blocks alone"
    row = compare(what, lambda: clip.encode_images(whole), products, pairs)
    return replace(row, note="share of the products' rate")


def stages(case: Case, pairs: int) -> Iterator[Row]:
    """Compare stages one by one, from image files to vectors."""
    for name, plain_stage in case.plain_stages.items():
        note = ""
        if name != "attention":  # the plain attention model has other random weights
            (vectors,) = case.work(name).values()
            with torch.inference_mode():
                plain_vectors = plain_stage()
            worst = np.abs(vectors - plain_vectors.cpu().numpy().reshape(vectors.shape)).max()
            note = f"differs by at most {worst:.1e}"
        ours = lambda name=name: case.work(name)  # noqa: E731
        yield compare(f"{name}, from files", ours, plain_stage, pairs, note)


def together(case: Case, pairs: int) -> Iterator[Row]:
    """Compare the whole pipeline, including its store but not the loading of models."""
    counts = iter(range(10**6))

    def pipeline(precision: str) -> float:
        overrides = [f"{section}.precision={precision}" for section in ("clip", "attention")]
        run = case.run(f"all-{next(counts)}", *overrides)
        _ = [stage.key for stage in run.stages]  # resolves the models, which is part of loading
        start = time.perf_counter()
        outcomes = run.execute(run.stages, [], quiet=True)
        return time.perf_counter() - start - sum(o.seconds.get("load", 0.0) for o in outcomes)

    def plain_pipeline() -> float:
        parts = [lambda: case.plain.texts(TEXTS), *case.plain_stages.values()]
        return sum(map(seconds_of, parts))

    auto = best("auto")[0]
    times = [(pipeline("float32"), pipeline(auto), plain_pipeline()) for _ in range(pairs + 1)][1:]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    for column, name in enumerate(("float32", auto)):
        ratio = statistics.median(row[2] / row[column] for row in times)
        note = f"{len(case.files) / medians[column]:.3f} images/s"
        what = f"all stages, {name}, against the plain implementation"
        yield Row(what, medians[column], medians[2], ratio, note)
    ratio = statistics.median(single / half for single, half, _ in times)
    yield Row(f"all stages, {auto} against float32", medians[1], medians[0], ratio)


def builds(other: Path, case: Case, pairs: int) -> Iterator[Row]:
    """Compare raw crops, from files, with another build of this project."""
    for precision in dict.fromkeys(("float32", best("auto")[0])):
        ours, against = (
            Build(code, case.folder / "bench.yaml", precision, case.folder / f"{name}-{precision}")
            for name, code in (("this", PROJECT), ("other", other.resolve()))
        )
        for each in (ours, against):
            each.prepare()
        what = f"embeddings-raw, {precision}, from files, against another build"
        yield in_turns(what, ours.seconds, against.seconds, pairs)


def cached(case: Case, pairs: int) -> Iterator[Row]:
    """Compare a run whose stages are all finished with importing pandas and typer."""
    environment = {**os.environ, "ABS_ARTIFACTS": str(case.folder / "float32")}
    words = ["run", "--dataset", str(case.folder / "bench.yaml")]
    words += ["--set", "windows.encode=drawn", "--set", "scores.methods=[clip,cupl,abs]"]

    def process(*command: str) -> Work:
        return lambda: subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, check=True
        )

    yield compare(
        "a run with nothing to do, against importing pandas and typer",
        process("-m", "pipeline", *words),
        process("-c", "import pandas, typer"),
        pairs,
    )


class Part(StrEnum):
    """Names of the groups of comparisons."""

    KERNELS = "kernels"
    STORE = "store"
    INDEX = "index"
    ENCODERS = "encoders"
    STAGES = "stages"
    TOGETHER = "together"
    CACHED = "cached"


PARTS: dict[Part, Callable[[Case, int], Iterator[Row]]] = {
    Part.KERNELS: kernels,
    Part.STORE: store,
    Part.INDEX: indexing,
    Part.ENCODERS: encoders,
    Part.STAGES: stages,
    Part.TOGETHER: together,
    Part.CACHED: cached,
}
