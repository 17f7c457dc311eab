"""Settings of a run: `default.yaml` < profile < dataset < `--set` < environment for paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, field_validator

from pipeline.core.errors import ConfigError, did_you_mean, together
from pipeline.core.layers import (
    CFGS,
    NO_DATASET,
    SET,
    Layer,
    layers,
    merge,
    merged,
    origins,
    read_yaml,
)
from pipeline.core.paths import Paths
from pipeline.core.runtime import BLOCK, SMALL_BLOCK, Layout, Runtime
from pipeline.core.section import Section, flatten
from pipeline.datasets.config import DatasetConfig
from pipeline.methods.base import Method
from pipeline.methods.config import ScoresConfig
from pipeline.methods.imported import Imported
from pipeline.methods.registry import METHODS, defaults, method_of, text_sets, views_read
from pipeline.methods.support import SUPPORT
from pipeline.models.config import ClipConfig, VitConfig
from pipeline.models.precision import best
from pipeline.texts.sets import RULES, SameTexts, TextSet
from pipeline.views.config import (
    AugmentedConfig,
    CropsConfig,
    FeatureConfig,
    RawConfig,
    SquaresConfig,
    WindowsConfig,
)
from stages.index import IndexConfig

OPEN: dict[str, Mapping[str, type[Section]]] = {"descriptions": RULES, "methods": METHODS}
"""Sections with free names, and the section type of each entry, by rule or by name."""


def _of_methods(given: Any) -> Any:
    """Settings of methods by name, each a section that the method itself defines."""
    if not isinstance(given, Mapping):
        return given
    found = {}
    for name, values in given.items():
        if isinstance(values, Method):
            found[name] = values
            continue
        try:
            found[name] = method_of(str(name)).model_validate(values)
        except ValidationError as error:
            raise explained(error, ("methods", name)) from None
    return found


class Settings(Section):
    """One section per stage or shared concern."""

    dataset: DatasetConfig
    index: IndexConfig = IndexConfig()
    clip: ClipConfig
    descriptions: dict[str, TextSet]
    attention: VitConfig
    crops: CropsConfig = CropsConfig()
    raw: RawConfig = RawConfig()
    windows: WindowsConfig = WindowsConfig()
    feature: FeatureConfig = FeatureConfig()
    squares: SquaresConfig = SquaresConfig()
    augmented: AugmentedConfig = AugmentedConfig()
    scores: ScoresConfig = ScoresConfig()
    methods: Annotated[dict[str, SerializeAsAny[Method]], BeforeValidator(_of_methods)] = Field(
        default_factory=dict
    )
    layout: Layout = Layout()
    runtime: Runtime = Runtime()
    paths: Paths = Paths()

    @field_validator("descriptions")
    @classmethod
    def _same_texts(cls, sets: dict[str, TextSet]) -> dict[str, TextSet]:
        """Put the set that is meant in place of each that has the texts of another."""
        found = dict(sets)
        for name, given in sets.items():
            if not isinstance(given, SameTexts):
                continue
            meant = sets.get(given.of)
            if meant is None or isinstance(meant, SameTexts):
                raise ValueError(f"{name}.of: {given.of!r} is no text set with texts of its own")
            found[name] = meant
        return found

    @field_validator("scores")
    @classmethod
    def _known_methods(cls, scores: ScoresConfig) -> ScoresConfig:
        for name in scores.methods or ():
            method_of(name)
        return scores

    @property
    def chosen(self) -> dict[str, Method]:
        """Methods to score, with settings: those of scores.methods, or all that have texts."""
        names = self.scores.methods or [name for name in defaults() if not self.missing_texts(name)]
        if not names:
            raise ConfigError("scores.methods: no method has its texts; see descriptions.*.file")
        for name in names:
            if unknown := [t for t in text_sets(name) if t not in self.descriptions]:
                raise ConfigError(f"descriptions: no text set {unknown[0]!r}, which {name} reads")
            self._check_published(name)
            if reason := self._missing_support(name):
                raise ConfigError(f"{reason}, or leave {name} out of scores.methods")
        return {name: self._method(name).completed(self.scores) for name in names}

    def _method(self, name: str) -> Method:
        """Return a method with its settings; one that is imported is read from the store."""
        kind = method_of(name)
        if issubclass(kind, Imported):
            return kind.stored(self.paths.store / self.dataset.name, name)
        return self.methods.get(name) or kind()

    def _check_published(self, name: str) -> None:
        """Raise ConfigError if views are not those that a method's name stands for."""
        for setting, value in method_of(name).published.items():
            given = reduce(getattr, setting.split("."), self)
            if given != value:
                raise ConfigError(
                    f"{setting}: {given}, where {name} is defined by {value}; "
                    f"set {setting}={value}, or leave {name} out of scores.methods"
                )

    def missing_texts(self, method: str) -> list[str]:
        """List the settings that keep a method from having its texts, each with the reason."""
        sets = {name: self.descriptions.get(name) for name in text_sets(method)}
        why = {
            name: "rule is not set" if found is None else found.missing_input(self.paths)
            for name, found in sets.items()
        }
        found = [f"descriptions.{name}.{reason}" for name, reason in why.items() if reason]
        return [*found, *filter(None, [self._missing_support(method)])]

    def _missing_support(self, method: str) -> str:
        """Return what to set for a method to have a support set; empty if it needs nothing."""
        if SUPPORT not in method_of(method).texts:
            return ""
        given = self._method(method).labelled()
        there = given is not None and given.dataset is not None
        return (
            "" if there else f"methods.{method}.support.dataset: give a dataset of labelled images"
        )

    @property
    def crop_block(self) -> int:
        """Crops per image in a unit: small for a small N, so that few are made beyond N."""
        small = self.scores.n < 2 * BLOCK and self.scores.n % BLOCK
        return self.layout.crops or (SMALL_BLOCK if small else BLOCK)

    @property
    def views(self) -> dict[str, int]:
        """Number of views that the methods read, by view set."""
        return views_read(self.chosen.values(), self.scores)

    @property
    def texts(self) -> list[str]:
        """Names of the text sets that the methods read."""
        return sorted({name for method in self.chosen for name in text_sets(method)})


