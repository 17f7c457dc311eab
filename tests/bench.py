"""`abs bench`: this program beside the plain way, on the machine at hand.

Both ways take turns in one process, and what counts is the median of their ratios: seconds alone
mean little on a machine that does other things. Weights are random: times and agreement are
measured here, accuracy is not.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
import torch.nn.functional as F
import yaml

from pipeline import files
from pipeline.artifact import Artifact
from pipeline.commands import Run
from pipeline.errors import AbsError
from pipeline.images import Images, decode
from pipeline.kernels.matching import Descriptions, soft_match
from pipeline.kernels.resize import Resizer, planes
from pipeline.models.precision import best
from pipeline.progress import Reporter
from pipeline.stage import ArraySpec, row_units
from pipeline.views import BOX, WINDOW
from tests import plain

CLIP, VIT = "ViT-B-16", "vit_base_patch16_224.dino"
N = 60
"""Crops of a branch, as in the paper."""
CLASSES, EACH, DIM = 1000, 50, 512
"""Descriptions for soft matching, as for ImageNet."""

TEXTS = [f"a photo with {i} things" for i in range(8)]
"""What the pipeline itself encodes: few, as for a dataset they are encoded once."""

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One comparison."""

    what: str
    ours: float
    """Seconds, the median."""
    against: float
    ratio: float
    """The median of against / ours, pair by pair."""
    note: str = ""


def compared(what: str, ours: Work, against: Work, pairs: int, note: str = "") -> Row:
    """Both in turns, after a first pair that warms caches and allocators."""
    found = [(_seconds(ours), _seconds(against)) for _ in range(pairs + 1)][1:]
    a, b = (statistics.median(each) for each in zip(*found, strict=True))
    return Row(what, a, b, statistics.median(y / x for x, y in found), note)


@torch.inference_mode()
def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(images: Path, number: int, pairs: int, out: Path) -> None:
    """Measure, print a Markdown table, and store it below `out`."""
    rows, reporter = [], Reporter()
    with tempfile.TemporaryDirectory() as folder:
        case = Case.of(Path(folder), images, number)
        for part in (kernels, store, indexing, encoders, stages, together, cached):
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


def machine() -> dict[str, Any]:
    """What the figures are of."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    threads = torch.get_num_threads()
    return {"cpu": cpu, "threads": threads, "device": device, "torch": torch.__version__}


def markdown(rows: list[Row], number: int, pairs: int) -> str:
    """The table, under a line about the machine."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    head = f"{CLIP}, {VIT}, N = {N}, {number} images, medians of {pairs} pairs; {facts}.\n\n"
    table = "| what | ours | against | ratio | |\n|---|---|---|---|---|\n"
    cells = [
        (row.what, _clock(row.ours), _clock(row.against), f"{row.ratio:.2f}", row.note)
        for row in rows
    ]
    return head + table + "".join(f"| {' | '.join(each)} |\n" for each in cells)


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds * 1e3:.1f} ms"


