"""The plain implementation of `abs bench`, on small models."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image

from pipeline.bench.plain import Plain
from pipeline.bench.small import IMAGES

VISION = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2}
TEXT = {"width": 64, "heads": 1, "layers": 1}


@pytest.mark.slow
@torch.inference_mode()
def test_a_box_and_a_window_that_hold_all_of_an_image_have_its_vector() -> None:
    torch.manual_seed(0)
    clip = open_clip.CLIP(32, VISION, TEXT).eval()
    vit = timm.create_model("vit_tiny_patch16_224", depth=1).eval()
    files = sorted(IMAGES.glob("*/*"))[:2]
    plain = Plain(clip, vit)
    images = plain.images(files)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(2))
    assert (images[0] - images[1]).norm() > 1e-3
    boxes = np.array([[[0, 0, *Image.open(file).size]] for file in files])
    torch.testing.assert_close(plain.boxes(files, boxes)[:, 0], images)
    windows = np.array([[[0, 0, 4, 4]]] * 2)
    torch.testing.assert_close(plain.windows(files, windows)[:, 0], images)
    rows = plain.attention(files)
    assert rows.shape == (2, 196)
    assert ((rows > 0) & (rows < 1)).all()
