"""The bench of `Classifier` compares it with the same work: as many images, crops and windows."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import Classifier
from pipeline.bench.classifier import Alone, measure
from pipeline.models.clip.model import ClipModel
from tests.helpers.runs import DEMO

SMALL = {"scores.n": 4, "runtime.threads": 1}


@pytest.mark.slow
def test_models_alone_encode_what_the_classifier_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[tuple[str, int]] = []
    for name in ("encode_images", "encode_windows", "tokens_before"):
        real = getattr(ClipModel, name)

        def counting(self: Any, given: Any, *more: Any, real: Any = real, **named: Any) -> Any:
            rows = more[0] if real.__name__ == "encode_windows" else given
            encoded.append((real.__name__, len(rows)))
            return real(self, given, *more, **named)

        monkeypatch.setattr(ClipModel, name, counting)
    classifier = Classifier.of("demo", settings={"scores.methods": ["clip", "abs"], **SMALL})
    path = next((DEMO / "images").glob("*/*"))
    alone = Alone(classifier, path)
    encoded.clear()
    classifier(path)
    by_classifier = sorted(encoded)
    encoded.clear()
    alone()
    assert sorted(encoded) == by_classifier


@pytest.mark.slow
def test_the_bench_gives_both_times_and_their_ratio() -> None:
    found = measure(1, SMALL)
    assert found["classifier"] > 0 < found["models_alone"]
    assert found["ratio"] > 0
