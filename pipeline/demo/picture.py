"""Draw the method on one of the demo's images: attention, raw crops, feature crops.

    python -m pipeline.demo.picture

Writes `docs/images/demo.svg` from the store, after running missing stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.core.paths import PROJECT
from pipeline.datasets.images import read_verified
from pipeline.demo.drawing import Box, Subject, svg
from pipeline.models.clip.source import ClipSource
from pipeline.plan import read
from pipeline.run import Run
from pipeline.stage import needed
from pipeline.views.config import BOX, WINDOW, TokenGrid

if TYPE_CHECKING:
    import pandas as pd

FILE = PROJECT / "docs" / "images" / "demo.svg"
IMAGE = "white-headed_shortbill/10.png"
SHOWN = 6
"""Number of crops of each kind that are drawn, in order of their number."""
STAGES = ("attention", "crops-raw", "crops-feature")


def main() -> None:
    """Write the picture and print its path."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(svg(read_subject(demo_run())), encoding="utf-8")
    print(FILE.relative_to(PROJECT))


def demo_run() -> Run:
    """Return the run whose crops are drawn: the demo under the official profile."""
    return Run.of("demo", "official", ["scores.methods=[abs]"])


def read_subject(run: Run) -> Subject:
    """Run missing stages, then read the image with its attention and crops from the store."""
    stages = {stage.name: stage for stage in run.stages}
    run.execute(needed([stages[name] for name in STAGES], run.stages), [], quiet=False)
    artifacts = {name: run.store.open(stages[name]) for name in ("index", *STAGES)}
    row, image = _indexed(artifacts["index"].table("images"))
    maps = artifacts["attention"].array("attention")[row : row + 1]
    digests, dataset = read(run.settings)
    clip = ClipSource(run.settings.clip, run.settings.paths, digests)
    return Subject(
        name=dataset.classes.names[image.label],
        content=read_verified(dataset.contents, image.path, image.sha256),
        size=(image.width, image.height),
        attention=maps[0, run.settings.crops.layer],
        boxes=_first(artifacts["crops-raw"].table("crops"), row, BOX),
        windows=_first(artifacts["crops-feature"].table("crops"), row, WINDOW),
        view=TokenGrid.of(clip, "clip").view(image.width, image.height),
        tokens=clip.grid,
    )


def _indexed(images: pd.DataFrame) -> tuple[int, Any]:
    """Find `IMAGE` in the index: its row number and its row."""
    return next((row, i) for row, i in enumerate(images.itertuples()) if i.image_id == IMAGE)


def _first(crops: pd.DataFrame, row: int, columns: list[str]) -> list[Box]:
    """List the first crops of an image: boxes in pixels or windows in tokens."""
    chosen = crops[(crops["image"] == row) & (crops["crop"] < SHOWN)].sort_values("crop")
    return [(left, top, right, bottom) for left, top, right, bottom in chosen[columns].to_numpy()]


if __name__ == "__main__":
    main()
