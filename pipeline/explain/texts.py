"""The text vectors that stored scores were computed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.explain.views import beside, identity_of
from pipeline.store.artifact import Artifact
from pipeline.texts.vectors import text_vectors

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.kernels.matching import Descriptions


@dataclass(frozen=True)
class ScoredTexts:
    """Text sets of an artifact of scores; the vectors of each are read once."""

    scores: Artifact
    """Artifact of the stage `scores`."""
    identity: dict[str, Any]
    """Its identity."""
    classes: pd.DataFrame
    """All classes: label, name, present."""
    _read: dict[str, Descriptions] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, scores: Artifact) -> ScoredTexts:
        """Open the text sets of stored scores."""
        return cls(scores, identity_of(scores), scores.table("classes"))

    def artifact(self, name: str) -> Artifact:
        """Return the artifact of a text set."""
        key = self.identity["upstream"]["texts"][name]
        return beside(self.scores, f"descriptions-{name}", key)

    def vectors(self, name: str) -> Descriptions:
        """Return the vectors of the competing classes' texts, float32."""
        import torch

        if name not in self._read:
            found = text_vectors(self.artifact(name), len(self.classes))
            if self.identity["config"]["config"]["classes"] == "present":
                found = found.of(torch.tensor(self.classes["present"].to_numpy()))
            self._read[name] = found
        return self._read[name]
