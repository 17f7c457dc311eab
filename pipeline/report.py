"""What a person sees: the state of the store, the plan of a run, the table of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.claims import living
from pipeline.code import drifted
from pipeline.errors import MissingInput
from pipeline.inline import AHEAD
from pipeline.methods import METHODS
from pipeline.settings import Settings
from pipeline.stage import Footprint, Stage
from pipeline.store import Store


def states(store: Store, stages: list[Stage], forced: Iterable[Stage] = ()) -> list[dict[str, Any]]:
    """State, key, units, bytes, age and folder of each stage, without computing anything.

    Stages in `forced` are to be computed again whatever is there.
    """
    rows = [_state(store, stage) for stage in stages]
    for row in rows:
        if row["stage"] in {stage.name for stage in forced}:
            row["state"] = "forced"
    return rows


def _state(store: Store, stage: Stage) -> dict[str, Any]:
    artifact = store.artifact(stage)
    state: dict[str, Any] = {"stage": stage.name, "key": stage.key, "path": str(artifact.path)}
    try:
        units = stage.units(store)
    except MissingInput:
        # Its inputs are not there, so how many units it needs is not known yet.
        return state | {"state": "missing", "units": None, "done": 0, "bytes": 0, "age": None}
    missing = artifact.missing(units)
    failures = artifact.path / "failures"
    state["state"] = "done" if missing is None else missing
    state["units"] = len(units)
    state["done"] = len(units) if missing is None else len(artifact.finished(units))
    state["failed"] = len(list(failures.glob("*.txt"))) if missing and failures.is_dir() else 0
    state["running"] = sorted({claim.who for claim in living(artifact.path / "claims")})
    state["code_drift"] = drifted(artifact, stage)
    if missing is None:
        finished = datetime.fromisoformat(artifact.manifest["finished"])
        state["bytes"] = artifact.manifest["bytes"]
        state["age"] = round((datetime.now(UTC) - finished).total_seconds())
    else:
        state["bytes"], state["age"] = 0, None
    return state


def print_status(rows: list[dict[str, Any]]) -> None:
    """The states as a table."""
    _print_states(rows, ("stage", "state", "units", "size", "age", "key"))


def plan(store: Store, stages: list[Stage], forced: Iterable[Stage] = ()) -> list[dict[str, Any]]:
    """The states, with what is left to do of each stage.

    todo: units. writes: bytes of arrays they will take in the store. holds: bytes of memory for
    the units on their way, beside the model. None where it is not known yet.
    """
    rows = states(store, stages, forced)
    for row, stage in zip(rows, stages, strict=True):
        row |= _work(store, stage, row)
    return rows


def _work(store: Store, stage: Stage, row: dict[str, Any]) -> dict[str, Any]:
    todo = None
    if row["units"] is not None:
        kept = 0 if row["state"] == "forced" else row["done"]
        todo = 0 if row["state"] == "done" else row["units"] - kept
    if todo == 0:
        return {"todo": 0, "writes": 0, "holds": 0}
    try:
        each = stage.footprint(store)
    except MissingInput:
        each = Footprint(None, None)
    at_once = 1 + 2 * AHEAD if todo is None else min(todo, 1 + 2 * AHEAD)
    return {
        "todo": todo,
        "writes": None if todo is None or each.written is None else todo * each.written,
        "holds": None if each.held is None else at_once * each.held + each.open,
    }


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


def _known(value: int | None, shown: Callable[[int], str]) -> str:
    return "?" if value is None else shown(value) if value else ""


def results(store: Store, stage: Stage) -> list[dict[str, Any]]:
    """Rows of the table of results, if `stage` is the metrics."""
    if stage.kind != "metrics":
        return []
    table = store.open(stage).table("metrics")
    columns = ["method", "top1", "top1_low", "top1_high", "top5", "images", "classes"]
    rows = [dict(zip(columns, row, strict=True)) for row in table[columns].to_numpy().tolist()]
    for row in rows:
        off = [f"-{part}" for part in ("raw", "feature", "soft") if not table[f"scores.{part}"][0]]
        expected = table["scores.expectation"][0] and table["scores.feature"][0]
        on = ["+expectation"] if expected else []
        row["switched"] = [*off, *on] if row["method"] == "abs" else []
    return rows


def print_results(rows: list[dict[str, Any]], store: Store) -> None:
    """Method, top-1, interval and number of images."""
    first = rows[0]
    title = f"{store.dataset}: {first['images']:,} images, {first['classes']} classes"
    table = Table("method", title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("top-1 %", "95 % interval", "top-5 %", "images"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = 100 * row["top1_low"], 100 * row["top1_high"]
        top1, top5 = 100 * row["top1"], 100 * row["top5"]
        interval = f"{low:.2f} to {high:.2f}"
        name = " ".join([row["method"], *row["switched"]])
        table.add_row(name, f"{top1:.2f}", interval, f"{top5:.2f}", f"{row['images']:,}")
    _print(table)


def print_skipped(store: Store, index: Stage) -> None:
    """How many images cannot be read, and where they are listed."""
    artifact = store.open(index)
    if skipped := len(artifact.table("skipped")):
        print(f"{skipped:,} images skipped; see {artifact.path / 'skipped.parquet'}")


def print_left_out(settings: Settings) -> None:
    """Methods that are not in the table because they have no texts."""
    if settings.scores.methods is not None:
        return
    for name in METHODS:
        if lacking := settings.lacking(name):
            print(f"Not scored: {name} ({'; '.join(lacking)}).")


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


def print_sweep(planned: Mapping[str, Any]) -> None:
    """What the runs of a sweep share, and what is to do."""
    from pipeline.sharing import told

    table = Table("stage", box=None, pad_edge=False)
    for name in ("artifacts", "there", "units to do", "crops to embed", "writes"):
        table.add_column(name, justify="right")
    for row in planned["stages"]:
        crops = _known(row["crops"], "{:,}".format)
        if row["crops"] is None:
            crops = _known(row["crops_at_most"], "<= {:,}".format)
        cells = [str(row["artifacts"]), str(row["there"]), _known(row["units"], str), crops]
        table.add_row(row["stage"], *cells, _known(row["writes"], size))
    print(f"{planned['experiment']}: {planned['runs']} runs")
    _print(table)
    print(told(*(planned[f"crops_{name}"] for name in ("asked", "to_embed", "at_most"))))


def print_table(table: Any, path: Any) -> None:
    """Rows of a sweep: what varies, then the figures in percent."""
    if table.empty:
        return
    figures = ["top1", "sigma", "top5", "mean_per_class", "ece"]
    fixed = ["dataset", "images", "classes", "row", "grid", *figures]
    varied = [n for n in table if n not in fixed and (n == "method" or table[n].nunique() > 1)]
    shown = Table(*varied, box=None, pad_edge=False)
    for name in figures:
        shown.add_column(name, justify="right")
    for _, row in table.iterrows():
        values = ["" if row[name] != row[name] else str(row[name]) for name in varied]
        shown.add_row(*values, *(_percent(row[name]) for name in figures))
    _print(shown)
    print(path)


def print_beside(found: Any, style: str) -> None:
    """Ours and the paper's, in percent: plain, or as Markdown, LaTeX or CSV."""
    if style == "csv":
        print(found.to_csv(index=False), end="")
        return
    shown = [column for column in found if not found[column].isna().all() or column == "ours"]
    rows = [[_cell(row[column]) for column in shown] for _, row in found.iterrows()]
    if style == "plain":
        table = Table(*shown, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(escape, row))
        _print(table)
    elif style == "markdown":
        rule = ["---"] * len(shown)
        print("\n".join(f"| {' | '.join(row)} |" for row in [shown, rule, *rows]))
    else:
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in [shown, *rows]]
        print("\\begin{tabular}{" + "l" * len(shown) + "}")
        print("\n".join([lines[0], r"\hline", *lines[1:], r"\end{tabular}"]))


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _latex(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")


def _percent(share: float) -> str:
    return "" if share != share else f"{100 * share:.2f}"


def print_failed(failed: list[dict[str, str]]) -> None:
    """The settings of a sweep that have no result."""
    for each in failed:
        print(f"FAILED: {each['setting']}: {each['why']}")


def print_check(found: Mapping[str, Any]) -> None:
    """Ours, theirs, whether that is within its sigma, and what can explain a gap."""
    sigma = "" if found["sigma"] is None else f" (sigma {found['sigma']:.2f})"
    told = "within it" if found["within"] else "NOT within it"
    print(f"{found['dataset']}, {found['backbone']}: ABS {found['ours']:.2f}")
    print(f"paper: {found['paper']:.2f}{sigma}, {found['ours'] - found['paper']:+.2f}: {told}")
    for what, effect in found["reasons"]:
        print(f"  {what} ({effect})")


def print_comparison(found: Mapping[str, Any], a: str, b: str) -> None:
    """Counts, the difference with its interval, and McNemar's p."""
    images, both, only_a, only_b = (found[n] for n in ("images", "both", "only_a", "only_b"))
    table = Table("", f"{b} right", f"{b} wrong", box=None, pad_edge=False)
    table.add_row(f"{a} right", f"{both:,}", f"{only_a:,}")
    table.add_row(f"{a} wrong", f"{only_b:,}", f"{images - both - only_a - only_b:,}")
    _print(table)
    low, high = 100 * found["low"], 100 * found["high"]
    print(f"{a} less {b}: {100 * found['difference']:+.2f} points ({low:+.2f} to {high:+.2f})")
    print(f"McNemar, exact: p = {found['p']:.3g}")


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_said(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        shown = ", ".join(map(_said, value[:5])) or "none"
        return f"{shown} and {len(value) - 5} more" if len(value) > 5 else shown
    if isinstance(value, float):
        return f"{value:.2%}"
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _print(table: Table) -> None:
    """On standard output; not cut to a screen's width where there is none."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def size(count: int) -> str:
    """`5.2 GB`"""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def age(seconds: int) -> str:
    """`3 min`"""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
