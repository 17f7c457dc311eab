"""Figures show what is stored: positions, bands, crops and votes; files say what they came from."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from PIL import Image
from scipy.stats import binomtest

from pipeline import load
from pipeline.figures.lines import draw_lines
from pipeline.figures.make import Wanted, make_figure
from pipeline.figures.pictures import Pictures, show
from pipeline.figures.style import COLOURS, FORMATS, clipped, drawing, new_figure, save
from pipeline.run import Run
from pipeline.studies.paper import reported
from pipeline.studies.stored import StoredSweep
from tests.helpers.runs import ROOT, said

SMALL = ("scores.n=4",)


@pytest.fixture(autouse=True)
def _in_style() -> Any:
    with drawing():
        yield


def table(grids: list[dict[str, list[Any]]], methods: list[str], seeds: int = 1) -> pd.DataFrame:
    """A sweep's table of random results: each grid varies one setting or two."""
    rng, rows = np.random.default_rng(0), []
    for grid, over in enumerate(grids):
        points = [{}]
        for name, values in over.items():
            points = [{**point, name: value} for point in points for value in values]
        for point in points:
            for method in methods:
                fixed = {"grid": grid, "row": "", "dataset": "imagenet", "method": method}
                numbers = {"images": 50_000, "classes": 1000, "top1": rng.uniform(), "seeds": seeds}
                sigma = {"sigma": rng.uniform() if seeds > 1 else np.nan}
                rows.append({**fixed, **point, **numbers, **sigma})
    return pd.DataFrame(rows)


# --- Lines --------------------------------------------------------------------------------------

FIG4 = [{"crops.alpha": [0.1, 0.5, 0.3]}, {"scores.n": [10, 60]}, {"crops.k": [5, 20, 40]}]


def test_a_line_is_the_results_of_a_method_over_the_setting() -> None:
    given = table(FIG4, ["cupl", "abs"])
    panels = draw_lines(given).axes
    assert [panel.get_xlabel().split()[-1] for panel in panels] == ["α", "N", "K"]  # noqa: RUF001
    for panel, (field, *_) in zip(panels, FIG4, strict=True):
        for line, method in zip(panel.lines, ("cupl", "abs"), strict=True):
            rows = given[(given["method"] == method) & given[field].notna()].sort_values(field)
            assert line.get_xdata().tolist() == rows[field].tolist()
            assert line.get_ydata().tolist() == pytest.approx((100 * rows["top1"]).tolist())


@pytest.mark.parametrize("seeds", [1, 5])
def test_a_band_is_sigma_or_the_interval_of_one_seed(seeds: int) -> None:
    given = table(FIG4[:1], ["abs"], seeds)
    figure = draw_lines(given)
    (band,) = figure.axes[0].collections
    ends = band.get_paths()[0].vertices
    for row in given.itertuples():
        at = ends[np.isclose(ends[:, 0], row[given.columns.get_loc("crops.alpha") + 1]), 1]
        interval = binomtest(round(row.top1 * 50_000), 50_000).proportion_ci(method="wilson")
        low, high = interval if seeds == 1 else (row.top1 - row.sigma, row.top1 + row.sigma)
        assert (at.min(), at.max()) == pytest.approx((100 * low, 100 * high), abs=1e-4)
    assert ("σ over 5 seeds" if seeds > 1 else "95 % interval") in figure.get_suptitle()  # noqa: RUF001


