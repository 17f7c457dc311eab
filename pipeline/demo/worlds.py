"""Datasets of new worlds of the demo's generator: other species, pictures and descriptions.

The demo's own models see them; neither training nor the demo's test draws these scenes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from pipeline.core.layers import CFGS
from pipeline.demo.dataset import class_folder
from pipeline.demo.phrases import GENERA
from pipeline.demo.species import Species, descriptions_of, drawn_species
from pipeline.demo.training_data import SIZES
from pipeline.demo.world import draw_scene

FIRST_SEED = 10_000
"""Seeds of worlds start here, apart from those of the demo and of its training."""


@dataclass(frozen=True)
class World:
    """Species, pictures and descriptions that follow from a seed."""

    seed: int
    """Number of the world, from 0."""
    classes: int
    """Number of species, divided among all genera."""
    images: int
    """Number of pictures of a species."""
    redrawn: int
    """Attributes that a species draws anew, from the common form of its genus: fewer are harder."""
    wrong: float
    """Share of wrong descriptions."""

    @property
    def species(self) -> list[Species]:
        """The species of the world."""
        counts = np.bincount(np.arange(self.classes) % len(GENERA), minlength=len(GENERA))
        per_genus = {genus: int(count) for genus, count in zip(GENERA, counts, strict=True)}
        return drawn_species(np.random.default_rng(FIRST_SEED + self.seed), per_genus, self.redrawn)

    def write(self, folder: Path) -> Path:
        """Write pictures, descriptions and a dataset YAML into `folder`; return the YAML's path."""
        species = self.species
        for position, one in enumerate(species):
            place = folder / "images" / class_folder(one.name.text)
            place.mkdir(parents=True)
            for number in range(self.images):
                rng = np.random.default_rng([FIRST_SEED + self.seed, position, number])
                scene = draw_scene(rng, one.bird, SIZES[number % len(SIZES)])
                scene.image.save(place / f"{number:03d}.png")
        texts = descriptions_of(species, self.wrong, FIRST_SEED + self.seed)
        (folder / "cupl.json").write_text(json.dumps(texts))
        config = yaml.safe_load((CFGS / "datasets" / "demo.yaml").read_text())
        config["dataset"] = {"name": f"world-{self.seed:02d}", "root": str(folder / "images")}
        config["descriptions"] = {"cupl": {"file": str(folder / "cupl.json")}}
        config["scores"] |= {"n": 60, "methods": ["abs"]}
        path = folder / "world.yaml"
        path.write_text(yaml.safe_dump(config))
        return path
