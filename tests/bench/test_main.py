"""`abs bench` and its files, one for each group of comparisons, on small models.

What is timed is not looked at.
"""

from __future__ import annotations

import re
from pathlib import Path

import open_clip
import pandas as pd
import pytest

from pipeline.bench import case, main
from pipeline.bench.case import Case
from pipeline.bench.main import PARTS, Part
from pipeline.bench.parts import cached, encoders, index, kernels, store
from pipeline.bench.small import IMAGES
from pipeline.core.errors import AbsError
from tests.helpers.small_models import clip_of_words


def test_a_comparison_lies_in_the_file_of_its_name() -> None:
    files = {path.stem for path in Path(cached.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(Part)
    assert {part: rows.__module__ for part, rows in PARTS.items()} == {
        part: f"pipeline.bench.parts.{part}" for part in Part
    }


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and texts of a small size, and two crops a branch."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", clip_of_words())
    sizes = {"CLIP": "small", "VIT": "vit_tiny_patch16_224", "N": 2}
    sizes |= {"CLASSES": 100, "TEXTS_PER_CLASS": 50, "TEXTS": ["a photo"]}
    sizes |= {"ROWS": 64, "INNER": 32, "COLUMNS": 48, "FILES": 20}
    for module in (case, main, kernels, store, encoders, index):
        for name in sizes.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, sizes[name])
    monkeypatch.setenv("ABS_ARTIFACTS", "")


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.usefixtures("small")
def test_every_part_compares_the_same_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(IMAGES, 2, 1, tmp_path, list(Part), None)
    (file,) = tmp_path.glob("*.parquet")
    rows = pd.read_parquet(file)
    assert (rows["ours"] > 0).all()
    assert (rows["against"] > 0).all()
    notes = dict(zip(rows["what"], rows["note"], strict=True))
    assert notes["crop and resize of 2 boxes, against Pillow"] == "0 differing bytes"
    for name in ("image", "raw", "feature"):
        said = notes[f"embeddings-{name}, from files"]
        assert float(said.removeprefix("differs by at most ")) < 1e-3
    printed = capsys.readouterr().out
    assert re.findall(r"^\| (.+?) \|", printed, re.MULTILINE)[1:] == [*notes]
    assert printed.strip() == file.with_suffix(".md").read_text().strip()


def test_too_few_images_are_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(AbsError, match=r"has \d+ images, fewer than 99999$"):
        Case.of(tmp_path, IMAGES, 99_999)
