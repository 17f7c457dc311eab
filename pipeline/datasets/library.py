"""What libraries know of ImageNet: wnids and names of its classes, and OpenAI's templates.

Read as data: neither timm nor open_clip is imported, so that asking costs no time.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pipeline.datasets.listing import Class, lines
from pipeline.errors import AbsError


@cache
def imagenet_classes() -> list[Class]:
    """wnid, open_clip's name, and the first of WordNet's own, in label order."""
    info = _package("timm") / "data" / "_info"
    wnids = lines(info / "imagenet_synsets.txt")
    lemmas = dict(line.split("\t", 1) for line in lines(info / "imagenet_synset_to_lemma.txt"))
    names = ast.literal_eval(_metadata("IMAGENET_CLASSNAMES"))
    return [
        Class(wnid, name, lemmas[wnid].split(", ")[0])
        for wnid, name in zip(wnids, names, strict=True)
    ]


@cache
def openai_templates() -> list[str]:
    """The 80 templates of CLIP-E on ImageNet, {} where the class name goes."""
    value = _metadata("OPENAI_IMAGENET_TEMPLATES")
    lambdas = [node for node in ast.walk(value) if isinstance(node, ast.Lambda)]
    return ["".join(_parts(each.body)) for each in lambdas]


def _parts(text: ast.expr) -> list[str]:
    """The pieces of an f-string, its one value as {}."""
    assert isinstance(text, ast.JoinedStr)
    return [str(p.value) if isinstance(p, ast.Constant) else "{}" for p in text.values]


def _metadata(name: str) -> ast.expr:
    """What open_clip's module of names and templates assigns to `name`."""
    module = _package("open_clip") / "zero_shot_metadata.py"
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value  # type: ignore[attr-defined,no-any-return]
    raise AbsError(f"{module} has no {name}; install another version of its package")


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise AbsError(f"{name} is not installed; its list of ImageNet's classes is needed")
    return Path(next(iter(found.submodule_search_locations)))
