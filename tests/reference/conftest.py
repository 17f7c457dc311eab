"""Fixtures of the reference cases, each written once per test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import shared
from tests.reference.case import SIDES, Case, write_case


def shared_case(factory: pytest.TempPathFactory, name: str) -> Case:
    """Return a case whose store is shared by all processes of the test run."""

    def make(folder: Path) -> None:
        write_case(folder, name)

    return Case(shared.once(factory, f"case-{name}", make))


@pytest.fixture(scope="session", params=["demo", *SIDES])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return shared_case(tmp_path_factory, request.param)


@pytest.fixture(scope="session")
def finer(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return shared_case(tmp_path_factory, "finer")
