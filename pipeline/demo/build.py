"""Makes the demo's files again: `python -m pipeline.demo.build images|clip|attention|all`.

Every step starts from seeds alone and can be stopped and started again.
"""

from __future__ import annotations

import logging
from pathlib import Path

import typer

DEMO = Path(__file__).parent
CLIP, ATTENTION = DEMO / "models" / "clip", DEMO / "models" / "attention"
WORK = Path("artifacts") / "demo-training"

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    """Log with the time of day."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@app.command()
def images() -> None:
    """Draw the test pictures and masks, and write the descriptions."""
    from pipeline.demo.dataset import write_dataset

    write_dataset(DEMO)


@app.command()
def clip(threads: int = 2, work: Path = WORK) -> None:
    """Train the CLIP and write its folder."""
    import torch

    from pipeline.demo.clip import Recipe, Training
    from pipeline.demo.towers import export, write_architecture

    torch.set_num_threads(threads)
    write_architecture(CLIP)
    export(Training(CLIP, work / "clip.pt", Recipe()).run(), CLIP)


if __name__ == "__main__":
    app()
