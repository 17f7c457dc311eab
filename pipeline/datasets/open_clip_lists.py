"""ImageNet's classes and OpenAI's templates, from the files of the installed timm and open_clip.

The files are parsed as data; neither library is imported, which would take seconds.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pipeline.core.errors import AbsError
from pipeline.datasets.listing import Class, read_lines


@cache
def imagenet_classes() -> list[Class]:
    """Return ImageNet's 1000 classes in label order.

    The key is the wnid, the name open_clip's, the longer name the first of WordNet's lemmas.
    """
    info = _package("timm") / "data" / "_info"
    wnids = read_lines(info / "imagenet_synsets.txt")
    lemma_lines = read_lines(info / "imagenet_synset_to_lemma.txt")
    lemmas = dict(line.split("\t", 1) for line in lemma_lines)
    names = ast.literal_eval(_metadata("IMAGENET_CLASSNAMES"))
    return [
        Class(wnid, name, lemmas[wnid].split(", ")[0])
        for wnid, name in zip(wnids, names, strict=True)
    ]


@cache
def openai_templates() -> list[str]:
    """Return the 80 templates of CLIP-E on ImageNet, with {} in place of the class name."""
    value = _metadata("OPENAI_IMAGENET_TEMPLATES")
    lambdas = [node for node in ast.walk(value) if isinstance(node, ast.Lambda)]
    return ["".join(_parts(function.body)) for function in lambdas]


def _parts(text: ast.expr) -> list[str]:
    """Return the pieces of an f-string, its one value as {}."""
    assert isinstance(text, ast.JoinedStr)
    return [str(p.value) if isinstance(p, ast.Constant) else "{}" for p in text.values]


def _metadata(name: str) -> ast.expr:
    """Return the expression assigned to `name` in open_clip's zero_shot_metadata.py."""
    module = _package("open_clip") / "zero_shot_metadata.py"
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value  # type: ignore[attr-defined,no-any-return]
    raise AbsError(f"{module} does not define {name}; install another version of its package")


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise AbsError(f"{name} is not installed; its list of ImageNet's classes is needed")
    return Path(next(iter(spec.submodule_search_locations)))
