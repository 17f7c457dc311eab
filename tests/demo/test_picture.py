"""The picture of the method: the committed file is what the demo's store gives."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

from pipeline import load
from pipeline.demo import picture
from pipeline.demo.drawing import RADIUS, Box, Subject, label_places, svg
from pipeline.views.config import BOX
from tests.helpers.runs import DEMO, ROOT

SVG = "{http://www.w3.org/2000/svg}"
STEP = 0.01
"""Attention differs between CPUs, and with what else is in the batch, by float rounding (1e-6 of
its value), which can move an opacity of two decimals by one step and no further."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty store for the demo with this image, and one of another class beside it."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("store")
    other = sorted((DEMO / "images").glob("*/*"))[0]
    for image in (DEMO / "images" / picture.IMAGE, other):
        copy = data / image.relative_to(ROOT)
        copy.parent.mkdir(parents=True)
        shutil.copy(image, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABS_ARTIFACTS", str(folder))
        patch.setenv("ABS_DATA", str(data))
        yield folder


@pytest.fixture(scope="module")
def subject(store: Path) -> Subject:
    return picture.read_subject(picture.demo_run())


@pytest.fixture(scope="module")
def committed() -> str:
    return picture.FILE.read_text(encoding="utf-8")


def differences(drawn: str, committed: str) -> list[str]:
    """What two files differ in, beyond the rounding of opacities."""
    trees = [list(ElementTree.fromstring(text).iter()) for text in (drawn, committed)]
    if len(trees[0]) != len(trees[1]):
        return [f"{len(trees[0])} elements, {len(trees[1])} in the file"]
    return [found for pair in zip(*trees, strict=True) for found in of_element(*pair)]


def of_element(one: Element, other: Element) -> Iterator[str]:
    """As `differences`; two trees with as many children everywhere are of one shape."""
    for what in ("tag", "text", "tail"):
        if getattr(one, what) != getattr(other, what):
            yield f"{what}: {getattr(one, what)!r}, {getattr(other, what)!r} in the file"
    if len(one) != len(other) or list(one.attrib) != list(other.attrib):
        yield f"{one.tag}: other children or attributes"
        return
    for name, value in one.attrib.items():
        if not alike(name, value, other.attrib[name]):
            yield f"{one.tag} {name}: {value[:60]}, {other.attrib[name][:60]} in the file"


def alike(name: str, one: str, other: str) -> bool:
    if name == "fill-opacity":
        return abs(float(one) - float(other)) <= 1.5 * STEP
    if one.startswith("data:") and other.startswith("data:"):
        return np.array_equal(pixels(one), pixels(other))
    return one == other


def pixels(href: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def rects(text: str, kind: str) -> list[Box]:
    """The boxes in the group of that id."""
    group = ElementTree.fromstring(text).findall(f".//{SVG}g[@id='{kind}']/{SVG}rect")
    sides = [[float(rect.attrib[name]) for name in ("x", "y", "width", "height")] for rect in group]
    return [(x, y, x + width, y + height) for x, y, width, height in sides]


def test_the_committed_picture_is_what_the_store_gives(subject: Subject, committed: str) -> None:
    found = differences(svg(subject), committed)
    assert not found, f"docs/images/demo.svg is not what is drawn; run make picture: {found[:5]}"


def other_pixel(content: bytes) -> bytes:
    """The image with one channel of its last pixel changed by one."""
    with Image.open(io.BytesIO(content)) as image:
        changed = np.array(image.convert("RGB"))
    changed[-1, -1, 0] ^= 1
    buffer = io.BytesIO()
    Image.fromarray(changed).save(buffer, "PNG")
    return buffer.getvalue()


def moved(boxes: list[Box]) -> list[Box]:
    """The last box, one further to the left at its right end."""
    left, top, right, bottom = boxes[-1]
    return [*boxes[:-1], (left, top, right - 1, bottom)]


@pytest.mark.parametrize("what", ["boxes", "windows", "content", "attention", "name"])
def test_a_picture_of_something_else_differs(subject: Subject, committed: str, what: str) -> None:
    changed = {
        "boxes": moved(subject.boxes),
        "windows": moved(subject.windows),
        "content": other_pixel(subject.content),
        "attention": subject.attention.T,
        "name": "another bird",
    }
    assert differences(svg(replace(subject, **{what: changed[what]})), committed)


def test_float_rounding_of_attention_does_not_differ(subject: Subject, committed: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1e-5, 1e-5, subject.attention.shape)
    assert not differences(
        svg(replace(subject, attention=subject.attention * (1 + noise))), committed
    )


def test_the_image_is_the_demos(committed: str) -> None:
    (image,) = ElementTree.fromstring(committed).iter(f"{SVG}image")
    with Image.open(DEMO / "images" / picture.IMAGE) as wanted:
        assert np.array_equal(pixels(image.attrib["href"]), np.asarray(wanted.convert("RGB")))
    assert len(committed.encode()) <= 150_000


def test_raw_crops_stand_where_the_store_has_them(subject: Subject, committed: str) -> None:
    crops = load.crops("demo", "raw").query("image_id == @picture.IMAGE and crop < 6")
    assert rects(committed, "raw") == [tuple(box) for box in crops[BOX].to_numpy().tolist()]


def test_windows_lie_where_clip_sees_their_tokens(subject: Subject, committed: str) -> None:
    """Against an image whose values are its pixels' places, which goes through CLIP's own resizing
    and centre crop; half a pixel is the filter's, at the border."""
    config = json.loads((DEMO / "models" / "clip" / "open_clip_config.json").read_text())
    side, patch = (config["model_cfg"]["vision_cfg"][n] for n in ("image_size", "patch_size"))
    ends = [torch.arange(length) + 0.5 for length in subject.size]
    places = torch.stack(torch.meshgrid(*ends, indexing="xy"))
    resized = resize(places, side, InterpolationMode.BICUBIC, antialias=True)
    seen = center_crop(resized, [side, side])
    assert rects(committed, "feature")
    for window, rect in zip(subject.windows, rects(committed, "feature"), strict=True):
        left, top, right, bottom = (int(end) * patch for end in window)
        shown = seen[:, top:bottom, left:right]
        middles = shown.mean(dim=(1, 2)).tolist()
        assert middles == pytest.approx([(rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2], abs=0.5)
        first, last = shown[:, 0, 0].tolist(), shown[:, -1, -1].tolist()
        half = max(subject.size[0] / resized.shape[2], subject.size[1] / resized.shape[1]) / 2
        assert [place - half for place in first] == pytest.approx(rect[:2], abs=0.5)
        assert [place + half for place in last] == pytest.approx(rect[2:], abs=0.5)


def test_labels_do_not_meet(subject: Subject) -> None:
    windows = [subject.on_image(window) for window in subject.windows]
    for boxes in (subject.boxes, windows):
        for (x, y), (other_x, other_y) in combinations(label_places(boxes, subject.size), 2):
            assert max(abs(x - other_x), abs(y - other_y)) > 2 * RADIUS


def test_text_is_escaped(subject: Subject) -> None:
    root = ElementTree.fromstring(svg(replace(subject, name='a <b> & "c"')))
    assert 'a <b> & "c"' in str(root.findtext(f"{SVG}title"))
