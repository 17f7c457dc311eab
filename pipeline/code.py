"""A digest of the code that a stage's values come from: advice, never part of a key.

It covers the stage's own module and all that it imports of this project, but for what only carries
a stage (settings, store, command line) or brings it what its key holds already (readers of
datasets). Comments, docstrings and blank lines do not count.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

from pipeline.artifact import Artifact
from pipeline.locations import PROJECT
from pipeline.stage import Stage

PACKAGES = ("pipeline", "stages")
CARRIERS = {
    f"pipeline.{name}"
    for name in (
        "addresses", "arrays", "artifact", "claims", "cli", "code", "commands", "config",
        "errors", "files", "flow", "identity", "ledger", "locations", "options", "progress", "run",
        "runner", "runtime", "settings", "stage", "store",
    )
} | {"pipeline", "pipeline.datasets", "pipeline.models.hub"}  # fmt: skip
"""Modules and packages that bring a stage its inputs, and take its outputs, as they are."""


def code_of(stage: Stage) -> str:
    """12 hex digits for the code of a stage."""
    return _code_of(type(stage).__module__)


def drifted(artifact: Artifact, stage: Stage) -> bool:
    """Whether any finished unit of an artifact was made by other code than the stage has now."""
    receipts = map(artifact.ledger.read, artifact.ledger.units())
    now = code_of(stage)
    return any(receipt and receipt.maker.get("code") != now for receipt in receipts)


@cache
def _code_of(module: str) -> str:
    found = sorted(modules_of(module))
    texts = "\n".join(f"{name}\n{_normalised(_file(name))}" for name in found)
    return hashlib.blake2b(texts.encode(), digest_size=6).hexdigest()


@cache
def modules_of(module: str) -> frozenset[str]:
    """A module of this project and all that it imports of it, directly or not; no carriers."""
    found, ahead = set(), [module]
    while ahead:
        name = ahead.pop()
        if name in found or _carries(name):
            continue
        found.add(name)
        ahead += _imported(name)
    return frozenset(found)


def _carries(module: str) -> bool:
    return module in CARRIERS or module.startswith("pipeline.datasets.")


@cache
def _imported(module: str) -> list[str]:
    found = []
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not _for_types(node)]
    for node in ast.walk(tree):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            # What is imported from a package may be a module of it.
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
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
    told = [each.value for each in ast.walk(tree) if isinstance(each, ast.Expr)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            rows = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            if node in told:
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
