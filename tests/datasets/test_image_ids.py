"""Images by number, path, the end of a path, or a row of a table."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.datasets.image_ids import find_image

PATHS = ["a/1.png", "a/b/1.png", "c/2.png", "7", "<b>\u202e/'\".jpg"]


@pytest.mark.parametrize(
    ("image", "row"),
    [
        *[("a/1.png", 0), ("b/1.png", 1), ("2.png", 2), ("7", 3), ("'\".jpg", 4)],
        *[(2, 2), ("2", 2), (np.int64(4), 4)],
        (SimpleNamespace(image_id="c/2.png"), 2),
    ],
)
def test_an_image_is_found_by_number_path_or_its_end(image: Any, row: int) -> None:
    assert find_image(PATHS, image) == row


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("1.png", "'1.png' is the end of 2 paths, such as a/1.png and a/b/1.png"),
        ("c/2.pgn", "no image 'c/2.pgn'; did you mean 'c/2.png'"),
        (".png", "no image '.png'; "),
        ("", "no image ''; give a number"),
        (5, "no image 5; images are numbered from 0 to 4"),
        (True, "image True: give a number"),
        (0.0, "image 0.0: give a number"),
        (-1, "no image -1; images are numbered from 0 to 4"),
    ],
)
def test_an_image_that_is_not_one_is_said(image: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        find_image(PATHS, image)
