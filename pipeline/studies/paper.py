"""The paper's figures beside ours: which rows are the same, and which cannot be.

`cfgs/reported.csv` has them as printed: table, dataset, backbone, method, setting, top-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.core.layers import CFGS
from pipeline.run import Run
from pipeline.studies.sweeps import Sweep

if TYPE_CHECKING:
    import pandas as pd

METHODS = {
    "clip": "CLIP",
    "clip-e": "CLIP-E",
    "clip-d": "CLIP-D",
    "waffle": "Waffle",
    "cupl": "CuPL",
    "wca": "WCA",
    "abs": "ABS",
}
"""What the paper calls our methods."""
ROW = ["backbone", "row", "method"]
"""What a row of a table goes by, as the paper calls them."""
SIGMA = "ABS sigma"
"""The rows that hold the paper's spread of ABS."""
OTHER_TEXTS = ("cub", "dtd", "places365")
"""Where the paper's row of ABS was made with other descriptions than the rows above it."""
WITHIN = 0.1
"""Points that count as equal where neither side states a sigma."""


def reported(table: str, dataset: str) -> pd.DataFrame:
    """Rows of a table of the paper: backbone, method, row, paper, paper_sigma; of a dataset."""
    import pandas as pd

    rows = pd.read_csv(CFGS / "reported.csv", dtype={"table": str}, keep_default_na=False)
    rows = rows[(rows["table"] == table) & (rows["dataset"] == dataset)]
    rows = rows.rename(columns={"setting": "row", "top1": "paper"})
    spread = rows[rows["method"] == SIGMA].set_index("backbone")["paper"]
    rows = rows[rows["method"] != SIGMA].drop(columns=["table", "dataset"])
    sigmas = rows["backbone"].map(spread).where(rows["method"] == "ABS")
    return rows.assign(paper_sigma=sigmas).reset_index(drop=True)


def beside(sweep: Sweep) -> pd.DataFrame:
    """Ours and the paper's, a row for each row of either; in percent, None where one lacks it.

    ece: our calibration error. difference: ours less theirs. within: whether that is at most the
    larger sigma of the two.
    """
    import numpy as np
    import pandas as pd

    experiment = sweep.experiment
    theirs = reported(experiment.paper, sweep.store.dataset)
    ours = _ours(sweep)
    if theirs.empty:
        found = ours.assign(paper=np.nan, paper_sigma=np.nan)
    else:
        found = theirs.merge(ours, on=ROW, how="outer", sort=False)
    found["difference"] = found["ours"] - found["paper"]
    sigma = found[["sigma", "paper_sigma"]].max(axis=1).fillna(WITHIN)
    known = found["difference"].notna()
    found["within"] = pd.Series(found["difference"].abs() <= sigma, dtype=object).where(known)
    dataset = sweep.store.dataset
    remarks = [_remark(experiment.paper, dataset, row) for _, row in found.iterrows()]
    columns = [*ROW, "ours", "sigma", "ece", "paper", "paper_sigma"]
    return found.assign(remark=remarks)[[*columns, "difference", "within", "remark"]]


def named(sweep: Sweep) -> pd.DataFrame:
    """The results of a sweep with `backbone`, `row` and `method` as the paper calls them; what we
    call the method is `scored`."""
    import pandas as pd

    results = sweep.results()
    if results.empty:
        return pd.DataFrame(columns=[*ROW, "scored", "run", "top1", "ece"])
    backbones = {run.stages[-1].key: backbone_of(run) for _, run in sweep.runs}
    results["backbone"] = results["run"].map(backbones)
    results["scored"] = results["method"]
    results["method"] = results["method"].map(METHODS).fillna(results["method"])
    # What the paper has no name for is called as its fields say.
    plain = results["row"] == ""
    titles = [", ".join(_fields(sweep, row)) for _, row in results[plain].iterrows()]
    results.loc[plain, "row"] = titles
    return results


def _ours(sweep: Sweep) -> pd.DataFrame:
    results = named(sweep)
    results[["top1", "ece"]] *= 100
    groups = results.groupby(ROW, sort=False, as_index=False)
    return groups.agg(ours=("top1", "mean"), sigma=("top1", "std"), ece=("ece", "mean"))


def _fields(sweep: Sweep, row: pd.Series[Any]) -> list[str]:
    over = sweep.experiment.grids[row["grid"]].over
    return [f"{name}={row[name]}" for name in over if name != "clip.model"]


def backbone_of(run: Run) -> str:
    """`ViT-B/16` of `ViT-B-16`; what the paper has not is called as it is."""
    name = str(run.settings.clip.model)
    head, _, size = name.removesuffix("-quickgelu").rpartition("-")
    return f"{head}/{size}" if size.isdigit() else name.rpartition("/")[2]


def _remark(table: str, dataset: str, row: Any) -> str:
    """Why a row of the paper is not comparable; empty if nothing speaks against it."""
    if row["method"] not in METHODS.values():
        return "as reported there" if row["paper"] == row["paper"] else ""
    if row["paper"] != row["paper"]:
        return ""
    if dataset in OTHER_TEXTS and row["method"] in ("CLIP-D", "Waffle", "CuPL", "WCA"):
        return "other descriptions than ABS's row"
    if dataset in OTHER_TEXTS and row["method"] == "ABS":
        return "needs the descriptions that ABS published"
    if table in ("2", "3") and row["method"] != "ABS":
        return "copied from WCA's paper"
    return ""
