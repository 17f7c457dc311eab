"""ABS: soft matching of feature crops and raw crops with all descriptions (Eq. 10)."""

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
    """Sum over all 2N crops of softly matched similarities."""

    def score(views: Mapping[str, Tensor]) -> Tensor:
        crops = torch.cat([views["feature"], views["raw"]], dim=1)
        return soft_match(crops, descriptions, settings.temperature)

    return score
