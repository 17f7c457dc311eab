"""Processor time of `Classifier` for an image, beside its preprocessing and its models alone.

    python -m pipeline.bench.classifier [--images N] [--set scores.n=60]

Both do the same work for the same crops: attention, whole image, raw crops and windows. What is
left is what the classifier adds: draws, rounding, scores, the table. Both are timed in turns, in
seconds of the processor, which other programs disturb less than the clock.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pipeline import Classifier
from pipeline.bench.timing import compare, machine, processor_seconds_of
from pipeline.classifier.given import GivenImages, Picture
from pipeline.core.paths import PROJECT


class Alone:
    """Preprocessing and models of a classifier over an image whose crops are drawn already."""

    def __init__(self, classifier: Any, path: Path) -> None:
        self._classifier = classifier
        self._images = GivenImages([Picture.of(path)])
        self._path = path
        if classifier._attention is not None:
            self._images.maps = classifier._attention.attention(self._read())
        self._crops = {name: self._drawn(name) for name in ("raw", "feature")}

    def __call__(self) -> None:
        """Run the models once."""
        clip, image = self._classifier._clip, Picture.of(self._path).image
        if self._classifier._attention is not None:
            self._classifier._attention.attention(self._read())
        clip.encode_images(clip.preprocess(image))
        clip.encode_images(clip.preprocess(image, self._crops["raw"]), full=True)
        stage = self._stage("feature")
        config, layer = stage.config, stage.layer
        tokens = clip.tokens_before(clip.preprocess(image), layer)
        rows = np.pad(np.unique(self._crops["feature"], axis=0), ((0, 0), (1, 0)))
        more = layer, config.prompt, config.gain
        clip.encode_windows(tokens, torch.from_numpy(rows), *more)

    def _read(self) -> Any:
        return self._classifier._attention.read(self._images, slice(0, 1))

    def _stage(self, name: str) -> Any:
        return self._classifier._scores.views[name]

    def _drawn(self, name: str) -> np.ndarray:
        stage, count = self._stage(name), self._classifier._counts[name]
        found = self._classifier._crops(stage.views, self._images, count, stage.columns)
        return np.asarray(found[0])


def measure(images: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the median seconds of both for some images of the demo, and their ratio."""
    classifier = Classifier.of("demo", settings={"scores.methods": ["clip", "abs"], **settings})
    paths = sorted((PROJECT / "pipeline" / "demo" / "images").glob("*/*"))[:: 480 // images]
    rows = []
    for path in paths[:images]:
        both = partial(classifier, path), Alone(classifier, path)
        rows.append(compare(path.name, *both, pairs=5, seconds=processor_seconds_of))
    ours, against = (float(np.median([getattr(r, n) for r in rows])) for n in ("ours", "against"))
    ratio = 1 / float(np.median([row.ratio for row in rows]))
    return {"classifier": ours, "models_alone": against, "ratio": ratio, **machine()}


def main() -> None:
    """Print the outcome as JSON."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--images", type=int, default=8)
    options.add_argument("--set", action="append", default=[], help="section.field=value")
    chosen = options.parse_args()
    settings = {
        name: yaml.safe_load(value) for name, _, value in (s.partition("=") for s in chosen.set)
    }
    print(json.dumps(measure(chosen.images, settings), indent=1))


if __name__ == "__main__":
    main()
