"""View sets: stages that write a table of views, which are embedded unit by unit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.core.section import flatten
from pipeline.stage import Stage

if TYPE_CHECKING:
    from pipeline.store.store import Store


@dataclass(frozen=True)
class ViewSet(Stage):
    """Stage that writes a table of views."""

    common: ClassVar[tuple[str, ...]] = ()
    """Settings, by dotted name, that two view sets of one kind must share to have views in common
    in the same unit.
    """

    def common_values(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the common settings in the identity of a view set."""
        values = dict(flatten(identity.get("config", {}), ""))
        return {name: values.get(name) for name in self.common}

    @abstractmethod
    def shape(self, store: Store) -> tuple[int, int]:
        """Return the number of views per image in all units, and in one unit."""
