"""A dataset through all stages and methods, for a tiny model of each family of open_clip.

The families share dataset and store, and so all that does not depend on CLIP. Those of
transformers have a test of their own (`test_clip_of_transformers.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.inspect.recompute import differences
from pipeline.models.clip.dimensions import OWN_DEFINITION
from pipeline.run import Run
from pipeline.stage import needed
from stages.scores import Scores
from tests.helpers import families
from tests.helpers.families import FAMILIES
from tests.helpers.methods import FEW, OF_VECTORS, PUBLISHED_VIEWS, SCORED
from tests.helpers.plain_vit import one_thread
from tests.helpers.runs import said, write_dataset

OWN_TEXTS = {"dfn", "metaclip2", "mean"}
"""Families with CLIP's own class and text encoder, whose prompts can be learned."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The YAML of a dataset of four images."""
    folder = tmp_path_factory.mktemp("families")
    with one_thread():
        yield write_dataset(folder, images=2)


@pytest.fixture(scope="module")
def compared() -> set[str]:
    """Keys of the artifacts in the common store that were computed again."""
    return set()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "siglip")) for name in FAMILIES],
)
def test_a_dataset_runs_from_end_to_end(
    name: str, dataset: Path, compared: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are as written; every unit is the same again; other units are other roundings."""
    family, folder = FAMILIES[name], tmp_path / "model"
    chosen = [*(SCORED if name in OWN_TEXTS else OF_VECTORS), "gda"]
    monkeypatch.setenv("ABS_ARTIFACTS", str(dataset.parent / "store"))
    changes = [
        f"clip.model=local-dir:{folder}",
        f"scores.methods=[{','.join(chosen)}]",
        "layout.images=4",
        f"methods.gda.support.dataset={dataset}",
        "methods.gda.support.passes=1",
        *PUBLISHED_VIEWS,
        *FEW,
    ]

    def run_of(*more: str) -> Run:
        return Run.of(str(dataset), "official", [*changes, *more])

    words = ["--dataset", str(dataset), *(word for each in changes for word in ("--set", each))]
    with families.known(family):
        families.write(folder, family)
        run = run_of()
        run.execute(run.stages, [], quiet=True)
        assert said("verify", *words).returncode == 0
        for stage in (each for each in run.stages if each.key not in compared):
            assert not list(differences(run.store, stage, stage.units(run.store)))
        compared.update(stage.key for stage in run.stages)
        (scores,) = run.named("scores")
        assert list(scores.methods) == chosen
        assert np.isfinite(run.store.open(scores).array("logits")[:]).all()
        _check_remarks(scores)
        _check_units(run, run_of("layout.images=3"))


def _check_remarks(scores: Scores) -> None:
    """Feature crops that the paper does not define are marked, for the methods that read them."""
    plain = scores.views["feature"].clip.vision.pooling == "class token"  # type: ignore[attr-defined]
    reading = {n for n, m in scores.methods.items() if "feature" in m.views(scores.config)}
    assert "abs" in reading
    assert "cupl" not in reading
    assert scores.remark_of == ({} if plain else dict.fromkeys(reading, OWN_DEFINITION))


def _check_units(run: Run, divided: Run) -> None:
    """In other units of images, vectors are the same but for rounding."""
    names = ("embeddings-image", "embeddings-feature")
    stages = [divided.named(name)[0] for name in names]
    divided.execute(needed(stages, divided.stages), [], quiet=True)
    for name in names:
        vectors, others = (
            each.store.open(each.named(name)[0]).array("embeddings")[:].astype(float)
            for each in (run, divided)
        )
        assert np.abs(vectors - others).max() <= 2.0**-11