def test_the_paper_stands_at_its_own_settings() -> None:
    with open(ROOT / "cfgs" / "reported.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    where = {"table": "1", "dataset": "imagenet", "backbone": "ViT-B/16"}
    printed = {r["method"]: float(r["top1"]) for r in rows if where.items() <= r.items()}
    found = reported("1", "imagenet").query("backbone == 'ViT-B/16' and method in ['CuPL', 'ABS']")
    found = found.assign(method=found["method"].str.lower(), table="1")
    for panel, place in zip(
        draw_lines(table(FIG4, ["cupl", "abs"]), found).axes, (0.5, 60, 20), strict=True
    ):
        points = [line for line in panel.lines if line.get_markerfacecolor() == "none"]
        at = {(line.get_xdata()[0], line.get_ydata()[0]) for line in points}
        assert at == {(place, printed["CuPL"]), (place, printed["ABS"])}


def test_crops_that_images_took_are_no_setting() -> None:
    given = table([{"scores.settle": [0.1, 0.01]}], ["cupl", "abs"])
    given["crops_used"] = [np.nan, 8.5, np.nan, 9.5]
    (panel,) = draw_lines(given).axes
    assert panel.get_xlabel() == "scores.settle"
    assert [line.get_xdata().tolist() for line in panel.lines] == [[0.01, 0.1]] * 2


def test_values_that_are_no_numbers_stand_side_by_side() -> None:
    over = {"attention.model": ["random", "clip", "a $x^2$ <b>"], "scores.soft": [True]}
    panel = draw_lines(table([over], ["abs"])).axes[0]
    assert panel.lines[0].get_xdata().tolist() == [0, 1, 2]
    assert [tick.get_text() for tick in panel.get_xticklabels()][2] == "a $x^2$ <b>"


@pytest.mark.slow
@settings(max_examples=5)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4),
    methods=st.integers(1, 9),
)
def test_every_setting_has_its_line(sizes: list[tuple[int, int]], methods: int) -> None:
    """With as many labels as lines, whatever varies; a grid without any line is no panel."""
    with drawing():
        grids = [
            {f"a.x{i}": list(range(n)), f"a.y{i}": list(range(m))} for i, (n, m) in enumerate(sizes)
        ]
        names = [f"m{i}" for i in range(methods)]
        drawn = [(n, m) for n, m in sizes if n * m > 1]
        if not drawn:
            return
        panels = [panel for panel in draw_lines(table(grids, names)).axes if panel.lines]
        expected = [methods * (min(n, m) if min(n, m) > 1 else 1) for n, m in drawn]
        assert [len(panel.lines) for panel in panels] == expected
        for panel in panels:
            assert len({line.get_label() for line in panel.lines}) == len(panel.lines)


# --- Files --------------------------------------------------------------------------------------


def test_files_say_what_they_were_drawn_from_and_are_the_same_again(tmp_path: Path) -> None:
    contents = []
    source = {"dataset": "<b> & $x$", "metrics": ["0123"]}
    for _ in range(2):
        figure = new_figure(2, 1)
        figure.subplots().set_title("$a_1$ <b>")
        written = save(figure, tmp_path / "new" / "a.b", FORMATS, "title", source)
        contents.append([path.read_bytes() for path in written])
    assert [path.name for path in written] == ["a.b.pdf", "a.b.svg", "a.b.png"]
    assert contents[0] == contents[1]
    with Image.open(written[2]) as image:
        assert json.loads(image.text["Description"]) == source
    assert b"$a_1$ &lt;b&gt;" in contents[0][1]
    assert b"0123" in contents[0][1]
    assert b"/Subject" in contents[0][0]


def test_colours_are_those_of_okabe_and_ito() -> None:
    published = {(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178)}
    published |= {(213, 94, 0), (204, 121, 167), (0, 0, 0)}
    assert {to_hex(colour) for colour in COLOURS} < {
        f"#{r:02x}{g:02x}{b:02x}" for r, g, b in published
    }


@given(st.text(max_size=400), st.integers(5, 60))
def test_a_clipped_text_is_one_short_line(text: str, length: int) -> None:
    found = clipped(text, length)
    assert len(found) <= length
    assert found.isprintable()


