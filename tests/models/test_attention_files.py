"""Attention from files, from other ViTs by name, and K as a share of their patches."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.datasets.images import decode
from pipeline.models.attention.files import FileMaps, shares
from pipeline.run import Run
from tests.helpers.runs import Runner


@pytest.mark.parametrize("size", [(14, 14), (7, 7), (28, 42), (10, 33), (1, 1), (45, 13)])
def test_a_map_is_divided_among_patches_by_area(size: tuple[int, int]) -> None:
    """As the mean over a grid so fine that no cell of it lies in two pixels or two patches."""
    values = np.random.default_rng(0).random(size)
    fine = np.kron(values, np.ones((14, 14)))
    height, width = size
    expected = fine.reshape(14, height, 14, width).sum(axis=(1, 3))
    assert np.abs(shares(values, 14, "it") - expected / expected.sum()).max() < 1e-12


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((5, 5)), "is 0 everywhere"),
        (np.full((5, 5), -1.0), "values below 0"),
        (np.full((5, 5), np.nan), "values below 0"),
        (np.ones((5, 5, 3)), r"shape \(5, 5, 3\)"),
        (np.ones((0, 5)), "shape"),
        (np.ones((5, 5), complex), "holds complex128"),
        (np.array([["1", "2"]]), "holds <U1"),
        (np.full((20, 20), 1e308), "too large"),
    ],
)
def test_what_is_no_map_is_refused(values: np.ndarray, words: str) -> None:
    with pytest.raises(AbsError, match=words):
        shares(values, 14, "it")


GREY = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 7), dtype=np.uint8))


def picture(image: Image.Image) -> bytes:
    written = BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", picture(GREY.convert("RGB").quantize(8)), "colour mode is P; convert it"),
        ("a.png", picture(GREY.convert("RGB")), "colour mode is RGB; convert it"),
        ("a.png", picture(GREY)[:60], "cannot be read"),
        ("a.npy", b"", "cannot be read"),
        ("a.npy", b"PK\3\4", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_map_is_named(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AbsError, match=words) as raised:
        FileMaps(tmp_path)._map("a.jpg")
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_grey_pictures_are_read_whatever_their_depth(tmp_path: Path, mode: str) -> None:
    deep = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
    image = deep if mode == "I;16" else GREY.convert(mode)
    (tmp_path / "a picture.png").write_bytes(picture(image))
    found = FileMaps(tmp_path)._map("a picture.jpg")[1]
    assert (found == np.asarray(image)).all()


@pytest.mark.parametrize(
    ("images", "rows", "words"),
    [
        (["a.jpg", "a.jpg"], [[[1.0]], [[2.0]]], "has two maps of a.jpg"),
        (["a.jpg"], [[[1.0, 2.0], [3.0]]], "a.jpg cannot be read"),
        (["a.jpg"], [3.0], "a.jpg cannot be read"),
        (["b.jpg"], [[[1.0]]], "no row for the image a.jpg"),
    ],
)
def test_a_table_without_one_map_of_an_image_is_refused(
    tmp_path: Path, images: list[str], rows: list[Any], words: str
) -> None:
    pd.DataFrame({"image": images, "map": rows}).to_parquet(tmp_path / "maps.parquet")
    with pytest.raises(AbsError, match=words):
        FileMaps(tmp_path / "maps.parquet")._map("a.jpg")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "maps.parquet").write_bytes(b"no table")
    with pytest.raises(AbsError, match="cannot be read"):
        FileMaps(tmp_path / "maps.parquet")._map("a.jpg")


def test_maps_behind_a_link_are_part_of_the_key(run_of: Runner, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "linked").symlink_to(tmp_path / "elsewhere")
    keys = set()
    for value in (1, 2):
        np.save(tmp_path / "elsewhere" / "a.npy", np.full((2, 2), value))
        run = run_of(f"attention.model=files:{tmp_path / 'maps'}")
        keys.add(run.named("attention")[0].key)
    assert len(keys) == 2


def edges_of(content: bytes) -> np.ndarray:
    """Edges of a picture, as a real map of bytes."""
    return np.asarray(decode(content).convert("L").filter(ImageFilter.FIND_EDGES))


def files_of(run: Run) -> dict[str, bytes]:
    """The images of a dataset, by path."""
    (index,) = run.named("index")
    run.execute([index], [], True)
    paths = run.store.open(index).table("images")["path"]
    return {path: index.dataset.contents.read(path) for path in paths}  # type: ignore[attr-defined]


def as_arrays(maps: dict[str, np.ndarray], place: Path) -> Path:
    for path, values in maps.items():
        file = (place / path).with_suffix(".npy")
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, values.astype(np.float32) / 7)
    return place


def as_pictures(maps: dict[str, np.ndarray], place: Path) -> Path:
    for path, values in maps.items():
        file = (place / path).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file)
    return place


def as_table(maps: dict[str, np.ndarray], place: Path) -> Path:
    file = place.with_suffix(".parquet")
    rows = [list(values.astype(np.float64)) for values in maps.values()]
    pd.DataFrame({"image": list(maps), "map": rows}).to_parquet(file)
    return file


@pytest.fixture
def maps(run_of: Runner) -> dict[str, np.ndarray]:
    return {path: edges_of(content) for path, content in files_of(run_of()).items()}


@pytest.mark.parametrize("write", [as_arrays, as_pictures, as_table])
def test_maps_of_files_guide_the_crops(
    write: Callable[[dict[str, np.ndarray], Path], Path],
    maps: dict[str, np.ndarray],
    run_of: Runner,
    tmp_path: Path,
) -> None:
    """Raw crops are around the patches with most edges; another map is another key."""
    place = write(maps, tmp_path / "maps")
    run = run_of(f"attention.model=files:{place}", "scores.methods=[abs]")
    attention, raw = run.named("attention")[0], run.named("crops-raw")[0]
    run.execute([attention, raw], [], True)
    stored = run.store.open(attention).array("attention")[:]
    expected = np.stack([shares(values.astype(float), 14, "it") for values in maps.values()])
    assert np.abs(stored[:, 0] - expected).max() < 1e-6
    crops = run.store.open(raw).table("crops")
    top = np.argsort(-expected.reshape(len(expected), -1), axis=1)[:, :20]
    assert all(
        patch in top[image] for image, patch in zip(crops["image"], crops["patch"], strict=True)
    )
    first = next(iter(maps))
    write({**maps, first: maps[first][::-1]}, tmp_path / "maps")
    again = run_of(f"attention.model=files:{place}", "scores.methods=[abs]")
    assert again.named("attention")[0].key != attention.key


def test_a_map_that_is_missing_is_named(
    maps: dict[str, np.ndarray], run_of: Runner, tmp_path: Path
) -> None:
    place = as_arrays(maps, tmp_path / "maps")
    next(place.rglob("*.npy")).unlink()
    run = run_of(f"attention.model=files:{place}")
    with pytest.raises(AbsError, match=r"has no map of .*expected .* with \.npy or \.png"):
        run.execute(run.named("attention"), [], True)
    for file in place.rglob("*.npy"):
        file.unlink()
    with pytest.raises(MissingInput, match="no maps"):
        _ = run_of(f"attention.model=files:{place}").named("attention")[0].key
    with pytest.raises(MissingInput, match="attention maps not found"):
        _ = run_of("attention.model=files:/nowhere/at/all").named("attention")[0].key


SOURCES = {
    "vit_small_patch14_reg4_dinov2": (12, 37),
    "vit_small_patch14_dinov2": (12, 37),
    "vit_small_patch16_dinov3": (12, 16),
    "eva02_base_patch16_clip_224": (12, 14),
    "vit_pe_core_tiny_patch16_384": (12, 24),
}
"""Blocks and grid of smaller models of the families that `table6` names."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_other_vits_are_sources_at_their_own_size(name: str, run_of: Runner) -> None:
    run = run_of(f"attention.model={name}", "attention.weights=random:0", "crops.share=0.1")
    (attention,), (raw,) = run.named("attention"), run.named("crops-raw")
    layers, grid = SOURCES[name]
    assert attention.shape == (layers, grid)  # type: ignore[attr-defined]
    assert raw.config.k == round(0.1 * grid**2)  # type: ignore[attr-defined]
    number = run_of(
        f"attention.model={name}",
        "attention.weights=random:0",
        f"crops.k={round(0.1 * grid**2)}",
        "windows.k=null",
    )
    assert [stage.key for stage in number.stages] == [stage.key for stage in run.stages]


def test_a_share_needs_a_grid_that_is_known(
    run_of: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.models.attention.vit_source.VitSource.shape", None)
    with pytest.raises(ConfigError, match=r"crops\.share: .* give crops\.k"):
        run_of("crops.share=0.1")
