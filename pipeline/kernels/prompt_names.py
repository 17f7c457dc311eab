"""Names of the visual prompts of Table 5, for settings that must not load anything."""

from __future__ import annotations

from typing import Literal

RawPrompt = Literal["crop", "mask", "highlight", "redcircle"]
FeaturePrompt = Literal["crop", "mask", "highlight-fea", "highlight-attn"]
