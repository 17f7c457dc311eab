"""How crops are made: outlines lie where the store has them; the committed picture is current."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

from pipeline import load
from pipeline.figures.crops import RADIUS
from pipeline.figures.labels import label_places
from pipeline.figures.make import Made, Wanted, make_figure
from pipeline.figures.style import drawing, save
from pipeline.run import Run
from pipeline.views.config import BOX, WINDOW
from tests.helpers.runs import DEMO, ROOT

FILE = ROOT / "docs" / "images" / "demo.svg"
IMAGE = "white-headed_shortbill/10.png"
ABS = ("scores.methods=[abs]",)
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"
STEPS = 2
"""Attention differs between CPUs, and with what else is in the batch, by float rounding, which can
move a colour of 8 bits by a step."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store for the demo with this image and one of another class, finished as far as crops."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("store")
    other = sorted((DEMO / "images").glob("*/*"))[0]
    for image in (DEMO / "images" / IMAGE, other):
        copy = data / image.relative_to(ROOT)
        copy.parent.mkdir(parents=True)
        shutil.copy(image, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(folder))
        patch.setenv("ABS_DATA", str(data))
        run = Run.of("demo", "official", ABS)
        stages = [s for s in run.stages if s.kind in ("index", "attention", "crops")]
        run.execute(stages, [], quiet=True)
        yield folder


@pytest.fixture(scope="module")
def made(store: Path) -> Made:
    with drawing():
        return make_figure(Wanted("crops", "demo", [IMAGE], overrides=ABS))


@pytest.fixture(scope="module")
def drawn(made: Made, tmp_path_factory: pytest.TempPathFactory) -> str:
    with drawing():
        path = tmp_path_factory.mktemp("drawn") / "demo"
        (file,) = save(made.figure, path, ["svg"], made.title, made.source)
    return file.read_text(encoding="utf-8")


# --- The committed picture ----------------------------------------------------------------------


def differences(one: str, other: str) -> list[str]:
    """What two files differ in, beyond rounding and the keys in the description."""
    trees = [list(ElementTree.fromstring(text).iter()) for text in (one, other)]
    if len(trees[0]) != len(trees[1]):
        return [f"{len(trees[0])} elements, {len(trees[1])} in the file"]
    return [found for pair in zip(*trees, strict=True) for found in of_element(*pair)]


def of_element(one: Element, other: Element) -> Iterator[str]:
    """As `differences`; two trees with as many children everywhere are of one shape."""
    if one.tag != other.tag or text_of(one) != text_of(other):
        yield f"{one.tag}: {text_of(one)!r}, {text_of(other)!r} in the file"
    if len(one) != len(other) or list(one.attrib) != list(other.attrib):
        yield f"{one.tag}: other children or attributes"
        return
    for name, value in one.attrib.items():
        if not alike(name, value, other.attrib[name]):
            yield f"{one.tag} {name}: {value[:60]}, {other.attrib[name][:60]} in the file"


def text_of(element: Element) -> Any:
    """Text of an element; of the description, what it says of dataset, settings and images."""
    text = (element.text or "").strip()
    if not element.tag.endswith("description"):
        return text
    about = json.loads(text)
    return {name: value for name, value in about.items() if name != "artifacts"}


def alike(name: str, one: str, other: str) -> bool:
    if name == XLINK and one.startswith("data:") and other.startswith("data:"):
        pixels = [pixels_of(href).astype(int) for href in (one, other)]
        return pixels[0].shape == pixels[1].shape and abs(pixels[0] - pixels[1]).max() <= STEPS
    if name in ("id", XLINK):
        return True  # Matplotlib makes them of the content of images, which may differ by a step
    return one == other


def pixels_of(href: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))


def test_the_committed_picture_is_what_the_store_gives(drawn: str) -> None:
    committed = FILE.read_text(encoding="utf-8")
    version = re.search(r"Matplotlib v(\d+\.\d+)", committed)
    if not version or version[1] != ".".join(matplotlib.__version__.split(".")[:2]):
        pytest.skip(f"drawn by another Matplotlib than {matplotlib.__version__}")
    found = differences(drawn, committed)
    assert not found, f"docs/images/demo.svg is not what is drawn; run make picture: {found[:5]}"
    assert len(committed.encode()) <= 150_000


