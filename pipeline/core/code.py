"""Digest of the code that a stage's values come from: advice, never part of a key.

It covers the stage's own module and every module of this project that it imports, except
infrastructure (settings, store, command line) and readers of datasets, whose results are in the key
already. Comments, docstrings and blank lines do not count.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pipeline.core.paths import PROJECT

PACKAGES = ("pipeline", "stages")
EXCLUDED = (
    "pipeline.cli", "pipeline.core", "pipeline.datasets", "pipeline.engine", "pipeline.inspect",
    "pipeline.models.at_hand", "pipeline.models.hub", "pipeline.options", "pipeline.plan",
    "pipeline.run", "pipeline.settings", "pipeline.stage", "pipeline.store",
)  # fmt: skip
"""Infrastructure that cannot change values, each with all that lies in it."""
COUNTED = {"pipeline.datasets.images"}
"""Modules inside an excluded package that do count: decoding decides values."""


def code_of(stage: object) -> str:
    """12 hex digits for the code of a stage."""
    return _code_of(type(stage).__module__)


@cache
def _code_of(module: str) -> str:
    found = sorted(modules_of(module))
    texts = "\n".join(f"{name}\n{_read(_file(name)).code}" for name in found)
    return hashlib.blake2b(texts.encode(), digest_size=6).hexdigest()


@cache
def modules_of(module: str) -> frozenset[str]:
    """A module and all of the project that it imports, directly or not, but for `EXCLUDED`."""
    found, pending = set(), [module]
    while pending:
        name = pending.pop()
        if name in found or _excluded(name):
            continue
        found.add(name)
        pending += _read(_file(name)).imported
    return frozenset(found)


def _excluded(module: str) -> bool:
    inside = (module == name or module.startswith(f"{name}.") for name in EXCLUDED)
    return module == "pipeline" or (module not in COUNTED and any(inside))


def _file(module: str) -> Path:
    path = PROJECT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class Source(NamedTuple):
    """Imports and code of a file, which the digest reads."""

    imported: list[str]
    """Modules of this project that it imports."""
    code: str
    """Its lines without comments, docstrings and blank lines."""


@cache
def _read(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for_types = [node for node in tree.body if _for_types(node)]
    tree.body = [node for node in tree.body if node not in for_types]
    nodes = list(ast.walk(tree))
    imported = _imported(nodes)
    return Source(imported, _code(text, nodes + [n for part in for_types for n in ast.walk(part)]))


def _for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _imported(nodes: list[ast.AST]) -> list[str]:
    found = []
    for node in nodes:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            # What is imported from a package may be a module of it.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [name for name in names if name.split(".")[0] in PACKAGES and _file(name).exists()]
    return found


def _code(text: str, nodes: list[ast.AST]) -> str:
    lines, kept = text.split("\n"), set()
    for row, column in _comments(text):
        lines[row - 1] = lines[row - 1][:column]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr):
            rows = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            if id(node) in docstrings:
                for row in rows:
                    lines[row - 1] = ""
            elif len(rows) > 1:
                kept |= set(rows)  # what looks like a blank line is part of a string
    found = [
        line.rstrip() if number not in kept else line
        for number, line in enumerate(lines, 1)
        if line.strip() or number in kept
    ]
    return "\n".join(found)


def _comments(text: str) -> list[tuple[int, int]]:
    """Row, from 1, and column of each comment."""
    if "#" not in text:
        return []
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.start for token in tokens if token.type == tokenize.COMMENT]
