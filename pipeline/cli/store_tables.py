"""Print the state of a store, the plan of a run, damage, and facts about a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.cli.tables import age, cell, print_rich, size
from pipeline.core.errors import first_of
from pipeline.core.progress import clock
from pipeline.core.words import counted
from pipeline.store.summary import LOOKS

HOW_FAR = f"up to {LOOKS} files of each stage were looked at; abs verify looks at all"
NOTHING_TO_DO = f"Nothing to do: every stage is finished ({HOW_FAR})."


def print_status(rows: list[dict[str, Any]]) -> None:
    """Print the state of each stage, and what finished ones remark."""
    _print_states(rows, ("stage", "state", "units", "size", "age", "key"))
    for row in rows:
        for remark in row.get("remarks") or []:
            print(f"{row['stage']}: {remark}")
    if any(row["state"] == "done" for row in rows):
        print(f"Done: {HOW_FAR}.")


def print_plan(rows: list[dict[str, Any]]) -> None:
    """Print what a run would compute, write and hold in memory."""
    _print_states(rows, ("stage", "state", "to do", "items", "time", "writes", "memory"))
    todo = [row["stage"] for row in rows if row["state"] != "done"]
    print(f"To compute: {', '.join(todo)}." if todo else NOTHING_TO_DO)
    if todo:
        seconds = [row["seconds"] for row in rows]
        known = None if None in seconds else clock(sum(seconds))
        print(f"Time on this machine: {f'about {known}' if known else 'unknown'}.")
        print("Memory: per process, for units and open images, without the model and its batch.")


def _print_states(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        cells = {
            "stage": row["stage"],
            "state": ", ".join(_state(row)),
            "units": "?" if row["units"] is None else str(row["units"]),
            "size": size(row["bytes"]) if row["bytes"] else "",
            "to do": cell(row.get("todo"), str),
            "writes": cell(row.get("writes"), size),
            "memory": cell(row.get("holds"), size),
            "age": "" if row["age"] is None else age(row["age"]),
            "items": f"{row['items']:,} {row['counts']}" if row.get("items") else "",
            "time": "?" if row.get("seconds", 0) is None else _time(row),
            "key": row["key"],
        }
        table.add_row(*(cells[column] for column in columns))
    print_rich(table)


def _time(row: Mapping[str, Any]) -> str:
    return clock(row["seconds"]) if row.get("seconds") else ""


def _state(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield `partial (17 of 23 units)`, `running on host:pid`, `2 failed`, `code-drift`."""
    yield row["state"]
    if row.get("running"):
        yield f"running on {' '.join(row['running'])}"
    if row.get("failed"):
        yield f"{row['failed']} failed"
    if row.get("code_drift"):
        yield "code-drift"


def print_doctor_report(report: Mapping[str, Any]) -> None:
    """Print facts by section, one per line; then the problems, and whether a run is possible."""
    for section, facts in report.items():
        if isinstance(facts, dict):
            print(f"{section}")
            for name, value in facts.items():
                print(f"  {name}: {_formatted(value)}")
    for warning in report["warnings"]:
        print(f"WARNING: {warning}")
    for problem in report["problems"]:
        print(f"PROBLEM: {problem}")
    verdict = "usable" if report["usable"] else "not usable"
    if unseen := report["weights not looked at"]:
        verdict += f"; weights not looked at: {', '.join(unseen)} (a run finds or downloads them)"
    print(verdict)


def print_reasons(answers: list[dict[str, Any]]) -> None:
    """Print a line for each stage, and below it its differences from the nearest artifact."""
    for answer in answers:
        print(f"{answer['stage']}: {answer['state']} {answer['key']}")
        if answer["nearest"]:
            print(f"  nearest artifact: {answer['nearest']}; it differs in")
        stages: dict[str, list[str]] = {}
        for reason in answer["reasons"]:
            change = f"{reason['name']}: {reason['was']} -> {reason['now']}"
            stages.setdefault(change, []).append(reason["stage"])
        for change, names in stages.items():
            print(f"  {change} ({', '.join(names)})")


def print_verify_report(report: Mapping[str, Any], marked: bool) -> None:
    """Print damaged files, one per line, then the number of artifacts, files and bytes checked."""
    for damage in report["damage"]:
        unit = f" (unit {damage['unit']})" if damage["unit"] else ""
        print(f"DAMAGED: {damage['artifact']}/{damage['file']}{unit} {damage['what']}")
    for path in report["older"]:
        print(f"older layout, not checked: {path}")
    for stage in report["missing"]:
        print(f"{stage} is out of date; see abs why {stage}")
    if report["again"]:
        print(f"computed again: {', '.join(report['again'])}")
    files = f"{counted(report['files'], 'files')}, {size(report['bytes'])}"
    print(
        f"{counted(report['artifacts'], 'artifacts')}, {files}: "
        f"{len(report['damage']) or 'nothing'} damaged"
    )
    for problem in report["unmarked"]:
        print(f"not marked as unfinished: {problem}")
    if marked and not report["unmarked"]:
        print("Damaged units are marked as unfinished; the next run computes them again.")


def print_unreferenced(rows: list[dict[str, Any]], deleted: bool) -> None:
    """Print the folders that gc can delete, or has deleted."""
    table = Table("path", "size", "why", box=None, pad_edge=False)
    for row in rows:
        kept = "kept, as a process claimed it meanwhile: " if deleted and not row["deleted"] else ""
        table.add_row(escape(row["path"]), size(row["bytes"]), kept + row["why"])
    print_rich(table) if rows else None
    total = size(sum(row["bytes"] for row in rows if row["deleted"] or not deleted))
    if not rows:
        print("Nothing to delete: recent runs need every artifact.")
    else:
        print(
            f"{total} deleted."
            if deleted
            else f"{total} can be deleted; add --delete to delete them."
        )


def _formatted(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_formatted(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(first_of(list(map(_formatted, value)))) or "none"
    if isinstance(value, float):
        return f"{value:.2%}"
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
