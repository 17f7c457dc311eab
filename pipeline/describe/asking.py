"""Ask a model whatever a description lacks, and say in one line what stays without an answer."""

from __future__ import annotations

from pipeline.core.errors import AbsError
from pipeline.core.progress import Reporter
from pipeline.core.words import counted
from pipeline.describe.client import Asked, Endpoint, Price, ask_all
from pipeline.describe.description import Description


def answer_all(
    description: Description,
    endpoint: Endpoint,
    concurrency: int,
    budget: float | None,
    price: Price,
    reporter: Reporter,
) -> None:
    """Ask whatever is not answered, step by step; AbsError if something stays unanswered."""
    with description.answers.writing():
        while left := description.pending():
            with reporter.stage(f"describe {description.name}", len(left), "requests") as advance:
                outcome = ask_all(
                    left,
                    lambda request: endpoint.ask(request, description.name),
                    description.answers,
                    concurrency,
                    budget,
                    price,
                    description.spent(price),
                    advance,
                )
            _refuse_unanswered(outcome, len(left), budget)


def _refuse_unanswered(outcome: Asked, asked: int, budget: float | None) -> None:
    """Raise AbsError unless every request was answered."""
    left = f"{asked - outcome.answered:,} of {counted(asked, 'requests')} have no answer"
    again = "the same command asks only these"
    if outcome.failed:
        request, reason = outcome.failed[0]
        which = repr(request.label) if request.label else "the questions"
        raise AbsError(f"{left}; the first ({which}): {reason}; {again}")
    if outcome.over_budget:
        raise AbsError(f"{left}: the budget of {budget:g} is spent; with a larger one, {again}")
    if outcome.stopped:
        raise AbsError(f"stopped; {left}; {again}")
