"""Registry of all methods by name. To add a method, add a file to this folder and a line here."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.methods.abs import Abs
from pipeline.methods.awt import Awt, AwtCrops
from pipeline.methods.base import VIEW_NAMES, Method
from pipeline.methods.bifta import BiftaViews
from pipeline.methods.boost import BoostAdapter
from pipeline.methods.config import ScoresConfig
from pipeline.methods.dmn import DmnZs
from pipeline.methods.gda import Gda
from pipeline.methods.imported import PREFIX, Imported
from pipeline.methods.lazsl import Lazsl, LazslCrops
from pipeline.methods.mean_text import Clip, ClipD, ClipE, Cupl, Waffle
from pipeline.methods.mta import Mta, MtaCrops
from pipeline.methods.rated import RatedTexts
from pipeline.methods.support import SUPPORT
from pipeline.methods.tda import Tda
from pipeline.methods.tpt import Tpt
from pipeline.methods.wca import Wca
from pipeline.methods.zero import Zero, ZeroCrops

METHODS: dict[str, type[Method]] = {
    "clip": Clip,
    "clip-e": ClipE,
    "clip-d": ClipD,
    "waffle": Waffle,
    "cupl": Cupl,
    "wca": Wca,
    "abs": Abs,
    "tda": Tda,
    "boost-adapter": BoostAdapter,
    "dmn-zs": DmnZs,
    "bifta-views": BiftaViews,
    "zero": Zero,
    "mta": Mta,
    "awt": Awt,
    "zero-crops": ZeroCrops,
    "mta-crops": MtaCrops,
    "awt-crops": AwtCrops,
    "lazsl": Lazsl,
    "lazsl-crops": LazslCrops,
    "tpt": Tpt,
    "gda": Gda,
    "rated-texts": RatedTexts,
}
"""Method classes by the name that settings and results use."""


def defaults() -> list[str]:
    """List the methods that are scored where settings name none: those of the paper."""
    return [name for name, method in METHODS.items() if method.default]


def method_of(name: str) -> type[Method]:
    """Return the method class of a name; raise ConfigError with the known names for another."""
    if name.startswith(PREFIX):
        return Imported
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; {did_you_mean(name, METHODS)}")
    return METHODS[name]


def text_sets(method: str) -> list[str]:
    """List the text sets of the section `descriptions` that a method reads."""
    return [name for name in method_of(method).texts if name != SUPPORT]


def views_read(methods: Iterable[Method], config: ScoresConfig) -> dict[str, int]:
    """Return the views that at least one of the methods reads, and the largest number needed of
    each.
    """
    views: dict[str, int] = {}
    for method in methods:
        for name, count in method.views(config).items():
            if name not in VIEW_NAMES:
                raise ConfigError(
                    f"{type(method).__name__} reads view {name!r}; {did_you_mean(name, VIEW_NAMES)}"
                )
            views[name] = max(count, views.get(name, 0))
    return views
