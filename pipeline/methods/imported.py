"""Results of another system as a method: scores or predictions for each image, from a file.

`abs import-scores` checks them against the index and writes

    <artifacts>/<dataset>/imports/NAME.parquet    image_id (str), then the scores of each competing
                                                  class in a column under its label (float32)

with the source in the file's metadata. The method is `imported:NAME`. Its key has the digest of the
table, which is compared with the table before it is used.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from pipeline.core.errors import AbsError, MissingInput
from pipeline.core.section import NOT_IN_KEY
from pipeline.methods.base import Method, MethodInputs, Scorer, Views
from pipeline.methods.config import ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "imported:"
"""Beginning of the name of a method that is imported."""
FOLDER = "imports"
"""Folder of imported results, beside the folders of the stages."""
METADATA = b"imported"
"""Entry of the file's metadata: source, digest, and whether scores are given, as JSON."""


class Imported(Method):
    """Scores that another system computed."""

    digest: str
    """Digest of the table."""
    source: str
    """Source of the results, as given to `abs import-scores`."""
    file: Annotated[str, NOT_IN_KEY]
    """The Parquet file."""

    texts: ClassVar[tuple[str, ...]] = ()
    unexplained = "they are imported, and nothing else is known"
    default: ClassVar[bool] = False

    @classmethod
    def stored(cls, folder: Path, method: str) -> Imported:
        """Open the results of a method.

        Args:
            folder: Folder of the dataset's artifacts.
            method: `imported:NAME`.

        Raises:
            MissingInput: If nothing was imported under this name.
        """
        import pyarrow.parquet as pq

        name = method.removeprefix(PREFIX)
        path = folder / FOLDER / f"{name}.parquet"
        if not path.is_file():
            raise MissingInput(
                f"{method}: no imported results ({path}); run: abs import-scores FILE "
                f"--name {name} --dataset {folder.name}"
            )
        about = json.loads(pq.read_schema(path).metadata[METADATA])
        return cls(digest=about["digest"], source=about["source"], file=str(path))

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return no views."""
        return {}

    def probabilities(self, scores: Tensor, config: ScoresConfig) -> Tensor:
        """Return the softmax of the scores as they were given."""
        return scores.softmax(dim=-1)

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer that looks up images by id."""
        import torch

        scores = self._scores(inputs)

        def score(images: slice, views: Views) -> Tensor:
            return torch.from_numpy(scores[images])

        return score

    def _scores(self, inputs: MethodInputs) -> np.ndarray:
        """Read the scores of the competing classes by image, float32 (images, classes)."""
        import pandas as pd

        table = pd.read_parquet(self.file).set_index("image_id")
        if digest_of(table) != self.digest:
            raise AbsError(f"{self.file}: changed since it was imported; import it again")
        missing = [i for i in inputs.image_ids if i not in table.index]
        columns = [str(label) for label in inputs.classes]
        if missing or not set(columns) <= set(table.columns):
            what = f"image {missing[0]!r}" if missing else "some classes"
            raise AbsError(f"{self.file}: lacks {what}; import it again for this dataset")
        chosen = table.loc[list(inputs.image_ids), columns]
        return np.ascontiguousarray(chosen.to_numpy(np.float32))


def digest_of(table: Any) -> str:
    """Compute the digest of a table of scores: its index, columns and values."""
    hashed = hashlib.blake2b(digest_size=16)
    hashed.update(json.dumps([list(table.index), list(table.columns)]).encode())
    hashed.update(np.ascontiguousarray(table.to_numpy(np.float32)).tobytes())
    return hashed.hexdigest()
