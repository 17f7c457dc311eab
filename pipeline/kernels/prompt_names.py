"""Names of the visual prompts of Table 5, for settings that must not import torch."""

from __future__ import annotations

from typing import Literal

RawPrompt = Literal["crop", "mask", "highlight", "redcircle"]
"""Visual prompts on a box of the image; see `pipeline.kernels.image_prompts.prompt_box`."""
FeaturePrompt = Literal["crop", "mask", "highlight-fea", "highlight-attn"]
"""Visual prompts on a window of tokens; see `pipeline.kernels.feature_crops.prompt_windows`."""
