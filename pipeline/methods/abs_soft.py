"""ABS: all views of an image, softly matched with all descriptions (Eq. 10).

Its three components can be left out (Table 4): the views are those that it is given, and without
soft matching each view meets the mean description of each class, as in CuPL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.matching import Descriptions, soft_match
from pipeline.methods.needs import MatchSettings

if TYPE_CHECKING:
    from pipeline.methods.needs import Scorer


def scorer(descriptions: Descriptions, settings: MatchSettings) -> Scorer:
    """Sum over all views, 2N crops when nothing is left out."""
    means = descriptions.means()

    def score(views: Mapping[str, Tensor]) -> Tensor:
        crops = torch.cat(list(views.values()), dim=1)
        if settings.soft:
            return soft_match(crops, descriptions, settings.temperature)
        return crops.sum(dim=1) @ means.T

    return score
