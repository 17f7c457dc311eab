"""Facts beside the results: seconds of stages, what reproduces a run, remarks on its dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.core.layers import plain
from pipeline.core.section import flatten
from pipeline.core.words import counted
from pipeline.report.stored import StoredRun

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20
"""Files that a remark lists."""
PARTS = ("read", "compute", "write")
"""Parts of a unit's seconds."""


def seconds(run: StoredRun) -> list[dict[str, Any]]:
    """Return a row for each stage: seconds of its units by part, bytes, devices, when made."""
    rows = []
    for stage in run.stages:
        manifest = run.artifact(stage).manifest
        devices = sorted({str(m["device"]) for m in manifest["makers"] if m.get("device")})
        rows.append(
            {
                "stage": stage,
                **{part: float(manifest["seconds"].get(part, 0.0)) for part in PARTS},
                "units": len(manifest["units"]),
                "bytes": int(manifest["bytes"]),
                "device": ", ".join(devices),
                "finished": manifest["finished"],
            }
        )
    return rows


def reproduction(run: StoredRun) -> dict[str, Any]:
    """Return what reproduces the run: command, settings, code, versions, keys and digests."""
    manifest = run.artifact("metrics").manifest
    settings = {n: v for n, v in run.record.settings.items() if n not in ("paths", "runtime")}
    return {
        "command": f"abs run {run.record.options}",
        "settings": [[name, plain(value)] for name, value in flatten(settings, "")],
        "code": manifest.get("code") or {},
        "versions": manifest.get("versions") or {},
        "machine": manifest.get("machine") or {},
        "stages": [_digests(run, stage) for stage in run.stages],
        "inputs": _inputs(run),
    }


def _digests(run: StoredRun, stage: str) -> dict[str, str]:
    artifact = run.artifact(stage)
    codes = sorted({str(maker.get("code", "")) for maker in artifact.manifest["makers"]} - {""})
    key, digest = artifact.path.name, artifact.manifest["digest"]
    return {"stage": stage, "key": key, "digest": digest, "code": ", ".join(codes)}


def _inputs(run: StoredRun) -> list[list[str]]:
    """List the digests of files from outside, each once, with the first stage that reads it."""
    found: dict[tuple[str, str], str] = {}
    for stage in run.stages:
        identity = run.artifact(stage).manifest["identity"]
        for name, value in flatten(identity["outside"], ""):
            for text in value if isinstance(value, list) else [value]:
                found.setdefault((name, str(text)), stage)
    return [[stage, name, text] for (name, text), stage in found.items()]


def remarks(run: StoredRun, images: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what users must know of the dataset: a line, and files that it is about."""
    index = run.artifact("index")
    found: list[dict[str, Any]] = [
        {"text": f"{stage}: {text}", "files": []}
        for stage in run.stages
        for text in run.artifact(stage).manifest.get("remarks") or []
        if stage != "index" or "files skipped" not in text
    ]
    skipped = index.table("skipped")
    if len(skipped):
        files = [f"{row.file}: {row.reason}" for row in skipped.itertuples()]
        found.append({"text": f"{counted(len(files), 'files')} skipped", "files": files})
    found += _duplicates(images)
    return [{**each, "files": _few(each["files"])} for each in found]


def _duplicates(images: pd.DataFrame) -> list[dict[str, Any]]:
    """Find images with equal bytes, and of these the ones with different labels."""
    same = images[images.duplicated("sha256", keep=False)]
    if same.empty:
        return []
    groups = same.groupby("sha256", sort=False)
    labels = groups["label"].nunique()
    files = [" = ".join(rows["image_id"].head(4)) for _, rows in groups]
    text = f"{counted(len(same), 'images')} are copies of one another, in {len(labels):,} groups"
    apart = int((labels > 1).sum())
    text += f"; {apart:,} of these with different labels" if apart else ""
    return [{"text": text, "files": files}]


def _few(files: list[str]) -> list[str]:
    more = len(files) - SHOWN
    return [*files[:SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
