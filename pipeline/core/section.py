"""Frozen configuration sections that refuse unknown fields, and which fields are part of a key.

Every field of a section counts unless its annotation carries `NOT_IN_KEY`. Opting out is
explicit, so that a new field can never be forgotten in a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class NotInKey:
    """Marks a field that changes where or how fast work is done, never its result."""


NOT_IN_KEY = NotInKey()

MAX_SEED = 2**63 - 1
"""Seeds are columns of tables, which hold no larger numbers."""


def flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings with its dotted name below `name`."""
    if not isinstance(value, dict):
        yield name, value
        return
    for inner, below in value.items():
        yield from flatten(below, f"{name}.{inner}" if name else inner)


class Section(BaseModel):
    """Base of every configuration section: immutable, and closed to unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def hashed_fields(cls) -> list[str]:
        """Names of the fields that belong to a key, in the order of their definition."""
        return [
            name for name, field in cls.model_fields.items() if NOT_IN_KEY not in field.metadata
        ]

    def hashed(self) -> dict[str, Any]:
        """The fields that belong to a key, as plain values."""
        values = self.model_dump(mode="json")
        return {name: values[name] for name in self.hashed_fields()}
