"""A dataset of a user's own images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of three folders, two of one class, with texts of various quality."""
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    images = tmp_path / "images"
    for folder, count in (("crane_bird", 3), ("crane_machine", 2), ("wren", 1)):
        (images / folder).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (20, 20), (number, 0, 0)).save(images / folder / f"{number}.png")
    (images / "wren" / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    (images / "wren" / "loop.jpg").symlink_to("loop.jpg")
    (images / "stray.png").write_bytes(b"")
    names = {"crane bird": "crane", "crane machine": "crane", "wren": "wren"}
    (tmp_path / "names.json").write_text(json.dumps(names))
    texts = {"crane": ["A crane.", ""], "wren": ["A wren."], "heron": ["A heron."]}
    (tmp_path / "cupl.json").write_text(json.dumps(texts))
    config = {
        "dataset": {
            "name": "mine",
            "root": str(images),
            "names": str(tmp_path / "names.json"),
            "published": {"images": 7, "classes": 3},
        },
        "descriptions": {
            "cupl": {"file": str(tmp_path / "cupl.json")},
            "clip-d": {"file": "?nowhere/clip-d.json"},
        },
        "index": {"max_skipped": 0.5},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
