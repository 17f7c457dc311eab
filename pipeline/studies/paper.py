"""The paper's figures beside our results, with a remark on rows that are not comparable.

`cfgs/reported.csv` holds the figures as printed: table, dataset, backbone, method, setting, top-1;
then the source, the split, texts and number of images where they are known and not those of the
whole dataset, and a mark that says why a figure is not comparable. Table `rivals` is none of the
paper's: it has figures of other methods, read in their own code's logs and pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.core.layers import CFGS
from pipeline.models.clip.dimensions import OWN_DEFINITION
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
"""Names of the methods in the paper."""
BACKBONES = {
    "align-base": "ALIGN",
    "AltCLIP": "AltCLIP",
    "groupvit-gcc-yfcc": "GroupViT",
    "blip2-itm-vit-g": "BLIP-2",
}
"""Names of backbones in the paper, by the last part of the repository or folder."""
UNDEFINED = ("8", "10")
"""Tables of backbones in which the paper defines no feature crop."""
RIVALS = {"tda": "TDA", "dmn-zs": "DMN-ZS", "lazsl": "LaZSL"}
"""Names of other methods of which figures are reported."""
ROW = ["backbone", "row", "method"]
"""Columns that identify a row of a table, with the paper's names in them."""
SIGMA = "ABS sigma"
"""Method name of the rows that hold the paper's standard deviation of ABS."""
OTHER_TEXTS = ("cub", "dtd", "places365")
"""Datasets whose row of ABS in the paper uses other descriptions than the other methods."""
WITHIN = 0.1
"""Difference in percent points that counts as equal where neither side has a sigma."""


def reported(table: str, dataset: str) -> pd.DataFrame:
    """Return a table of the paper for one dataset.

    Columns are backbone, method, row, paper, paper_sigma, source and mark.
    """
    import pandas as pd

    rows = pd.read_csv(CFGS / "reported.csv", dtype={"table": str}, keep_default_na=False)
    rows = rows[(rows["table"] == table) & (rows["dataset"] == dataset)]
    rows = rows.rename(columns={"setting": "row", "top1": "paper"})
    spread = rows[rows["method"] == SIGMA].set_index("backbone")["paper"]
    rows = rows[rows["method"] != SIGMA].drop(
        columns=["table", "dataset", "split", "texts", "images"]
    )
    sigmas = rows["backbone"].map(spread).where(rows["method"] == "ABS")
    return rows.assign(paper_sigma=sigmas).reset_index(drop=True)


def beside_paper(sweep: Sweep) -> pd.DataFrame:
    """Join our results with the paper's: a row for each row of either, in percent, None if missing.

    ece: our calibration error. difference: ours minus the paper's. within: whether the difference
    is at most the larger of the two sigmas.
    """
    import numpy as np
    import pandas as pd

    experiment = sweep.experiment
    paper = reported(experiment.paper, sweep.store.dataset)
    ours = _mean_over_seeds(sweep)
    if paper.empty:
        table = ours.assign(paper=np.nan, paper_sigma=np.nan, mark="")
    else:
        table = paper.merge(ours, on=ROW, how="outer", sort=False)
    table["difference"] = table["ours"] - table["paper"]
    sigma = table[["sigma", "paper_sigma"]].max(axis=1).fillna(WITHIN)
    comparable = table["difference"].notna()
    within = pd.Series(table["difference"].abs() <= sigma, dtype=object)
    table["within"] = within.where(comparable)
    dataset = sweep.store.dataset
    remarks = [_remark(experiment.paper, dataset, row) for _, row in table.iterrows()]
    columns = [*ROW, "ours", "sigma", "ece", "paper", "paper_sigma"]
    return table.assign(remark=remarks)[[*columns, "difference", "within", "remark"]]


def renamed_results(sweep: Sweep) -> pd.DataFrame:
    """Return the results of a sweep with the paper's names in `backbone`, `row` and `method`.

    `scored` holds the name of the method in this project.
    """
    import pandas as pd

    results = sweep.results()
    if results.empty:
        return pd.DataFrame(columns=[*ROW, "scored", "run", "top1", "ece"])
    backbones = {run.stages[-1].key: backbone_of(run) for _, run in sweep.runs}
    results["backbone"] = results["run"].map(backbones)
    results["scored"] = results["method"]
    results["method"] = results["method"].map(METHODS | RIVALS).fillna(results["method"])
    # A row without a name in the paper is named by its settings.
    unnamed = results["row"] == ""
    titles = [", ".join(_varied(sweep, row)) for _, row in results[unnamed].iterrows()]
    results.loc[unnamed, "row"] = titles
    return results


def _mean_over_seeds(sweep: Sweep) -> pd.DataFrame:
    results = renamed_results(sweep)
    results[["top1", "ece"]] *= 100
    groups = results.groupby(ROW, sort=False, as_index=False)
    return groups.agg(ours=("top1", "mean"), sigma=("top1", "std"), ece=("ece", "mean"))


def _varied(sweep: Sweep, row: pd.Series[Any]) -> list[str]:
    over = sweep.experiment.grids[row["grid"]].over
    return [f"{name}={row[name]}" for name in over if name != "clip.model"]


def backbone_of(run: Run) -> str:
    """Return the backbone's name in the paper: `ViT-B/16` for `ViT-B-16`, else its last part."""
    name = str(run.settings.clip.model)
    if (known := BACKBONES.get(name.rstrip("/").rpartition("/")[2])) is not None:
        return known
    head, _, size = name.removesuffix("-quickgelu").rpartition("-")
    return f"{head}/{size}" if size.isdigit() else name.rpartition("/")[2]


def _remark(table: str, dataset: str, row: Any) -> str:
    """Say why a row of the paper is not comparable; empty if it is."""
    if row["paper"] == row["paper"] and row["mark"]:
        return str(row["mark"])
    if row["method"] not in METHODS.values():
        return "as printed in the paper" if row["paper"] == row["paper"] else ""
    if row["paper"] != row["paper"]:
        return ""
    if dataset in OTHER_TEXTS and row["method"] in ("CLIP-D", "Waffle", "CuPL", "WCA"):
        return "other descriptions than ABS's row"
    if dataset in OTHER_TEXTS and row["method"] == "ABS":
        return "needs the descriptions that ABS published"
    if table in UNDEFINED and row["method"] == "ABS":
        return OWN_DEFINITION
    if table in ("2", "3") and row["method"] != "ABS":
        return "copied from WCA's paper"
    return ""