# --- What is worked on ------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A dataset of a few images, and the models that both ways share."""

    folder: Path
    files: list[Path]

    @classmethod
    def of(cls, folder: Path, images: Path, number: int) -> Case:
        """Images from all over a folder, in one class."""
        found = sorted(
            p for p in images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")
        )
        if len(found) < number:
            raise AbsError(f"{images} has {len(found)} images, fewer than {number}")
        place = folder / "images" / "any"
        place.mkdir(parents=True)
        for i in range(number):
            source = found[i * len(found) // number]
            (place / f"{i:03d}{source.suffix}").symlink_to(source.resolve())
        files.write_json(folder / "texts.json", {"any": TEXTS})
        config = {
            "dataset": {"name": "bench", "root": str(folder / "images")},
            "clip": {"model": CLIP, "weights": "random:0"},
            "attention": {"model": VIT, "weights": "random:0"},
            "descriptions": {"cupl": {"file": str(folder / "texts.json")}},
            "scores": {"methods": ["abs"], "n": N},
            "layout": {"images": number, "crops": N},
        }
        (folder / "bench.yaml").write_text(yaml.safe_dump(config))
        return cls(folder, sorted(place.iterdir()))

    def run(self, store: str, *changes: str) -> Run:
        """The pipeline over the images in a store of that name."""
        os.environ["ABS_ARTIFACTS"] = str(self.folder / store)
        return Run.of(
            str(self.folder / "bench.yaml"), "official", ["windows.encode=drawn", *changes]
        )

    @cached_property
    def made(self) -> Run:
        """The same in float32, with every stage finished."""
        run = self.run("float32", "scores.methods=[clip,cupl,abs]")
        run.execute(run.stages, [], quiet=True)
        return run

    @cached_property
    def workers(self) -> dict[str, Any]:
        """The stages that run a model, by name."""
        names = ("attention", "embeddings-image", "embeddings-raw", "embeddings-feature")
        return {name: self.made.named(name)[0].worker(self.made.store) for name in names}

    @cached_property
    def plain(self) -> plain.Plain:
        """The plain way, with the very weights of the CLIP above."""
        clip = self.workers["embeddings-raw"].clip
        return plain.Plain(clip._model, timm.create_model(VIT).eval().to(clip.device))

    @cached_property
    def plain_stages(self) -> dict[str, Callable[[], Any]]:
        """What the plain way does in place of each worker."""
        tables = {
            name: self.made.store.open(self.made.named(name)[0]).table("crops")
            for name in ("crops-raw", "crops-feature")
        }
        shape = len(self.files), N, 4
        boxes = tables["crops-raw"][BOX].to_numpy().reshape(shape)
        windows = tables["crops-feature"][WINDOW].to_numpy().reshape(shape)
        return {
            "attention": lambda: self.plain.attention(self.files),
            "embeddings-image": lambda: self.plain.images(self.files),
            "embeddings-raw": lambda: self.plain.boxes(self.files, boxes),
            "embeddings-feature": lambda: self.plain.windows(self.files, windows),
        }

    def work(self, name: str) -> Any:
        """All that the worker of a stage makes, with nothing kept from the last time."""
        worker, run = self.workers[name], self.made
        index = run.store.open(run.named("index")[0]).table("images")
        fresh: dict[str, Any] = {"images": Images(worker.images._contents, index)}
        if hasattr(worker, "_tokens"):
            fresh["_tokens"] = {}
        worker = replace(worker, **fresh)
        (unit,) = run.named(name)[0].units(run.store)
        return worker.compute(unit, worker.read(unit))


# --- What is compared -------------------------------------------------------------------------


def kernels(case: Case, pairs: int) -> Iterator[Row]:
    """Products, crops and matching."""
    device = case.plain.device
    a, b = torch.randn(2048, 768, device=device), torch.randn(768, 3072, device=device)
    short = a.bfloat16(), b.bfloat16()
    work = 2 * a.numel() * b.shape[1]
    row = compared(
        "matrix product, bfloat16 against float32",
        lambda: [torch.mm(*short) for _ in range(4)],
        lambda: [torch.mm(a, b) for _ in range(4)],
        4 * pairs,
    )
    rates = [4 * work / seconds / 1e9 for seconds in (row.ours, row.against)]
    yield replace(row, note=f"{rates[0]:.0f} and {rates[1]:.0f} GFLOP/s")
    yield _crops(case, pairs)
    yield _matching(device, pairs)


def _crops(case: Case, pairs: int) -> Row:
    image = decode(case.files[0].read_bytes())
    held, generator = planes(image).to(case.plain.device), np.random.default_rng(0)
    shares = generator.random((2, N, 2))
    sides = ((0.5 + 0.4 * shares[0]) * min(image.size)).astype(int)
    corners = (shares[1] * (np.array(image.size) - sides)).astype(int)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    resizer, by_pillow = Resizer(224), case.plain.geometry
    found = np.stack([np.asarray(by_pillow(image.crop(tuple(box)))) for box in boxes.tolist()])
    differing = int((resizer(held, boxes).cpu().numpy() != found.transpose(0, 3, 1, 2)).sum())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    row = compared(
        f"crop and resize of {N} boxes, against Pillow's",
        lambda: resizer(held, boxes),
        lambda: [np.asarray(by_pillow(image.crop(tuple(box)))) for box in boxes.tolist()],
        2 * pairs,
        f"{differing} differing bytes",
    )
    torch.set_num_threads(threads)
    return row


def _matching(device: torch.device, pairs: int) -> Row:
    texts = F.normalize(torch.randn(CLASSES * EACH, DIM), dim=-1)
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    crops = F.normalize(torch.randn(8, 2 * N, DIM), dim=-1)
    table = Descriptions.from_rows(texts, labels, CLASSES).to(device)
    texts, labels, crops = texts.to(device), labels.to(device), crops.to(device)
    rows, out = crops.flatten(0, 1), torch.empty(8 * 2 * N, 5000, device=device)

    def product() -> None:
        for start in range(0, len(texts), 5000):
            torch.mm(rows, texts[start : start + 5000].T, out=out)

    bare = compared(
        "soft matching, against its matrix product alone",
        lambda: soft_match(crops, table, 0.03),
        product,
        2 * pairs,
    )
    plainly = compared(
        "", lambda: soft_match(crops, table, 0.03),
        lambda: plain.soft_match(crops, texts, labels, 0.03), pairs,
    )  # fmt: skip
    return replace(bare, note=f"{plainly.ratio:.1f} times the plain way")


def store(case: Case, pairs: int) -> Iterator[Row]:
    """Vectors of 60 crops of 128 images a unit, written with receipts and read."""
    block, units = 128, row_units(1024, 128)
    values = np.random.default_rng(0).random((block, N, DIM)).astype(np.float16)
    shape, chunks = (1024, N, DIM), (block, N, DIM)
    spec = ArraySpec("embeddings", ("image", "view", "dim"), shape, chunks, "float16")
    artifact, plainly = Artifact(case.folder / "vectors", "vectors"), case.folder / "plain"

    def write() -> None:
        artifact.remove()
        artifact.begin({})
        artifact.create(spec)
        for unit in units:
            written = artifact.write(unit, {"embeddings": values})
            artifact.commit(unit, block, written, {}, {})
        artifact.finalise([], {})

    def write_plainly() -> None:
        shutil.rmtree(plainly, ignore_errors=True)
        plainly.mkdir()
        for unit in units:
            with open(plainly / f"{unit.name}.npy", "wb") as file:
                np.save(file, values)
                os.fsync(file.fileno())

    size = values.nbytes * len(units) / 1e6
    row = compared("writing vectors, against numpy.save and fsync", write, write_plainly, pairs)
    yield replace(row, note=f"{size / row.ours:,.0f} and {size / row.against:,.0f} MB/s")
    array = artifact.array("embeddings")
    row = compared(
        "reading them, against numpy.load",
        lambda: [array[unit.rows] for unit in units],
        lambda: [np.load(plainly / f"{unit.name}.npy") for unit in units],
        pairs,
    )
    yield replace(row, note=f"{size / row.ours:,.0f} and {size / row.against:,.0f} MB/s")


def indexing(case: Case, pairs: int) -> Iterator[Row]:
    """Listing, hashing, decoding and committing; then what a second look costs."""
    place, count = case.folder / "many" / "any", 200
    place.mkdir(parents=True)
    for i in range(count):
        source = case.files[i % len(case.files)]
        (place / f"{i:04d}{source.suffix}").symlink_to(source.resolve())
    links = sorted(place.iterdir())

    def index(forget: bool) -> None:
        run = case.run("index", f"dataset.root={place.parent}", "index.max_skipped=1")
        if forget:
            shutil.rmtree(case.folder / "index", ignore_errors=True)
        run.execute(run.named("index"), [], quiet=True)

    row = compared(
        f"index of {count} files, against decoding them",
        lambda: index(True),
        lambda: [decode(file.read_bytes()) for file in links],
        pairs,
    )
    yield replace(row, note=f"{count / row.ours:,.0f} images/s")
    row = compared("a second look at them", lambda: index(False), lambda: index(True), pairs)
    yield replace(row, note=f"{count / row.ours:,.0f} images/s")


def encoders(case: Case, pairs: int) -> Iterator[Row]:
    """Models alone, on tensors that are ready."""
    clip = case.workers["embeddings-raw"].clip
    pixels = torch.randint(0, 256, (N, 3, 224, 224), dtype=torch.uint8)
    ready = clip._normalise(pixels)
    batches = ready.split(plain.BATCH)
    yield compared(
        f"{N} raw crops, against a bare forward of open_clip",
        lambda: clip.encode_images(pixels),
        lambda: [clip._visual(batch) for batch in batches],
        pairs,
    )
    last, generator = len(clip._blocks) - 1, np.random.default_rng(0)
    sides = generator.choice([7, 9, 11, 13], N)
    corners = (generator.random((2, N)) * (15 - sides)).astype(int)
    ends = [np.zeros(N, int), *corners, *(corners + sides)]
    windows = torch.from_numpy(np.stack(ends, axis=1))
    tokens = clip.tokens_before(pixels[:1], last)
    row = compared(
        f"{N} feature crops beyond the blocks before, against one plain forward",
        lambda: clip.encode_windows(tokens, windows, last, "crop", 2.0),
        lambda: clip._visual(ready[:1]),
        2 * pairs,
    )
    yield replace(row, note=f"{1 / row.ratio:.3f} of a forward")
    maps = case.workers["attention"].maps
    bare = timm.create_model(VIT).eval().to(clip.device)
    yield compared(
        "attention of 16 images, against a bare forward of timm",
        lambda: maps.attention(pixels[:16]),
        lambda: bare(ready[:16]),
        pairs,
    )
    half = case.run("half", "clip.precision=auto")
    shorter = half.named("embeddings-raw")[0].worker(case.made.store).clip  # type: ignore[attr-defined]
    yield compared(
        f"{N} raw crops, {half.settings.clip.precision} against float32",
        lambda: shorter.encode_images(pixels),
        lambda: clip.encode_images(pixels),
        pairs,
        best("auto")[1],
    )


def stages(case: Case, pairs: int) -> Iterator[Row]:
    """From image files to vectors, stage by stage."""
    for name, plainly in case.plain_stages.items():
        note = ""
        if name != "attention":  # its plain model has weights of its own
            (stored,) = case.work(name).values()
            with torch.inference_mode():
                plain_vectors = plainly()
            worst = np.abs(stored - plain_vectors.cpu().numpy().reshape(stored.shape)).max()
            note = f"differs by {worst:.1e} at most"
        ours = lambda name=name: case.work(name)  # noqa: E731
        yield compared(f"{name}, from files", ours, plainly, pairs, note)


def together(case: Case, pairs: int) -> Iterator[Row]:
    """The whole pipeline with its store, but for loading models."""
    counts = iter(range(10**6))

    def pipeline(precision: str) -> float:
        changes = [f"{section}.precision={precision}" for section in ("clip", "attention")]
        run = case.run(f"all-{next(counts)}", *changes)
        _ = [stage.key for stage in run.stages]  # finding the models belongs to loading them
        start = time.perf_counter()
        outcomes = run.execute(run.stages, [], quiet=True)
        return time.perf_counter() - start - sum(o.seconds.get("load", 0.0) for o in outcomes)

    def plainly() -> float:
        ways = [lambda: case.plain.texts(TEXTS), *case.plain_stages.values()]
        return sum(map(_seconds, ways))

    chosen = best("auto")[0]
    found = [(pipeline("float32"), pipeline(chosen), plainly()) for _ in range(pairs + 1)][1:]
    medians = [statistics.median(each) for each in zip(*found, strict=True)]
    for place, name in enumerate(("float32", chosen)):
        ratio = statistics.median(each[2] / each[place] for each in found)
        note = f"{len(case.files) / medians[place]:.3f} images/s"
        yield Row(
            f"everything, {name}, against the plain way", medians[place], medians[2], ratio, note
        )
    ratio = statistics.median(single / half for single, half, _ in found)
    yield Row(f"everything, {chosen} against float32", medians[1], medians[0], ratio)


def cached(case: Case, pairs: int) -> Iterator[Row]:
    """A run that finds everything done, as a process of its own, against Python that does nothing
    but import what shows the results."""
    environment = {**os.environ, "ABS_ARTIFACTS": str(case.folder / "float32")}
    words = ["run", "--dataset", str(case.folder / "bench.yaml")]
    words += ["--set", "windows.encode=drawn", "--set", "scores.methods=[clip,cupl,abs]"]

    def process(*command: str) -> Work:
        return lambda: subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, check=True
        )

    yield compared(
        "a run with nothing to do, against importing pandas and typer",
        process("-m", "pipeline", *words),
        process("-c", "import pandas, typer"),
        pairs,
    )
