"""Check a dataset before a run: image counts, class names, texts and their files.

Nothing is encoded. Images are indexed, which a run would do too, to know which can be read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import AbsError, MissingInput
from pipeline.datasets.dataset import Dataset
from pipeline.methods.registry import defaults
from pipeline.models.attention.sources import attention_source
from pipeline.models.clip.source import ClipSource
from pipeline.models.clip.tokenizer import find_tokenizer
from pipeline.models.config import RANDOM
from pipeline.models.source import ModelSource
from pipeline.plan import build, read
from pipeline.run import Run, missing, unusable_device
from pipeline.settings import Settings
from pipeline.stage import Stage
from pipeline.stage import problems as problems_of
from pipeline.texts.class_texts import ClassTexts
from pipeline.texts.published import published
from pipeline.texts.tokens import Tokenizes, token_loss
from stages.index import Index
from stages.index import warnings as warnings_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DoctorReport:
    """Facts by section, problems that prevent a run, and warnings of what it would not do well."""

    facts: dict[str, dict[str, Any]]
    problems: list[str]
    warnings: list[str]
    unseen: list[str]
    """Models whose weights were not looked at, as a run would download them."""

    @property
    def usable(self) -> bool:
        """True if nothing speaks against a run."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        found = {"usable": self.usable, "problems": self.problems, "warnings": self.warnings}
        return {**found, "weights not looked at": self.unseen, **self.facts}


def only_index(settings: Settings) -> list[Stage]:
    """Build the index stage alone, which needs no model."""
    return [Index(settings.index, read(settings)[1])]


def examine(run: Run, quiet: bool) -> DoctorReport:
    """Index the dataset of a run if necessary, and report on it."""
    (index,) = run.named("index")
    assert isinstance(index, Index)
    dataset, settings = index.dataset, run.settings
    problems = _index_problems(run, index, quiet)
    artifact = run.store.artifact(index)
    images, skipped = (artifact.table(name, finished=False) for name in ("images", "skipped"))
    if not len(images):
        raise _no_image(dataset, skipped)
    texts = _text_sets(settings, dataset)
    warnings = warnings_of(dataset.classes, lambda: [images])
    warnings += [f"{n}: {line}" for n, facts in texts.items() for line in facts.pop("warnings", ())]
    clip, methods = _clip(settings, dataset), _methods(settings)
    unseen, wrong = _models(settings, dataset)
    problems += [facts["problem"] for facts in (*texts.values(), clip) if "problem" in facts]
    problems += [*wrong, *([] if methods["can be scored"] else ["no method has its texts"])]
    facts = {
        "dataset": _found(dataset),
        "images": _images(dataset, images, skipped),
        "classes": _classes(dataset, images),
        "texts": texts,
        "clip": clip,
        "methods": methods,
    }
    return DoctorReport(facts, list(dict.fromkeys(problems)), warnings, unseen)


def _index_problems(run: Run, index: Index, quiet: bool) -> list[str]:
    """Index the dataset; return why its index cannot be finished, if it cannot."""
    try:
        run.execute([index], [], quiet)
    except MissingInput:
        raise
    except AbsError as error:
        return [str(error)]
    return []


def _no_image(dataset: Dataset, skipped: pd.DataFrame) -> AbsError:
    """Return the error of a dataset none of whose images can be read."""
    usual = skipped[skipped["reason"] == skipped["reason"].mode()[0]]
    return AbsError(
        f"{dataset.root}: none of {len(skipped)} images can be read, such as "
        f"{usual['file'].iloc[0]} ({usual['reason'].iloc[0]}); save them in another form, such "
        "as PNG with 8 bits a channel"
    )


