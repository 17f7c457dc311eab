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
    texts = "\n".join(f"{name}\n{_normalised(_file(name))}" for name in found)
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
        pending += _imported(name)
    return frozenset(found)


def _excluded(module: str) -> bool:
    inside = (module == name or module.startswith(f"{name}.") for name in EXCLUDED)
    return module == "pipeline" or (module not in COUNTED and any(inside))


@cache
def _imported(module: str) -> list[str]:
    found = []
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not _for_types(node)]
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            # What is imported from a package may be a module of it.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [name for name in names if name.split(".")[0] in PACKAGES and _file(name).exists()]
    return found


def _for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _file(module: str) -> Path:
    path = PROJECT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _normalised(path: Path) -> str:
    """The lines of a file without comments, docstrings and blank lines."""
    text = path.read_text(encoding="utf-8")
    lines, kept, tree = text.split("\n"), set(), ast.parse(text)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    docstrings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            rows = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            if node in docstrings:
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
