"""Prints the state of a store, the plan of a run, damage, and facts about a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.cli.tables import _known, _print, age, size


def print_status(rows: list[dict[str, Any]]) -> None:
    """The states as a table."""
    _print_states(rows, ("stage", "state", "units", "size", "age", "key"))


def print_plan(rows: list[dict[str, Any]]) -> None:
    """What a run would do."""
    _print_states(rows, ("stage", "state", "units", "to do", "writes", "memory", "key"))
    todo = [row["stage"] for row in rows if row["state"] != "done"]
    print(f"To compute: {', '.join(todo)}." if todo else "Nothing to do: every stage is finished.")
    if todo:
        print("Memory is each process's for units and open images, beside a model and its batch.")


def print_differences(found: Mapping[str, tuple[Any, Any]], a: str, b: str) -> None:
    """Settings that differ between two profiles."""
    if not found:
        print(f"{a} and {b} do not differ.")
        return
    table = Table("setting", a, b, box=None, pad_edge=False)
    for name, values in found.items():
        table.add_row(name, *map(_plain, values))
    _print(table)


def _plain(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value))


def _print_states(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        cells = {
            "stage": row["stage"],
            "state": ", ".join(_remarks(row)),
            "units": "?" if row["units"] is None else str(row["units"]),
            "size": size(row["bytes"]) if row["bytes"] else "",
            "to do": _known(row.get("todo"), str),
            "writes": _known(row.get("writes"), size),
            "memory": _known(row.get("holds"), size),
            "age": "" if row["age"] is None else age(row["age"]),
            "key": row["key"],
        }
        table.add_row(*(cells[column] for column in columns))
    _print(table)


def _remarks(row: Mapping[str, Any]) -> Iterator[str]:
    """`partial (17 of 23 units)`, `running on host:pid`, `2 failed`, `code-drift`"""
    yield row["state"]
    if row.get("running"):
        yield f"running on {' '.join(row['running'])}"
    if row.get("failed"):
        yield f"{row['failed']} failed"
    if row.get("code_drift"):
        yield "code-drift"


def print_examination(found: Mapping[str, Any]) -> None:
    """Facts by section, a line each; then what speaks against a run."""
    for section, facts in found.items():
        if isinstance(facts, dict):
            print(f"{section}")
            for name, value in facts.items():
                print(f"  {name}: {_said(value)}")
    for problem in found["problems"]:
        print(f"PROBLEM: {problem}")
    print("usable" if found["usable"] else "not usable")


def print_reasons(answers: list[dict[str, Any]]) -> None:
    """A line for each stage, and one for each reason below it."""
    for answer in answers:
        print(f"{answer['stage']}: {answer['state']} {answer['key']}")
        if answer["nearest"]:
            print(f"  there is {answer['nearest']}, but")
        stages: dict[str, list[str]] = {}
        for reason in answer["reasons"]:
            change = f"{reason['name']}: {reason['was']} -> {reason['now']}"
            stages.setdefault(change, []).append(reason["stage"])
        for change, names in stages.items():
            print(f"  {change} ({', '.join(names)})")


def print_checkup(found: Mapping[str, Any], marked: bool) -> None:
    """What is damaged, a line each; then what was looked at."""
    for damage in found["damage"]:
        unit = f" (unit {damage['unit']})" if damage["unit"] else ""
        print(f"DAMAGED: {damage['artifact']}/{damage['file']}{unit} {damage['what']}")
    for path in found["older"]:
        print(f"of another layout, not looked at: {path}")
    for stage in found["missing"]:
        print(f"not finished for its inputs as they are: {stage}; see abs why {stage}")
    if found["again"]:
        print(f"computed again: {', '.join(found['again'])}")
    looked = f"{found['artifacts']:,} artifacts, {found['files']:,} files, {size(found['bytes'])}"
    print(f"{looked}: {len(found['damage']) or 'nothing'} damaged")
    for problem in found["unmarked"]:
        print(f"not marked: {problem}")
    if marked and not found["unmarked"]:
        print("What is damaged was marked as unfinished; a run computes just that again.")


def print_waste(rows: list[dict[str, Any]], deleted: bool) -> None:
    """What can go, or is gone."""
    table = Table("path", "size", "why", box=None, pad_edge=False)
    for row in rows:
        kept = "claimed meanwhile, kept: " if deleted and not row["deleted"] else ""
        table.add_row(escape(row["path"]), size(row["bytes"]), kept + row["why"])
    _print(table) if rows else None
    total = size(sum(row["bytes"] for row in rows if row["deleted"] or not deleted))
    if not rows:
        print("Nothing to delete: runs need all there is.")
    else:
        print(f"{total} deleted." if deleted else f"{total} could go; add --delete to delete it.")


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_said(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        shown = ", ".join(map(_said, value[:5])) or "none"
        return f"{shown} and {len(value) - 5} more" if len(value) > 5 else shown
    if isinstance(value, float):
        return f"{value:.2%}"
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
