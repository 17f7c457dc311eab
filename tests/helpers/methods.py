"""Methods that can be scored without labelled images, and settings under which they cost little."""

from __future__ import annotations

from pipeline.methods.registry import METHODS
from pipeline.methods.support import SUPPORT

SCORED = [name for name, of in METHODS.items() if of.texts and SUPPORT not in of.texts]
"""All of them; those that learn a prompt need CLIP's own text encoder."""
OF_VECTORS = [name for name in SCORED if not METHODS[name].learns_prompts]
"""Methods that read vectors alone."""
OF_SETS = [name for name in OF_VECTORS if METHODS[name].of_sets]
"""Methods that also read several vectors of a view."""
FEW = [
    "scores.n=2",
    "methods.wca.pool=2",
    "methods.bifta-views.pool=4",
    "methods.bifta-views.n=2",
    *(f"methods.{name}.n=2" for name in ("zero", "mta", "awt", "tpt", "boost-adapter")),
]
"""Two views where a method has a number of them."""
PUBLISHED_VIEWS = [f"{k}={v}" for name in SCORED for k, v in METHODS[name].published.items()]
"""Settings that methods of other papers insist on."""
