"""Rebuild the demo's files from seeds: `python -m pipeline.demo.build images|clip|attention|all`.

Training the CLIP takes over an hour on two cores; after an interruption it resumes from its last
checkpoint.
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
    """Log with the time of day, and set the number of torch threads."""
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
    """Train the CLIP and write its model folder."""
    from pipeline.demo.clip import Training, TrainingConfig
    from pipeline.demo.towers import export, write_architecture

    write_architecture(CLIP)
    export(Training(CLIP, work / "clip.pt", TrainingConfig()).run(), CLIP)


@app.command()
def attention() -> None:
    """Train the attention model from the CLIP's vision tower, and write its model folder."""
    from pipeline.demo.attention import export, from_clip
    from pipeline.demo.distillation import TrainingConfig, distil

    export(distil(from_clip(CLIP), TrainingConfig()), ATTENTION)


@app.command(name="all")
def everything() -> None:
    """Rebuild images, CLIP and attention model."""
    images()
    clip()
    attention()


@app.command()
def examine() -> None:
    """Measure the figures of the model cards: accuracy, temperature, attention on the bird."""
    from pipeline.demo.evaluation import evaluate_attention, evaluate_clip

    typer.echo("\n".join([*evaluate_clip(CLIP), "", *evaluate_attention(ATTENTION)]))


if __name__ == "__main__":
    app()
