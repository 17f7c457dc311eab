"""Seconds of each stage, from the receipts of its units, beside the seconds that the paper reports.

A receipt holds the seconds of reading, computing and writing a unit. The three overlap, and loading
a model comes before them, so that wall clock time differs from their sum. If
`runtime.method_seconds` asked for it, a receipt of scores also holds the seconds of each method.
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
from pipeline.studies.paper import ROW, renamed_results
from pipeline.studies.receipts import receipts_of, scoring_seconds
from pipeline.studies.stored import SCORING
from pipeline.studies.sweeps import Sweep
from stages.scores import Scores

if TYPE_CHECKING:
    import pandas as pd

BY_IMAGE = ("attention", "crops", "embeddings")
"""Stages that process each image, apart from scores."""
SECONDS = ("attention", "crops", *VIEW_NAMES, "scores", "seconds", SCORING)
"""Columns of seconds: stages, embeddings under the name of their view, the total, and the part of
scores that the method itself took.
"""
STEPS = {"crop+preprocess": "paper_crop_ms", "encoding": "paper_encode_ms", "total": "paper_ms"}
"""Steps in the paper, and the column for the milliseconds that each takes per image."""
DEVICE = "NVIDIA 4090"
"""GPU of the paper's measurements."""


def with_seconds(table: pd.DataFrame, sweep: Sweep) -> pd.DataFrame:
    """Add columns to the rows of `paper.beside_paper`: seconds by stage and milliseconds per image.

    The paper's milliseconds are added as well; they are of its own dataset and backbone, whatever
    the sweep's are, and `remark` names both devices. A cell is empty if artifacts of its row are
    missing or the paper has no figure.
    """
    import pandas as pd

    table = table.merge(_measured(sweep), on=ROW, how="left", sort=False)
    reported = _reported(sweep.experiment.paper)
    # A figure without a row name holds for every row of its method.
    paper_rows = [
        reported.get((method, row)) or reported.get((method, "")) or {}
        for method, row in zip(table["method"], table["row"], strict=True)
    ]
    remarks = [
        "; ".join(filter(None, [remark, _device_remark(device, paper)]))
        for remark, device, paper in zip(table["remark"], table["device"], paper_rows, strict=True)
    ]
    paper = pd.DataFrame(paper_rows, columns=list(STEPS.values()), index=table.index)
    table = pd.concat([table.drop(columns=["remark", "device"]), paper], axis=1)
    return table.assign(remark=remarks)


def seconds_of(run: Run, method: str) -> dict[str, Any]:
    """Sum the seconds of all units that `method` needs under the settings of `run`.

    Returns seconds by stage and in total, milliseconds per image, and the devices. Scores are
    counted for all methods together; those of the method alone are added where they were measured.
    Raises MissingInput while any unit is unfinished.
    """
    by_stage: dict[str, float] = {}
    devices = set()
    for stage in _stages_behind(run, method):
        name = stage.variant if stage.kind == "embeddings" else stage.kind
        for receipt in receipts_of(run, stage):
            by_stage[name] = by_stage.get(name, 0.0) + sum(receipt.seconds.values())
            devices.add(receipt.maker.get("device", ""))
    seconds, images = sum(by_stage.values()), run.store.rows(run.named("index")[0])
    device = ", ".join(sorted(devices - {""}))
    total = {"seconds": seconds, "ms_per_image": 1000 * seconds / images, "device": device}
    own = scoring_seconds(run)
    return {**by_stage, **total, **({SCORING: own[method]} if method in own else {})}


def _stages_behind(run: Run, method: str) -> list[Stage]:
    """Return the stages that process images for a method, scores included."""
    (scores,) = run.named("scores")
    assert isinstance(scores, Scores)
    views = scores.methods[method].views(scores.config)
    read = [part[name] for part in (scores.views, scores.drawn) for name in views if name in part]
    before = [stage for stage in needed(read, run.stages) if stage.kind in BY_IMAGE]
    return [*before, scores]


def _measured(sweep: Sweep) -> pd.DataFrame:
    """Return one row per finished setting and method: the mean over seeds."""
    import pandas as pd

    figures = [*SECONDS, "ms_per_image"]
    table = pd.DataFrame(_rows(sweep), columns=[*ROW, *figures, "device"])
    groups = table.groupby(ROW, sort=False, as_index=False)
    return groups.agg({**dict.fromkeys(figures, "mean"), "device": _join})


def _rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    runs = {run.stages[-1].key: run for _, run in sweep.runs}
    for row in renamed_results(sweep).to_dict("records"):
        try:
            seconds = seconds_of(runs[row["run"]], row["scored"])
        except MissingInput:
            continue
        yield {**{name: row[name] for name in ROW}, **seconds}


def _join(devices: pd.Series[str]) -> str:
    return ", ".join(sorted(set(devices)))


def _reported(table: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the milliseconds of the paper's steps, and its backbone, by method and row."""
    import pandas as pd

    path = CFGS / "reported_seconds.csv"
    rows = pd.read_csv(path, dtype={"table": str}, keep_default_na=False)
    figures: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows[rows["table"] == table].to_dict("records"):
        key = row["method"], row["setting"]
        steps = figures.setdefault(key, {"backbone": row["backbone"]})
        steps[STEPS[row["step"]]] = 1000 * row["seconds"]
    return figures


def _device_remark(device: Any, paper: dict[str, Any]) -> str:
    """Name the devices of both measurements; empty if one of them is missing."""
    if not paper or not isinstance(device, str):
        return ""
    return f"machines differ ({device}; {DEVICE}, {paper['backbone']})"
