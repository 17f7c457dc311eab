"""The code of a stage is on record: it does not change without its version, or a reason."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import code
from pipeline.core.code import EXCLUDED, code_of, modules_of
from pipeline.core.errors import AbsError
from pipeline.core.section import NOT_IN_KEY, Section
from pipeline.inspect import status
from pipeline.run import Run
from pipeline.stage import Stage
from tests import golden
from tests.helpers.runs import ROOT, Runner, said

HELP = 'raise its version, or say why outputs are the same: python -m tests.golden --same "..."'


def test_code_does_not_change_without_its_version_or_a_reason() -> None:
    recorded, now = golden.recorded("code"), golden.versions()
    assert set(recorded) == set(now)
    for name, entry in now.items():
        stated = {part: recorded[name][part] for part in ("version", "code")}
        assert stated == entry, f"the code of {name} changed: {HELP}"


def test_keys_are_those_on_record() -> None:
    assert golden.keys() == golden.recorded("keys"), "other keys: every store is computed again"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project's modules that digests are taken of."""
    for source in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/*.py")]:
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text())
    monkeypatch.setattr(code, "PROJECT", tmp_path)
    yield tmp_path
    read_anew()


def read_anew() -> None:
    """Forget what was read of modules."""
    for cached in (code._code_of, code._read, code.modules_of):
        cached.cache_clear()


def digest(module: str) -> str:
    read_anew()
    return code._code_of(module)


def digests_of(kinds: list[str]) -> dict[str, str]:
    """The digest of each kind of stage, as its code is now."""
    read_anew()
    return {kind: code._code_of(f"stages.{kind}") for kind in kinds}


KINDS = [path.stem for path in ROOT.glob("stages/[a-z]*.py")]


@pytest.fixture(scope="module")
def unchanged() -> dict[str, str]:
    """The digests of the project, and so those of its copies."""
    return digests_of(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "concerned"),
    [
        ("stages/scores.py", {"scores"}),
        ("pipeline/kernels/matching.py", {"scores", "settled"}),
        ("pipeline/models/attention/vit.py", {"attention"}),
        ("pipeline/kernels/resize.py", {"descriptions", "attention", "embeddings", "support"}),
        ("pipeline/store/store.py", set()),
        ("pipeline/cli/tables.py", set()),
    ],
)
def test_a_change_concerns_the_stages_that_import_it(
    unchanged: dict[str, str], copied: Path, file: str, concerned: set[str]
) -> None:
    path = copied / file
    path.write_text(path.read_text() + "\nANOTHER = 1\n")
    after = digests_of(KINDS)
    assert {kind for kind in KINDS if after[kind] != unchanged[kind]} == concerned


def test_remarks_are_no_code(copied: Path) -> None:
    path = copied / "stages" / "metrics.py"
    before, text = digest("stages.metrics"), path.read_text()
    path.write_text(text.replace('"""Counts."""', '"""Counts\n\n    # twice."""') + "\n# end\n\n")
    assert digest("stages.metrics") == before
    path.write_text(text.replace("<= 5", "<= 6"))
    assert digest("stages.metrics") != before
    path.write_text(text.replace('"method"', '"method#"', 1))
    assert digest("stages.metrics") != before


OF_COMMANDS = ("pipeline.models.at_hand", "pipeline.texts.published")
"""Modules of these packages that commands need and no stage."""


def test_what_models_and_kernels_do_is_the_code_of_some_stage() -> None:
    stages = [f"stages.{path.stem}" for path in ROOT.glob("stages/[a-z]*.py")]
    covered = {name for stage in stages for name in modules_of(stage)}
    for folder in ("kernels", "models", "methods", "views", "texts"):
        for path in ROOT.glob(f"pipeline/{folder}/**/[a-z]*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert name in covered or name in EXCLUDED or name in OF_COMMANDS, name
    assert "pipeline.models.attention.vit" in modules_of("stages.attention")


def test_carriers_exist_and_kernels_are_none() -> None:
    for name in EXCLUDED:
        assert code._file(name).exists(), name
    assert "pipeline.kernels.matching" in modules_of("stages.scores")
    assert not {name for name in EXCLUDED if "kernels" in name or "methods" in name}


