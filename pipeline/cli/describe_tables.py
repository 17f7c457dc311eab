"""Print what descriptions by a model cost, and what came of them."""

from __future__ import annotations

from typing import Any

from pipeline.core.words import counted


def print_plan(planned: dict[str, Any]) -> None:
    """Print numbers of requests, of tokens, and of money at most."""
    about = "about " if planned["estimated"] else ""
    print(
        f"{about}{counted(planned['requests'], 'requests')}, "
        f"{planned['stored']:,} answered already\n"
        f"{about}{planned['to_send']:,} to send: {planned['tokens_in']:,} tokens of prompts, at "
        f"most {planned['tokens_out_at_most']:,} of answers"
    )
    if planned["cost_at_most"] or planned["spent"]:
        print(f"at most {planned['cost_at_most']:.4g}, and {planned['spent']:.4g} spent already")


def print_report(report: dict[str, Any], rule: str, dataset: str) -> None:
    """Print numbers of texts and classes, what was left out, and the next command."""
    print(
        f"{counted(report['texts'], 'texts')} of {counted(report['classes'], 'classes')}, "
        f"{report['fewest']} to {report['most']} each: {report['file']}"
    )
    if report["dropped"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in report["dropped"].items())
        print(f"left out: {reasons}; see {report['dropped_file']}")
    text_set = "cupl" if rule == "sentences" else "clip-d"
    print(f"Next: abs run --dataset {dataset} --set descriptions.{text_set}.file={report['file']}")
