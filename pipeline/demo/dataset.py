"""Write the demo's dataset: pictures and object masks of the test species, and prompt files.

Picture i of a class depends on the position of the class in the list of species and on i alone. PNG
pixels are therefore the same wherever Pillow draws polygons the same way; every third file is a
JPEG, whose bytes depend on the encoder.
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from pipeline.demo.everyday import EVERYDAY
from pipeline.demo.phrases import TEMPLATES
from pipeline.demo.species import WRONG_SHARE, Species, descriptions, descriptors, species
from pipeline.demo.training_data import SIZES, TEST, stream
from pipeline.demo.world import Scene, draw_scene

PER_CLASS = 20
JPEG_QUALITY = 92


def class_folder(name: str) -> str:
    """Return the folder of a class: "red-winged shortbill" -> "red-winged_shortbill"."""
    return name.replace(" ", "_")


def file_name(number: int) -> str:
    """Return the file name of a picture: every third one is a JPEG, the others are PNG."""
    return f"{number:02d}.{'jpg' if number % 3 == 2 else 'png'}"


def picture_scene(position: int, one: Species, number: int) -> Scene:
    """Draw picture `number` of the class at `position` in the list of species.

    Sizes do not cycle in step with file formats, so every pair of the two occurs.
    """
    rng = stream(TEST, position * PER_CLASS + number)
    return draw_scene(rng, one.bird, SIZES[(number + number // 3) % len(SIZES)])


def write_dataset(root: Path) -> None:
    """Write `images/`, `masks/` and `prompts/` below `root`."""
    for position, one in enumerate(species()):
        folder = class_folder(one.name.text)
        for number in range(PER_CLASS):
            _write_scene(root, folder, file_name(number), picture_scene(position, one, number))
    write_prompts(root / "prompts")


def write_prompts(folder: Path) -> None:
    """Write descriptions, descriptors, templates and words into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "cupl.json": descriptions(WRONG_SHARE),
        "cupl-clean.json": descriptions(0.0),
        "clip-d.json": descriptors(),
        "clip-e.json": TEMPLATES,
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")
    (folder / "words.txt").write_text("\n".join(EVERYDAY) + "\n")


def _write_scene(root: Path, folder: str, name: str, scene: Scene) -> None:
    picture, mask = (
        root / "images" / folder / name,
        root / "masks" / folder / f"{Path(name).stem}.png",
    )
    for path in (picture, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    if picture.suffix == ".jpg":
        scene.image.save(picture, quality=JPEG_QUALITY)
    else:
        scene.image.save(picture, optimize=True)
    Image.fromarray(scene.mask).save(mask, optimize=True)
