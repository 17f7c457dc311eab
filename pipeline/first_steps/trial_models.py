"""Choice of the models of a trial: those that settings name, else weights on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.core.errors import MissingInput
from pipeline.core.layers import SEVERAL
from pipeline.core.paths import Paths
from pipeline.models.at_hand import attention_at_hand, clip_at_hand

FIRST = "ViT-B-32"
"""Architecture that is preferred on a CPU."""
NONE = f"""no weights of a CLIP are on this machine; choose one:
  --weights-dir FOLDER                               a folder with weights of open_clip
  --set "clip.model={FIRST} clip.weights=FILE"     a file of your own
  --set "clip.model={FIRST} clip.weights=openai"   fetch 350 MB once
  --set "clip.model={FIRST} clip.weights=random:0" random, to see what is computed and when"""
"""Ways on where there are no weights."""


def chosen_models(overrides: Sequence[str], paths: Paths) -> list[str]:
    """Return overrides that choose the models of a trial.

    Nothing is downloaded that the overrides do not name. CLIP's own attention takes the place of a
    ViT for attention that is not on this machine. Raises MissingInput, with what can be chosen, if
    there is no CLIP.
    """
    given = {part.partition(".")[0] for text in overrides for part in SEVERAL.split(text.strip())}
    found: list[str] = []
    if "clip" not in given:
        clip = clip_at_hand(paths, FIRST)
        if clip is None:
            raise MissingInput(NONE)
        found += clip.overrides
    if "attention" not in given:
        attention = attention_at_hand(paths)
        found += attention.overrides if attention else ["attention.model=clip"]
    return found
