"""What each stage took, from the receipts of its units, beside the seconds that the paper reports.

A receipt has the seconds of reading, computing and writing a unit. Stages do the three at the same
time, and load a model before, so a clock on the wall shows another sum.
`cfgs/reported_seconds.csv` has the paper's figures as printed: table, dataset, backbone, method,
setting, step, seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import MissingInput
from pipeline.core.layers import CFGS
from pipeline.methods.base import VIEW_NAMES
from pipeline.run import Run
from pipeline.stage import Stage, needed
from pipeline.store.ledger import Receipt
from pipeline.studies.paper import ROW, named
from pipeline.studies.sweeps import Sweep
from stages.scores import Scores

if TYPE_CHECKING:
    import pandas as pd

BY_IMAGE = ("attention", "crops", "embeddings")
"""The stages that work image by image, scores aside."""
SECONDS = ("attention", "crops", *VIEW_NAMES, "scores", "seconds")
"""Columns: stages, the embeddings of a view under its name, and their sum."""
STEPS = {"crop+preprocess": "paper_crop_ms", "encoding": "paper_encode_ms", "total": "paper_ms"}
"""The paper's steps, and the columns of their milliseconds, which can only be those of an image."""
DEVICE = "NVIDIA 4090"
"""What the paper ran on."""


def with_seconds(found: pd.DataFrame, sweep: Sweep) -> pd.DataFrame:
    """The rows of `paper.beside` with seconds of each stage, milliseconds per image, the paper's.

    The paper's are those of its own dataset and backbone, whatever ours are; the remark says what
    both were measured on. Empty where a row's artifacts are not there, or the paper has no figure.
    """
    import pandas as pd

    ours = _ours(sweep)
    found = found.merge(ours, on=ROW, how="left", sort=False)
    theirs = _reported(sweep.experiment.paper)
    # What is stated once for a method holds for each of its rows.
    rows = [theirs.get((m, row)) or theirs.get((m, "")) or {} for m, row in _keys(found)]
    remarks = [
        "; ".join(filter(None, [remark, _remark(device, row)]))
        for remark, device, row in zip(found["remark"], found["device"], rows, strict=True)
    ]
    paper = pd.DataFrame(rows, columns=list(STEPS.values()), index=found.index)
    found = pd.concat([found.drop(columns=["remark", "device"]), paper], axis=1)
    return found.assign(remark=remarks)


def taken(run: Run, method: str) -> dict[str, Any]:
    """What the units took that `method` needs under the settings of `run`.

    Seconds by stage and in all, milliseconds per image, and the devices. Scores are those of all
    methods together. MissingInput while any unit is still to be made.
    """
    found: dict[str, float] = {}
    devices = set()
    for stage in _behind(run, method):
        name = stage.variant if stage.kind == "embeddings" else stage.kind
        for receipt in _receipts(run, stage):
            found[name] = found.get(name, 0.0) + sum(receipt.seconds.values())
            devices.add(receipt.maker.get("device", ""))
    seconds, images = sum(found.values()), run.store.rows(run.named("index")[0])
    told = ", ".join(sorted(devices - {""}))
    return {**found, "seconds": seconds, "ms_per_image": 1000 * seconds / images, "device": told}


def _behind(run: Run, method: str) -> list[Stage]:
    """The stages that work image by image for a method, scores included."""
    (scores,) = run.named("scores")
    assert isinstance(scores, Scores)
    views = scores.methods[method].views(scores.config)
    read = [part[name] for part in (scores.views, scores.drawn) for name in views if name in part]
    before = [stage for stage in needed(read, run.stages) if stage.kind in BY_IMAGE]
    return [*before, scores]


def _receipts(run: Run, stage: Stage) -> list[Receipt]:
    """Of the units that are asked for, whatever others the artifact has."""
    units = [unit.name for unit in stage.units(run.store)]
    found = run.store.artifact(stage).ledger.receipts(units)
    if len(found) < len(units):
        raise MissingInput(f"{stage.name}: {len(units) - len(found)} units are still to be made")
    return list(found.values())


def _ours(sweep: Sweep) -> pd.DataFrame:
    """A row per finished row and method: the mean over seeds."""
    import pandas as pd

    figures = [*SECONDS, "ms_per_image"]
    table = pd.DataFrame(_rows(sweep), columns=[*ROW, *figures, "device"])
    each = table.groupby(ROW, sort=False, as_index=False)
    return each.agg({**dict.fromkeys(figures, "mean"), "device": _together})


def _rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    runs = {run.stages[-1].key: run for _, run in sweep.runs}
    for row in named(sweep).to_dict("records"):
        try:
            found = taken(runs[row["run"]], row["scored"])
        except MissingInput:
            continue
        yield {**{name: row[name] for name in ROW}, **found}


def _together(devices: pd.Series[str]) -> str:
    return ", ".join(sorted(set(devices)))


def _reported(table: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Milliseconds of the paper's steps, and the backbone, by method and row."""
    import pandas as pd

    path = CFGS / "reported_seconds.csv"
    rows = pd.read_csv(path, dtype={"table": str}, keep_default_na=False)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows[rows["table"] == table].to_dict("records"):
        of_row = found.setdefault((row["method"], row["setting"]), {"backbone": row["backbone"]})
        of_row[STEPS[row["step"]]] = 1000 * row["seconds"]
    return found


def _keys(found: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(found["method"], found["row"], strict=True)


def _remark(device: Any, paper: dict[str, Any]) -> str:
    """What was measured on what; empty where there is only one side, or none."""
    if not paper or not isinstance(device, str):
        return ""
    return f"machines differ ({device}; {DEVICE}, {paper['backbone']})"
