"""The main path: which stages there are, in which order, reading what.

Every stage is a value made of its settings and of the stages it reads. Its key follows from
these, so the whole plan is known before anything runs.
"""

from __future__ import annotations

from pipeline.core.hash_cache import HashCache
from pipeline.datasets.classes import Classes
from pipeline.datasets.dataset import Dataset
from pipeline.methods.base import VIEW_NAMES
from pipeline.methods.support import SUPPORT, SupportConfig
from pipeline.models.attention.sources import attention_source
from pipeline.models.clip.source import ClipSource
from pipeline.settings import Settings, load
from pipeline.stage import Stage, needed
from pipeline.texts.class_texts import ClassTexts
from pipeline.texts.sets import DistinctSentences, Sentences, TextSet
from pipeline.views.config import RawConfig, TokenGrid, WindowSpace, of_share
from stages.attention import Attention
from stages.crops import AugmentedCrops, FeatureCrops, RawCrops, SquareCrops, Windows
from stages.descriptions import DescriptionsStage
from stages.distinct import DistinctTexts
from stages.embeddings import AugmentedEmbeddings, BoxEmbeddings, ImageEmbeddings, WindowEmbeddings
from stages.index import Index
from stages.metrics import Metrics
from stages.scores import Scores
from stages.settled import settled
from stages.support import SupportEmbeddings


def read(s: Settings) -> tuple[HashCache, Dataset]:
    """The dataset of settings `s`, and the memory of digests of other files, which are few."""
    images = HashCache(s.paths.memory(s.dataset.name))
    others = HashCache(s.paths.memory(f"{s.dataset.name}.files"))
    return others, Dataset(s.dataset, s.paths, images)


def labelled_images(s: Settings, support: SupportConfig) -> Dataset:
    """The dataset of a support set, which lies where the datasets of settings `s` do."""
    config = load(support.dataset).dataset
    return Dataset(config, s.paths, HashCache(s.paths.memory(config.name)))


def text_set(
    name: str, s: Settings, classes: Classes, clip: ClipSource, digests: HashCache
) -> Stage:
    """The stage of a text set of settings `s`; of the rule `distinct`, behind that of all texts."""

    def encoded(name: str, rule: TextSet) -> Stage:
        prompts = ClassTexts(name, config, classes, s.paths, digests)
        return DescriptionsStage(rule, prompts, classes, clip, s.runtime)

    config = s.descriptions[name]
    if not isinstance(config, DistinctSentences):
        return encoded(name, config)
    return DistinctTexts(config, name, encoded(f"{name}-all", Sentences(rule="sentences")))


def build(s: Settings, opened: tuple[HashCache, Dataset] | None = None) -> list[Stage]:
    """The stages that the chosen methods need under settings `s`, each after those it reads."""
    digests, dataset = opened or read(s)
    clip = ClipSource(s.clip, s.paths, digests)
    maps = attention_source(s.attention, clip, s.paths, digests)
    crops, windows = of_share(s.crops, s.windows, maps)
    methods, views, index = s.chosen, s.views, Index(s.index, dataset)

    texts = {name: text_set(name, s, dataset.classes, clip, digests) for name in s.texts}
    for given in filter(None, (method.labelled() for method in methods.values())):
        labelled = labelled_images(s, given)
        both = dataset.classes, labelled.classes
        texts[SUPPORT] = SupportEmbeddings(given, *both, labelled, clip, s.runtime)

    attention = Attention(maps, index, s.layout.images, dataset, s.runtime)
    grid = TokenGrid.of(clip, s.windows.view)
    counts = {name: views.get(name, 0) for name in VIEW_NAMES}
    blocks = index, s.layout.images, s.crop_block
    raw = RawCrops(*blocks, counts["raw"], crops, attention)
    feature = FeatureCrops(*blocks, counts["feature"], crops, windows, attention, grid)
    spaces = WindowSpace.of(crops, windows)
    all_windows = [Windows(*blocks[:2], space, attention, grid) for space in spaces]
    squares = SquareCrops(*blocks, counts["squares"], s.squares)
    augmented = AugmentedCrops(*blocks, counts["augmented"], s.augmented)

    common = clip, index, s.layout.images, dataset, s.runtime
    embeddings: dict[str, Stage] = {
        "image": ImageEmbeddings(*common),
        "raw": BoxEmbeddings(*common, raw, s.raw),
        "feature": WindowEmbeddings(*common, [*all_windows, feature][0], s.feature),
        "squares": BoxEmbeddings(*common, squares, RawConfig()),
        "augmented": AugmentedEmbeddings(*common, augmented),
    }

    drawn = {"feature": feature} if all_windows and "feature" in views else {}
    config = s.scores.naming(methods).for_scale(clip.scale(s.scores.logit_scale))
    embeddings = settled(config, methods, embeddings, drawn, texts, dataset.classes, s.runtime)
    viewed = {name: embeddings[name] for name in views}
    scores = Scores(
        config, methods, index, dataset.classes, viewed, drawn, texts, s.layout.images, s.runtime
    )
    metrics = Metrics(scores, index, s.dataset.name)

    view_sets = [raw, feature, *all_windows, squares, augmented]
    chosen_from = [up for stage in texts.values() for up in stage.upstream]
    encoded = [*chosen_from, *texts.values(), attention, *view_sets, *embeddings.values()]
    return needed([metrics], [index, *encoded, scores, metrics])
