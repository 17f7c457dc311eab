"""Makes the demo's files again: `python -m pipeline.demo.build images|clip|attention|all`.

Everything starts from seeds alone. The training of the CLIP, which takes over an hour on two cores,
goes on where it was stopped.
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
def main(threads: int = 2) -> None:
    """Log with the time of day, and compute on some threads."""
    import torch

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)


@app.command()
def images() -> None:
    """Draw the test pictures and masks, and write the prompt files."""
    from pipeline.demo.dataset import write_dataset

    write_dataset(DEMO)


@app.command()
def clip(work: Path = WORK) -> None:
    """Train the CLIP and write its folder."""
    from pipeline.demo.clip import Recipe, Training
    from pipeline.demo.towers import export, write_architecture

    write_architecture(CLIP)
    export(Training(CLIP, work / "clip.pt", Recipe()).run(), CLIP)


@app.command()
def attention() -> None:
    """Train the attention model from the CLIP's tower, and write its folder."""
    from pipeline.demo.attention import export, from_clip
    from pipeline.demo.distillation import Recipe, distil

    export(distil(from_clip(CLIP), Recipe()), ATTENTION)


@app.command(name="all")
def everything() -> None:
    """Make all of it."""
    images()
    clip()
    attention()


@app.command()
def examine() -> None:
    """Print what the model cards state: read attributes, temperature, attention on the bird."""
    from pipeline.demo.examination import examine_attention, examine_clip

    typer.echo("\n".join([*examine_clip(CLIP), "", *examine_attention(ATTENTION)]))


if __name__ == "__main__":
    app()
