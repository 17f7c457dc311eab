"""Recorded keys and code digests of all stages; `python -m tests.golden` records them again.

keys.json: the keys of all stages on the demo. They change with the identities of stages; an
unintended change would make every store compute everything again.
code.json: the version and code digest of each stage class. If a change of the code changes outputs,
raise the version. If it does not, give the reason: `python -m tests.golden --same "renamed"`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline.core.code import code_of
from pipeline.core.files import write_json
from pipeline.run import Run
from pipeline.stage import Stage

GOLDEN = Path(__file__).parent
RUNS = {
    "official": ("official", ["scores.methods=null"]),
    "paper": ("paper", ["scores.methods=null"]),
    "settled": ("official", ["scores.methods=[abs]", "scores.settle=0.001"]),
    "drawn": ("official", ["scores.methods=[abs]", "windows.encode=drawn"]),
}
"""Profile and overrides of the runs whose keys are recorded, by name."""


def stages(run: str) -> list[Stage]:
    """Return the stages of one of the recorded runs."""
    profile, changes = RUNS[run]
    return Run.of("demo", profile, changes).stages


def keys() -> dict[str, dict[str, str]]:
    """Compute the current keys, by run and stage."""
    return {run: {stage.name: stage.key for stage in stages(run)} for run in RUNS}


def versions() -> dict[str, dict[str, Any]]:
    """Compute the current version and code digest of each stage class."""
    found = {type(stage).__name__: stage for run in RUNS for stage in stages(run)}
    return {
        name: {"version": stage.version, "code": code_of(stage)} for name, stage in found.items()
    }


def recorded(name: str) -> Any:
    """Load a recorded file: "keys" or "code"."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def main() -> None:
    """Record the current keys and code digests.

    Refuses a changed code digest at an unchanged version unless `--same` gives a reason.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--same", help="Why the code of a stage changed and its outputs do not.")
    reason = parser.parse_args().same
    before = recorded("code") if (GOLDEN / "code.json").exists() else {}
    now = versions()
    for name, entry in now.items():
        was = before.get(name, {})
        if was and was["version"] == entry["version"] and was["code"] != entry["code"]:
            if not reason:
                parser.error(f"{name}: its code changed; raise its version, or give --same")
            entry["same"] = reason
        elif was.get("same") and was["code"] == entry["code"]:
            entry["same"] = was["same"]
    write_json(GOLDEN / "code.json", now)
    write_json(GOLDEN / "keys.json", keys())
