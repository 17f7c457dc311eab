"""What is on record of keys and code: `python -m tests.golden` writes it again.

keys.json: the keys of all stages on the demo. They change when identities do, and must not by
accident, or every store is computed again.
code.json: per stage class its version and the digest of its code. When the code changes, outputs
may: then the version is raised. If they do not, say why: `python -m tests.golden --same "renamed"`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline.code import code_of
from pipeline.commands import Run
from pipeline.files import write_json
from pipeline.stage import Stage

GOLDEN = Path(__file__).with_name("golden")
RUNS = {
    "official": ("official", ["scores.methods=null"]),
    "paper": ("paper", ["scores.methods=null"]),
    "drawn": ("official", ["scores.methods=[abs]", "windows.encode=drawn"]),
}
"""Settings whose keys are on record."""


def stages(run: str) -> list[Stage]:
    """The stages of one of the runs on record."""
    profile, changes = RUNS[run]
    return Run.of("demo", profile, changes).stages


def keys() -> dict[str, dict[str, str]]:
    """The keys as they are now."""
    return {run: {stage.name: stage.key for stage in stages(run)} for run in RUNS}


def versions() -> dict[str, dict[str, Any]]:
    """Version and code of each stage class as they are now."""
    found = {type(stage).__name__: stage for run in RUNS for stage in stages(run)}
    return {
        name: {"version": stage.version, "code": code_of(stage)} for name, stage in found.items()
    }


def recorded(name: str) -> Any:
    """What is on record."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def main() -> None:
    """Put on record what is now."""
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


if __name__ == "__main__":
    main()