def _text_sets(settings: Settings, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Return facts of each text set, problems and warnings among them."""
    tokenizer, paths, cache = _tokenizer(settings), settings.paths, dataset.digests
    return {
        name: _text_set(ClassTexts(name, config, dataset.classes, paths, cache), tokenizer)
        for name, config in settings.descriptions.items()
    }


def _methods(settings: Settings) -> dict[str, Any]:
    reasons = {name: settings.missing_texts(name) for name in defaults()}
    return {
        "can be scored": [name for name, missing in reasons.items() if not missing],
        "lack texts": {name: "; ".join(missing) for name, missing in reasons.items() if missing},
    }


def _found(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.config.name,
        "root": str(dataset.root),
        "layout": dataset.listing.layout,
        "also there": [str(path) for path in dataset.other_roots],
    }


def _images(dataset: Dataset, images: pd.DataFrame, skipped: pd.DataFrame) -> dict[str, Any]:
    counts = images.groupby("label").size()
    reasons = Counter(reason.partition(":")[0] for reason in skipped["reason"])
    return {
        "readable": len(images),
        "published": dataset.config.published.images,
        "skipped": len(skipped),
        "reasons": dict(reasons.most_common(5)),
        "first skipped": [f"{row.file}: {row.reason}" for row in skipped.head(3).itertuples()],
        "per class": {"fewest": int(counts.min()), "most": int(counts.max())},
    }


def _classes(dataset: Dataset, images: pd.DataFrame) -> dict[str, Any]:
    classes = dataset.classes
    seen = set(images["label"])
    pairs = enumerate(zip(classes.names, classes.present, strict=True))
    shared = {name: count for name, count in Counter(classes.names).items() if count > 1}
    late = {label for label, name in enumerate(classes.names) if classes.names.index(name) < label}
    return {
        "with images": len(seen),
        "without images": [name for label, (name, there) in pairs if there and label not in seen],
        "published": dataset.config.published.classes,
        "competing": len(classes.names),
        "names shared by several": shared,
        "share of images never right": float(images["label"].isin(late).mean()),
    }


def _models(settings: Settings, dataset: Dataset) -> tuple[list[str], list[str]]:
    """Return the models whose weights were not looked at, and what else keeps a run from starting.

    What is on this machine is looked at, and so are the settings that depend on it.
    """
    clip = ClipSource(settings.clip, settings.paths, dataset.digests)
    maps = attention_source(settings.attention, clip, settings.paths, dataset.digests)
    sources = [source for source in (clip, maps) if isinstance(source, ModelSource)]
    unseen = [_named(source) for source in sources if not source.local and not _drawn(source)]
    if unseen:
        return unseen, []
    try:
        wrong = problems_of(build(settings, (dataset.digests, dataset)))
    except AbsError as error:
        wrong = missing(settings) or [error]
    wrong += unusable_device(settings.runtime, None)
    return [], [line for error in wrong for line in error.problems or (str(error),)]


def _named(source: ModelSource) -> str:
    return " ".join(filter(None, (source.section, source.config.model, source.config.weights)))


def _drawn(source: ModelSource) -> bool:
    """Return whether weights are random, and so need no file."""
    return (source.config.weights or "").startswith(RANDOM)


def _tokenizer(settings: Settings) -> Tokenizes | str:
    """Return the tokenizer of the run's CLIP, or why there is none without the model."""
    try:
        return find_tokenizer(settings.clip, settings.paths)
    except AbsError as error:
        return str(error)


def _clip(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """Return what is known of the CLIP without a download."""
    config = settings.clip
    facts: dict[str, Any] = {"model": config.model, "weights": config.weights}
    source = ClipSource(config, settings.paths, dataset.digests)
    if not source.local:
        return facts
    try:
        facts |= {"activation": source.activation, "preprocessing": str(source.preprocess)}
        return {**facts, "assumed": source.note} if source.note else facts
    except AbsError as error:
        return {**facts, "problem": str(error)}


def _text_set(prompts: ClassTexts, tokenizer: Tokenizes | str) -> dict[str, Any]:
    if missing := prompts.config.missing_input(prompts.paths):
        return {"missing": missing}
    try:
        return _text_facts(prompts) | _read_facts(prompts, tokenizer)
    except AbsError as error:
        return {"problem": str(error)}


def _text_facts(prompts: ClassTexts) -> dict[str, Any]:
    counts = [len(texts) for texts in prompts.texts]
    facts: dict[str, Any] = {"per class": {"fewest": min(counts), "most": max(counts)}}
    for field in prompts.file_fields:
        path = prompts.path(field)
        sha256 = prompts.digests.sha256(path)
        facts[field] = {"path": str(path), "sha256": sha256, "published as": published(sha256)}
    facts["without a class"] = prompts.unused_classes
    facts["empty"] = sum(not text.strip() for texts in prompts.texts for text in texts)
    return facts


def _read_facts(prompts: ClassTexts, tokenizer: Tokenizes | str) -> dict[str, Any]:
    """Return what the text encoder reads of the texts, and warnings of what is lost."""
    try:
        if isinstance(tokenizer, str):
            raise AbsError(tokenizer)
        loss = token_loss(prompts.texts, prompts.classes.names, tokenizer)
    except AbsError as error:
        return {"cut": f"not counted: {error}", "warnings": prompts.warnings}
    counts = {"cut": len(loss.cut), "same vector": len(loss.alike)}
    return {**counts, "warnings": [*prompts.warnings, *loss.messages]}
