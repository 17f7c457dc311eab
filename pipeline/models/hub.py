"""Weights from the Hugging Face hub: the local cache first, then one quick question to the hub.

Without a connection the answer comes at once, not after minutes of retries.
"""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

from pipeline.errors import MissingInput


def fetch(repository: str, names: list[str], cache: str | None, setting: str) -> Path:
    """The first of `names` that the cache or the hub has.

    `cache` is a folder in the hub's own layout (None: its default). `HF_HUB_OFFLINE` is honoured.
    Raises MissingInput that names the files, the place and the setting to change.
    """
    for name in names:
        found = try_to_load_from_cache(repository, name, cache_dir=cache)
        if isinstance(found, str):
            return Path(found)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        there = {file.rfilename for file in HfApi().model_info(repository).siblings or ()}
        name = next(name for name in names if name in there)
        return Path(hf_hub_download(repository, name, cache_dir=cache))
    except Exception as error:
        place = cache or "the Hugging Face cache"
        raise MissingInput(
            f"weights of {repository} ({' or '.join(names)}) are not in {place} and cannot be "
            f"fetched ({type(error).__name__}); put them there, or set {setting} to a local file"
        ) from None
