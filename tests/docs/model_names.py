"""The table of open_clip's names in docs/models.md; run as a module, it writes the table."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import open_clip

from pipeline.core.errors import ConfigError
from pipeline.models.clip.vision import vision_of
from tests.helpers.runs import ROOT

PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- names: begin -->\n", "<!-- names: end -->\n"


def is_vit(config: Any) -> bool:
    """Whether an image encoder is a ViT: one of open_clip's own, or of timm's by its name."""
    vision = config["vision_cfg"]
    name = vision.get("timm_model_name")
    if name:
        return name.startswith(("vit_", "eva"))
    return not isinstance(vision.get("layers"), list)


def row_of(name: str, config: Any) -> str:
    """First cells of the row that a name belongs to."""
    try:
        vision = vision_of(name, config)
    except ConfigError as error:
        said = str(error).removeprefix(f"clip.model: {name} ").partition(";")[0]
        reason = re.sub(r"timm's [^,]+,", "an encoder of timm,", said)
        return f"no | {reason} | "
    tokenizer = config["text_cfg"].get("hf_tokenizer_name")
    library = "transformers" if tokenizer else "open_clip"
    blocks = "" if vision.blocks == "plain" else f", blocks {vision.blocks}"
    return f"yes | {vision.pooling}{blocks} | {library}"


def table() -> str:
    """The table, with the counts above it."""
    configs = {name: open_clip.get_model_config(name) for name in sorted(open_clip.list_models())}
    rows: dict[str, list[str]] = defaultdict(list)
    for name, config in configs.items():
        rows[row_of(name, config)].append(name)
    vits = {name for name, config in configs.items() if is_vit(config)}
    served = {name for row, names in rows.items() if row.startswith("yes") for name in names}
    assert served <= vits
    lines = [
        f"Of the {len(configs)} names of open_clip {open_clip.__version__}, {len(vits)} have a "
        f"ViT; {len(served)} of these ({len(served) / len(vits):.0%}) are served, images and "
        "texts.",
        "",
        "| served | pooling, or the reason why not | tokenizer | names |",
        "|---|---|---|---|",
    ]
    for row, names in sorted(rows.items(), key=lambda item: (item[0][0] != "y", -len(item[1]))):
        lines.append(f"| {row} | {' '.join(f'`{name}`' for name in names)} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    Path(PAGE).write_text(written(PAGE.read_text()))
