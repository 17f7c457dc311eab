"""The artifact store: finds the artifacts of a dataset by stage and key.

<root>/<dataset>/<stage>/<key>/    an artifact (`pipeline.artifact`)
<root>/<dataset>/runs/<digest>/    a run on record (`pipeline.runs`)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import MissingInput
from pipeline.store.artifact import IDENTITY, Artifact
from pipeline.store.units import Keyed

RUNS = "runs"
"""Folder of run records, beside the folders of the stages."""
KEY = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Store:
    """Store of one dataset's artifacts."""

    root: Path
    dataset: str
    options: str = ""
    """The options that select these settings, for commands that messages suggest."""

    @property
    def folder(self) -> Path:
        """`<root>/<dataset>`."""
        return self.root / self.dataset

    def artifacts(self, stage: str = "*") -> list[Artifact]:
        """List the artifacts of the dataset, or of one stage, under any settings."""
        found = (path for path in self.folder.glob(f"{stage}/*") if KEY.fullmatch(path.name))
        folders = (path for path in sorted(found) if path.parent.name != RUNS)
        made = (
            path for path in folders if (path / "ledger").is_dir() or (path / IDENTITY).exists()
        )
        return [Artifact(path, path.parent.name) for path in made]

    def artifact(self, stage: Keyed) -> Artifact:
        """Return the artifact of `stage`, finished or not."""
        return Artifact(self.folder / stage.name / stage.key, stage.name, self.options)

    def open(self, stage: Keyed) -> Artifact:
        """Return the finished artifact of `stage`; MissingInput names the command for it."""
        artifact = self.artifact(stage)
        units = stage.units(self)
        if not artifact.is_stated(units) and (missing := artifact.missing(units)):
            raise MissingInput(
                f"{stage.name} of {self.dataset!r} is {missing}; run: "
                f"abs {stage.name.replace('-', ' ')} {self.options}"
            )
        return artifact

    def rows(self, stage: Keyed) -> int:
        """Rows of a finished artifact."""
        return int(self.open(stage).manifest["rows"])
