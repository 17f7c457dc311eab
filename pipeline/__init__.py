"""Zero-shot classification by attention-based selection, as a pipeline and for single images.

    from pipeline import Classifier, load

Names are imported on first use, so that `import pipeline` costs nothing.
"""

from importlib import import_module
from typing import Any

_LATE = {"Classifier": "pipeline.classifier"}
"""Names of the package, and the modules that have them."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
