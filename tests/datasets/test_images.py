"""Image files as they come: read as they are, skipped with a reason, or refused in one line."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.cli.tables import print_skipped
from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.core.progress import Reporter
from pipeline.datasets.images import decode
from pipeline.datasets.readers.folder import read_folder
from pipeline.engine.runner import run_stage
from pipeline.store.artifact import MANIFEST, Artifact
from tests.helpers.runs import Runner, make_all

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def image_root(run_of: Runner) -> Path:
    return Path(run_of().settings.dataset.root[0])


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGB"), ("a.png", "L"), ("a.png", "P"), ("a.png", "RGBA"), ("a.jpg", "CMYK"),
     ("a.gif", "P"), ("a.png", "1"), ("a.tif", "CMYK"), ("a.bmp", "RGB")],
)  # fmt: skip
def test_ordinary_modes_become_rgb_as_pillow_makes_them(
    tmp_path: Path, name: str, mode: str
) -> None:
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(decode((tmp_path / name).read_bytes())), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_dropped_as_in_clip(mode: str) -> None:
    """The colour behind it stays; others lay such images on white."""
    image, content = Image.fromarray(PIXELS).convert(mode), io.BytesIO()
    colours = np.asarray(image.convert("RGB"))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(PIXELS[..., 0]))
        image.save(content, "PNG")
    else:
        image.save(content, "PNG", transparency=0 if mode == "P" else tuple(PIXELS[3, 4].tolist()))
    with Image.open(io.BytesIO(content.getvalue())) as stored:
        assert stored.mode.endswith("A") or "transparency" in stored.info
    assert np.array_equal(np.asarray(decode(content.getvalue())), colours)


def oriented(kind: str, orientation: int) -> bytes:
    """`PIXELS` as a file whose EXIF says how to turn them."""
    content, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(PIXELS).save(content, kind, exif=exif)
    return content.getvalue()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_in_exif_is_ignored_as_in_clip(kind: str, orientation: int) -> None:
    content = oriented(kind, orientation)
    with Image.open(io.BytesIO(content)) as stored:
        assert stored.getexif()[ExifTags.Base.Orientation] == orientation
    assert np.array_equal(decode(content), decode(oriented(kind, 1)))


def test_a_tiff_is_turned_as_in_clip() -> None:
    """Pillow itself does so, to this format alone."""
    assert np.array_equal(decode(oriented("TIFF", 6)), np.rot90(PIXELS, -1))


@pytest.mark.slow
def test_damaged_files_are_skipped_with_their_reason_and_the_run_goes_on(run_of: Runner) -> None:
    folder = sorted(image_root(run_of).iterdir())[0]
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image at all")
    (folder / "cut.png").write_bytes(sorted(folder.glob("*.png"))[0].read_bytes()[:300])
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(folder / "deep.png")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    (folder / "._hidden.png").write_bytes(b"")
    run = run_of("index.max_skipped=0.5")
    make_all(run)
    skipped = run.store.open(run.named("index")[0]).table("skipped")
    reasons = {Path(file).name: reason for file, reason in skipped.itertuples(index=False)}
    assert set(reasons) == {"empty.jpg", "text.png", "cut.png", "deep.png", "bomb.png"}
    assert reasons["empty.jpg"] == "UnidentifiedImageError: cannot identify image file"
    assert not any("0x" in reason for reason in reasons.values())  # addresses differ by process
    assert "more than 8 bits" in reasons["deep.png"]
    assert "Bomb" in reasons["bomb.png"]
    assert len(run.store.open(run.named("scores")[0]).table("scores")) == 8 * 3


def test_skipped_files_are_counted_once_and_told_without_their_table(
    run_of: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in sorted(image_root(run_of).iterdir()):
        (folder / "empty.jpg").write_bytes(b"")
    run = run_of("index.max_skipped=0.5")
    (index,) = run.named("index")
    run.execute([index], [], quiet=True)
    artifact = run.store.open(index)
    expected = len(artifact.table("skipped"))
    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "table", lambda *_: 1 / 0)
        print_skipped(run.store, index)
    told = capsys.readouterr().out
    assert told.startswith(f"{expected} images skipped; see {artifact.path}")
    stated = {name: value for name, value in artifact.manifest.items() if name != "figures"}
    files.write_sealed(artifact.path / MANIFEST, stated)  # as older versions wrote it
    print_skipped(run.store, index)
    assert capsys.readouterr().out == told


@pytest.mark.slow
@pytest.mark.parametrize(
    "rules",
    [
        ["windows.k=null"],
        ["windows.draws=joint", "windows.shape=box", "windows.view=clip", "crops.sizes=ratio"],
        ["windows.shape=ratio", "windows.view=clip", "windows.index=exact"],
    ],
    ids=["official", "aligned", "ratio"],
)
def test_very_small_and_very_narrow_images_go_through(run_of: Runner, rules: list[str]) -> None:
    folder = sorted(image_root(run_of).iterdir())[0]
    for name, size in (("dot", (1, 1)), ("wide", (300, 2)), ("high", (3, 200))):
        Image.fromarray(PIXELS).resize(size).save(folder / f"{name}.png")
    run = run_of("crops.alpha=0.01", "crops.k=100", *rules)
    make_all(run)
    crops = run.store.open(run.named("crops-raw")[0]).table("crops")
    assert len(crops) == 11 * 4
    assert (crops["box_right"] > crops["box_left"]).all()
    assert (crops["box_bottom"] > crops["box_top"]).all()
    windows = run.store.open(run.named("crops-feature")[0]).table("crops")
    assert (windows["window_right"] > windows["window_left"]).all()
    assert (windows["window_bottom"] > windows["window_top"]).all()
    assert windows[["window_left", "window_top"]].min().min() >= 0
    assert windows[["window_right", "window_bottom"]].max().max() <= 10


def test_an_image_that_changes_after_the_index_stops_the_run(run_of: Runner) -> None:
    run = run_of()
    run.execute(run.named("index"), [], quiet=True)
    image = sorted(image_root(run_of).rglob("*.png"))[0]
    Image.new("RGB", (40, 40), "red").save(image)
    for name in ("attention", "embeddings-image"):
        with pytest.raises(AbsError, match=f"{image.name} changed since it was indexed"):
            run_stage(run.named(name)[0], run.store, Reporter(True), run.settings)
        assert not (run.store.artifact(run.named(name)[0]).path / "manifest.json").exists()


def test_a_folder_that_would_mislead_is_refused(tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(AbsError, match=message):
            read_folder(tmp_path)

    refused("no class folders")
    (tmp_path / "a_b").mkdir()
    refused("no images in the class folder")
    (tmp_path / "a_b" / "x.PNG").touch()
    found = read_folder(tmp_path)
    assert (found.classes[0].name, found.samples) == ("a b", [("a_b/x.PNG", 0)])
    (tmp_path / "c").mkdir()
    Path(os.fsdecode(bytes(tmp_path / "c") + b"/\xff.png")).touch()
    refused("not UTF-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"A": [], "B": ["x"]}', "'A' needs a list"),
        ('{"A": null, "B": ["x"]}', "'A' needs a list"),
        ('{"A": ["x", 3], "B": ["x"]}', "text 2 of 'A' is 3"),
        ('{"A": {"x": "y"}, "B": ["x"]}', "'A' has an object, not a list"),
        ('{"A": ["x"], "B": ["x"], "A": ["y"]}', "'A' is listed twice"),
        ('["x"]', "expected an object"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_wrong_prompt_file_is_refused_before_any_work(
    run_of: Runner, tmp_path: Path, content: str, message: str
) -> None:
    first, second = (
        folder.name.replace("_", " ") for folder in sorted(image_root(run_of).iterdir())
    )
    prompts = tmp_path / "prompts.json"
    prompts.write_text(content.replace('"A"', f'"{first}"').replace('"B"', f'"{second}"'))
    run = run_of(f"descriptions.cupl.file={prompts}")
    with pytest.raises(AbsError, match=message.replace("'A'", f"'{first}'")):
        run.execute(run.stages, [], quiet=True)
    assert not run.store.folder.exists()


def test_empty_texts_are_encoded_like_any_other(run_of: Runner, tmp_path: Path) -> None:
    """Published files have them."""
    first, second = (
        folder.name.replace("_", " ") for folder in sorted(image_root(run_of).iterdir())
    )
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({first: ["", "a bird"], second: [" "]}))
    run = run_of(f"descriptions.cupl.file={prompts}", "scores.methods=[cupl]")
    make_all(run)
    texts = run.store.open(run.named("descriptions-cupl")[0])
    assert texts.table("texts")["text"].tolist() == ["", "a bird", " "]
    vectors = np.asarray(texts.array("embeddings")[:])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
