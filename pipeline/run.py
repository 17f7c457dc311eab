"""The main path: which stages there are, in which order, reading what.

Every stage is a value made of its settings and of the stages it reads. Its key follows from
these, so the whole plan is known before anything runs.
"""

from __future__ import annotations

from pipeline.datasets import Dataset
from pipeline.files import Digests
from pipeline.models.sources import ClipSource, VitSource
from pipeline.settings import Settings
from pipeline.stage import Stage
from stages.attention import Attention
from stages.crops import Crops
from stages.descriptions import Descriptions, Prompts
from stages.embeddings import FeatureEmbeddings, ImageEmbeddings, RawEmbeddings
from stages.index import Index
from stages.metrics import Metrics
from stages.scores import Scores


def build(s: Settings) -> list[Stage]:
    """All stages under settings `s`, each after those it reads."""
    digests = Digests(s.paths.store / ".memory" / f"sha256-{s.dataset.name}.json")
    dataset = Dataset(s.dataset, s.paths, digests)
    clip = ClipSource(s.clip, s.paths, digests)
    vit = VitSource(s.attention, s.paths, digests)
    classes = dataset.classes

    index = Index(s.index, dataset)

    texts = {}
    for name in s.scores.texts:
        chosen = getattr(s.descriptions, name)
        prompts = Prompts(name, chosen, classes, s.paths, digests)
        texts[name] = Descriptions(chosen, prompts, classes, clip, s.runtime)

    attention = Attention(vit, index, s.layout.images, dataset, s.runtime)
    crops = Crops(s.crops, attention, index, clip.grid, s.layout, s.scores.n)

    common = clip, index, s.layout.images, dataset, s.runtime
    cropped = crops, s.layout.crops, s.scores.n
    embeddings = {
        "image": ImageEmbeddings(*common),
        "raw": RawEmbeddings(*common, *cropped),
        "feature": FeatureEmbeddings(*common, *cropped, s.feature),
    }

    views = {name: embeddings[name] for name in s.scores.views}
    scores = Scores(s.scores, index, views, texts, s.layout.images, s.runtime)
    metrics = Metrics(scores, index, s.dataset.name)

    return [index, *texts.values(), attention, crops, *embeddings.values(), scores, metrics]


def needed(targets: list[Stage], stages: list[Stage]) -> list[Stage]:
    """Those of `stages` that `targets` are made from, themselves included, in order."""
    wanted = list(targets)
    for stage in wanted:
        wanted += [up for up in stage.upstream if up not in wanted]
    return [stage for stage in stages if stage in wanted]