def test_without_matplotlib_the_command_says_what_to_install(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = said("figure", "fig4", tiny)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install 'abs-pipeline[report]'" in done.stderr


# --- Images -------------------------------------------------------------------------------------


def shown(panel: Any) -> np.ndarray:
    return np.asarray(panel.images[0].get_array())


def picture(run: Run, row: int) -> Image.Image:
    one = load.images("tiny").iloc[row]
    with Image.open(Path(run.settings.dataset.root[0]) / one["path"]) as image:
        return image.convert("RGB")


@pytest.fixture
def guided(made: Run, tiny: Path, tmp_path: Path) -> Path:
    """An experiment fig5 over two sources, of which the second is computed as far as crops."""
    sources = ["local-dir:pipeline/demo/models/attention", "random"]
    other = Run.of(str(tiny), "official", [*SMALL, "attention.model=random"])
    other.execute([s for s in other.stages if s.kind in ("attention", "crops")], [], quiet=True)
    path = tmp_path / "fig5.yaml"
    path.write_text(yaml.safe_dump({"grids": [{"over": {"attention.model": sources}}]}))
    return path


def test_each_source_shows_its_own_crops(made: Run, guided: Path, tiny: Path) -> None:
    wanted = Wanted(str(guided), str(tiny), ["6", "black-eyed_fantail/01.png"], overrides=SMALL)
    made_figure = make_figure(wanted)
    panels = np.array(made_figure.figure.axes).reshape(4, 7)
    for place, row in enumerate((6, 1)):
        pixels = picture(made, row)
        assert np.array_equal(shown(panels[2 * place, 0]), np.asarray(pixels))
        for source, name in enumerate(("attention", "random")):
            model = "random" if source else "local-dir:pipeline/demo/models/attention"
            line = panels[2 * place + source]
            assert line[1].get_title() == name
            stored = load.crops("tiny", "raw", **{"attention.model": model}).query("image == @row")
            boxes = stored[[f"box_{end}" for end in ("left", "top", "right", "bottom")]].to_numpy()
            for panel, box in zip(line[2:6], boxes, strict=True):
                assert np.array_equal(shown(panel), np.asarray(pixels.crop(tuple(box.tolist()))))
            assert not line[6].images  # there are four crops
    keys = made_figure.source["artifacts"]
    assert keys["attention"]["crops-raw"] == made.named("crops-raw")[0].key


def test_an_image_that_changed_is_said_in_its_place(made: Run) -> None:
    file = Path(made.settings.dataset.root[0]) / load.images("tiny").iloc[2]["path"]
    pictures = Pictures.of(made)
    file.write_bytes(file.read_bytes() + b"0")
    changed, whole = pictures.read(2), pictures.read(3)
    panels = new_figure(2, 1).subplots(1, 2)
    show(panels[0], changed)
    show(panels[1], whole)
    assert "gone or changed" in panels[0].texts[0].get_text()
    assert not panels[0].images
    assert panels[1].images


def test_what_is_missing_is_said_with_the_command_for_it(made: Run, tiny: Path) -> None:
    done = said("figure", "fig6", tiny, "--set", "scores.n=4 crops.k=3")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is missing; run: abs " in done.stderr


def votes(row: int) -> list[int]:
    """The class whose mean text is nearest to each raw crop of an image."""
    texts, vectors = load.texts("tiny"), np.asarray(load.text_embeddings("tiny")[:], np.float64)
    means = np.stack([vectors[texts["label"] == label].sum(axis=0) for label in (0, 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    crops = np.asarray(load.embeddings("tiny", "raw")[row], np.float64)
    return [int(vote) for vote in (crops @ means.T).argmax(axis=1)]


def test_errors_are_shown_by_the_agreement_of_their_crops(made: Run, tiny: Path) -> None:
    scores = load.scores("tiny", "clip")
    wrong = np.flatnonzero(~scores["correct"])
    labels = scores["label"].tolist()
    share = {int(i): float(np.mean([vote != labels[i] for vote in votes(i)])) for i in wrong}
    expected = sorted(share, key=lambda i: (-share[i], i))[:3]
    wanted = Wanted("fig6", str(tiny), count=3, method="clip", overrides=SMALL)
    found = make_figure(wanted)
    ids = load.images("tiny")["image_id"]
    assert list(found.source["images"]) == [ids[i] for i in expected]
    bars = found.figure.axes[len(expected)]
    texts = [text.get_text() for text in bars.texts]
    counts = Counter(votes(expected[0]))
    assert [text.rpartition(": ")[2] for text in texts if "(label)" not in text] == [
        f"{25 * count} %" for vote, count in counts.most_common() if vote != labels[expected[0]]
    ]
    assert len([text for text in texts if "(label)" in text]) == 1


def test_the_command_draws_a_stored_sweep(made: Run, tiny: Path, tmp_path: Path) -> None:
    sweep = StoredSweep.of(made.store, "mine", {"selection": "official"})
    sweep.write(table(FIG4[:1], ["abs"]), {"selection": "official"})
    path = tmp_path / "out" / "lines"
    done = said(
        "figure", "mine", tiny, "--out", path, "--format", "svg", "--format", "png", "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["files"] == [f"{path}.svg", f"{path}.png"]
    assert answer["source"]["sweep"] == sweep.name
    assert all(Path(file).stat().st_size for file in answer["files"])
    nothing = said("figure", "mine", tiny, "--out", tiny / "no" / "x")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)
