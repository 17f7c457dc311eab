"""Receipts of the units that a run needs, and the seconds of each method in them."""

from __future__ import annotations

from pipeline.core.errors import MissingInput
from pipeline.core.words import counted
from pipeline.run import Run
from pipeline.stage import Stage
from pipeline.store.ledger import Receipt
from pipeline.store.units import names_of


def receipts_of(run: Run, stage: Stage) -> list[Receipt]:
    """Return the receipts of the units of a stage; an artifact may hold further units.

    Raises MissingInput while any unit is unfinished.
    """
    units = names_of(stage.units(run.store))
    receipts = run.store.artifact(stage).ledger.receipts(units)
    if len(receipts) < len(units):
        raise MissingInput(
            f"{stage.name}: not finished: {counted(len(units) - len(receipts), 'units')}"
        )
    return list(receipts.values())


def scoring_seconds(run: Run) -> dict[str, float]:
    """Sum the seconds of each method over the units of `scores`.

    A method is missing if any unit was scored without `runtime.method_seconds`. Raises MissingInput
    while any unit is unfinished.
    """
    (scores,) = run.named("scores")
    units = [receipt.by_method for receipt in receipts_of(run, scores)]
    names = [name for name in units[0] if all(name in unit for unit in units)] if units else []
    return {name: sum(unit[name] for unit in units) for name in names}