def test_a_picture_of_something_else_differs(drawn: str) -> None:
    """By a text, by the place of a line, by a pixel of an image."""
    image = re.search(r'data:image/png;base64,[^"]*', drawn)
    assert image
    pixels = pixels_of(image[0]).copy()
    pixels[-1, -1, 0] ^= 8
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    changed = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    for other in (
        drawn.replace(image[0], changed, 1),
        drawn.replace("shortbill", "longbill", 1),
        re.sub(r'd="M (\d)', r'd="M 9\1', drawn, count=1),
    ):
        assert other != drawn
        assert differences(drawn, other)
    assert not differences(drawn, drawn)


# --- Where outlines lie -------------------------------------------------------------------------


def outlines(panel: Any) -> list[tuple[float, ...]]:
    """Left, top, right, bottom of the rectangles that are not filled."""
    found = [patch for patch in panel.patches if not patch.get_fill()]
    return [tuple(patch.get_bbox().extents.tolist()) for patch in found]


def stored(view: str, columns: list[str]) -> list[tuple[float, ...]]:
    crops = load.crops("demo", view).query("image_id == @IMAGE and crop < 6")
    return [tuple(box) for box in crops[columns].to_numpy().tolist()]


def test_raw_crops_stand_where_the_store_has_them(made: Made) -> None:
    assert outlines(made.figure.axes[2]) == stored("raw", BOX)


def test_windows_lie_where_clip_sees_their_tokens(made: Made) -> None:
    """Against an image whose values are its pixels' places, which goes through CLIP's own resizing
    and centre crop; half a pixel is the filter's, at the border."""
    config = json.loads((DEMO / "models" / "clip" / "open_clip_config.json").read_text())
    side, patch = (config["model_cfg"]["vision_cfg"][n] for n in ("image_size", "patch_size"))
    size = load_size()
    ends = [torch.arange(length) + 0.5 for length in size]
    places = torch.stack(torch.meshgrid(*ends, indexing="xy"))
    resized = resize(places, side, InterpolationMode.BICUBIC, antialias=True)
    seen = center_crop(resized, [side, side])
    windows = stored("feature", WINDOW)
    for window, rect in zip(windows, outlines(made.figure.axes[3]), strict=True):
        left, top, right, bottom = (int(end) * patch for end in window)
        shown = seen[:, top:bottom, left:right]
        middles = shown.mean(dim=(1, 2)).tolist()
        assert middles == pytest.approx([(rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2], abs=0.5)
        first, last = shown[:, 0, 0].tolist(), shown[:, -1, -1].tolist()
        half = max(size[0] / resized.shape[2], size[1] / resized.shape[1]) / 2
        assert [place - half for place in first] == pytest.approx(rect[:2], abs=0.5)
        assert [place + half for place in last] == pytest.approx(rect[2:], abs=0.5)


def test_the_veil_is_thinner_where_attention_is_higher(made: Made) -> None:
    row = load.images("demo")["image_id"].tolist().index(IMAGE)
    attention = load.attention("demo")[row, -1]
    veil = np.asarray(made.figure.axes[1].images[1].get_array())[..., 3]
    assert veil.shape == attention.shape
    assert (np.argsort(veil.ravel()) == np.argsort(-attention.ravel())).all()
    assert veil.min() == 0


def test_labels_of_the_picture_do_not_meet(made: Made) -> None:
    for panel in made.figure.axes[2:4]:
        labels = [text for text in panel.texts if text.get_text() in [*"123456abcdef"]]
        assert len(labels) == 6
        for one, other in combinations(labels, 2):
            (x, y), (other_x, other_y) = one.get_position(), other.get_position()
            assert max(abs(x - other_x), abs(y - other_y)) > 2 * RADIUS * max(load_size())


def load_size() -> tuple[int, int]:
    with Image.open(DEMO / "images" / IMAGE) as image:
        return image.size


SIDE = st.integers(0, 100)


@given(st.lists(st.tuples(SIDE, SIDE, SIDE, SIDE), min_size=1, max_size=6))
def test_a_label_lies_inside_the_image_near_its_outline(corners: list[tuple[int, ...]]) -> None:
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    places = label_places(boxes, (100, 100), 5)
    for (x, y), (left, top, right, bottom) in zip(places, boxes, strict=True):
        assert 5 <= x <= 95
        assert 5 <= y <= 95
        assert left - 5 <= x <= right + 5
        assert top - 5 <= y <= bottom + 5
