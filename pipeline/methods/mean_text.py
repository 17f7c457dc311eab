"""One vector per class: the renormalised mean of its texts, against the whole image (Eq. 1).

With one template this is CLIP; with generated descriptions, CuPL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from pipeline.matching import Descriptions
from pipeline.methods.needs import MatchSettings

if TYPE_CHECKING:
    from pipeline.methods.needs import Scorer


def scorer(descriptions: Descriptions, settings: MatchSettings) -> Scorer:
    """Cosine of the image with each class's mean text."""
    means = descriptions.means()

    def score(views: Mapping[str, Tensor]) -> Tensor:
        return views["image"][:, 0] @ means.T

    return score