def load(
    dataset: str | None,
    profile: str = "official",
    overrides: Iterable[str] = (),
    weights: str | None = None,
) -> Settings:
    """The settings of a dataset under a profile; arguments as of `pipeline.core.layers.layers`.

    Without a dataset: what would hold for any, to look at and not to run. Raises ConfigError.
    """
    return of_layers(layers(dataset, profile, overrides, weights))


def of_layers(stack: list[Layer]) -> Settings:
    """The settings of layers, lowest first; ConfigError for a given K that a share replaces."""
    values, given = validate(merged(stack)), origins(stack)
    for name in ("crops.k", "windows.k"):
        if values.crops.share is not None and dict(given.get(name, ())).get(SET) is not None:
            raise ConfigError(
                f"{name}: crops.share {values.crops.share} takes its place; to choose K, set "
                "crops.share=null"
            )
    return values


def validate(values: Mapping[str, Any]) -> Settings:
    """`values` as Settings; ConfigError names all wrong ones, each with the closest that exists."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise explained(error) from None


def explained(error: ValidationError, above: tuple[str, ...] = ()) -> ConfigError:
    """Turn validation errors into one line each; `above` is the path of the values."""
    return together([_explained(each, above) for each in error.errors()])


def _explained(first: Any, above: tuple[str, ...]) -> ConfigError:
    """Turn one validation error into one line."""
    path = tuple(map(str, (*above, *first["loc"])))
    known = path
    if path[0] == "descriptions" and len(path) > 2:  # the name of a set, and its rule
        path, known = (*path[:2], *path[3:]), (path[0], *path[2:])
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(known[-1], fields_at(known[:-1]))
        if len(path) == 1 and (named := settings_named(where)):
            hint = f"did you mean {named[0]!r}?"
        return ConfigError(f"unknown setting {where!r}; {hint}")
    if first["type"].startswith("union_tag"):
        return ConfigError(f"{where}.rule: give one of {', '.join(RULES)}")
    if isinstance(cause := first.get("ctx", {}).get("error"), ConfigError) and cause.problems:
        return cause
    if isinstance(cause, Exception):
        return ConfigError(f"{where}: {cause}")
    if first["type"] == "model_type":
        return ConfigError(f"{where}: needs fields, not {first['input']!r}")
    given = "" if first["type"] == "missing" else f" (given: {first['input']!r})"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return ConfigError(f"{where}: {message}{given}")


def changed(settings: Settings) -> dict[str, Any]:
    """Return the settings that differ from `default.yaml`."""
    default = validate(merge(read_yaml(CFGS / "default.yaml"), NO_DATASET))
    return _unlike(settings.model_dump(mode="json"), default.model_dump(mode="json"))


def forget_dataset(values: dict[str, Any]) -> None:
    """Remove the placeholder of the dataset section."""
    for name in NO_DATASET["dataset"]:
        values.get("dataset", {}).pop(name, None)


def _unlike(values: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        below = default.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            value = _unlike(value, below) or below
        if value != below:
            found[name] = value
    return found


def differences(a: Settings, b: Settings) -> dict[str, tuple[Any, Any]]:
    """Map the dotted names of settings in which two runs differ to their two values."""
    left, right = (dict(flatten(settings.model_dump(mode="json"), "")) for settings in (a, b))
    names = dict.fromkeys([*left, *right])
    pairs = {name: (left.get(name), right.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def settings_named(word: str) -> list[str]:
    """List the settings whose last name is `word`, as dotted names; those of free names last."""
    fixed = [name for name in Settings.model_fields if name not in OPEN]
    found = [f"{name}.{word}" for name in fixed if word in fields_at([name])]
    methods = [f"methods.{name}.{word}" for name in METHODS if word in fields_at(["methods", name])]
    return found + methods


def fields_at(path: Iterable[str]) -> list[str]:
    """Return field names of the section at `path`; entries of free names go by rule or name."""
    section: Any = Settings
    for name in path:
        if section is Settings and name in OPEN:
            section = OPEN[name]
        elif isinstance(section, Mapping):
            section = section[name]
        else:
            section = section.model_fields[name].annotation
    return list(section if isinstance(section, Mapping) else section.model_fields)


def resolve_precision(settings: Settings) -> tuple[Settings, list[str]]:
    """Replace precision `auto` by the best one for the device; return the settings and notes."""
    precisions = {"clip": settings.clip.precision, "attention": settings.attention.precision}
    sections = [name for name, precision in precisions.items() if precision == "auto"]
    if not sections:
        return settings, []
    chosen, reason = best(settings.runtime.device)
    update = {
        name: getattr(settings, name).model_copy(update={"precision": chosen}) for name in sections
    }
    notes = [f"{name}.precision: {chosen}, since {reason}" for name in sections]
    return settings.model_copy(update=update), notes