@pytest.mark.slow
def test_other_code_is_shown_and_refused_where_asked_to(
    run_of: Runner, made: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--dataset", tiny, "--set", "scores.n=4"]
    assert "code-drift" not in said("status", *words).stdout
    made.execute(made.stages, [], quiet=True, strict_code=True)
    real = code_of
    monkeypatch.setattr(
        status, "code_of", lambda stage: "other" if stage.kind == "scores" else real(stage)
    )
    states = json.loads(said("status", *words, "--json").stdout)
    assert {row["stage"] for row in states if row["code_drift"]} == {"scores"}
    assert "done, code-drift" in said("status", *words).stdout
    with pytest.raises(
        AbsError, match=r"--strict-code: scores: made by other code.*--force scores"
    ):
        run_of().execute(run_of().stages, [], quiet=True, strict_code=True)
    forced = said("run", "--strict-code", "--force", "metrics", *words)
    assert forced.returncode == 1
    made.store.open(made.named("metrics")[0])
    assert said("run", *words).returncode == 0
    assert said("run", "--strict-code", *words).returncode == 1


# --- Every field of every stage ---------------------------------------------------------------


def other(value: Any) -> Any:
    """Another value of the same kind; what cannot be told apart is refused by the key itself."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, list | tuple):
        return type(value)([*value, "x"])
    return "x" if value is None else {**value, "x": "x"}


class Elsewhere:
    """An input from outside that is another one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def identity(self) -> dict[str, Any]:
        return {**self._inner.identity(), "other": True}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def variations(stage: Stage) -> list[tuple[str, bool, Stage]]:
    """A stage with one field changed at a time, and whether its key must change."""
    found = []
    hashed = {name for name, _ in stage._hashed_fields()}
    for each in fields(stage):
        value, counts = getattr(stage, each.name), each.name in hashed
        if isinstance(value, Section):
            for name, field in type(value).model_fields.items():
                changed = value.model_copy(update={name: other(getattr(value, name))})
                inner = counts and NOT_IN_KEY not in field.metadata
                found.append((f"{each.name}.{name}", inner, replace(stage, **{each.name: changed})))
        elif isinstance(value, Stage):
            found.append((each.name, counts, replace(stage, **{each.name: deeper(value)})))
        elif isinstance(value, dict):
            for name, inner_value in value.items():
                inner_other = deeper(inner_value) if isinstance(inner_value, Stage) else None
                if isinstance(inner_value, Section) and inner_value.hashed():
                    field_name = inner_value.hashed_fields()[0]
                    changed = other(getattr(inner_value, field_name))
                    inner_other = inner_value.model_copy(update={field_name: changed})
                if inner_other is not None:
                    mapping = {**value, name: inner_other}
                    found.append(
                        (f"{each.name}.{name}", counts, replace(stage, **{each.name: mapping}))
                    )
        elif isinstance(value, int | str):
            found.append((each.name, counts, replace(stage, **{each.name: other(value)})))
        elif hasattr(value, "identity"):
            found.append((each.name, counts, replace(stage, **{each.name: Elsewhere(value)})))
    return found


def deeper(stage: Stage) -> Stage:
    """The same stage with another key."""
    return next(changed for _, counts, changed in variations(stage) if counts)


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
@pytest.mark.parametrize("run", sorted(golden.RUNS))
def test_a_key_changes_exactly_when_a_hashed_field_does(run: str) -> None:
    seen = 0
    for stage in golden.stages(run):
        for name, counts, changed in variations(stage):
            assert (changed.key != stage.key) == counts, f"{stage.name}: {name}"
            seen += 1
    assert seen > 50


# --- What may not be in the code --------------------------------------------------------------

SOURCES = [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/*.py")]


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Every call by the dotted text of what is called."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [(ast.unparse(node.func), node) for node in found]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_and_no_error_is_swallowed(source: Path) -> None:
    tree = ast.parse(source.read_text())
    for name, call in calls(tree):
        assert name not in ("eval", "exec", "os.system", "joblib.load", "pd.read_pickle")
        assert not re.fullmatch(r"(c?pickle|dill|marshal|shelve)\.(loads?|open|Unpickler)", name)
        words = {each.arg: ast.unparse(each.value) for each in call.keywords}
        if name == "torch.load":
            inert = words.get("pickle_module") == "inert_pickle"
            assert words.get("weights_only") == "True" or inert, source
        assert words.get("allow_pickle", "False") == "False", source
        assert words.get("shell", "False") == "False", source
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            caught = ast.unparse(node.type)
            silent = all(isinstance(each, ast.Pass) for each in node.body)
            assert not (silent and caught in ("Exception", "BaseException")), source
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), source
