"""The files of a report: what they hold, what they leave alone, and text that stays text."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.core.errors import ConfigError, MissingInput
from pipeline.report import write
from pipeline.report.choice import Choice
from pipeline.report.seen import token_grid
from pipeline.report.stored import StoredRun, find_run
from pipeline.report.write import write_report
from tests.helpers.runs import said, write_dataset
from tests.report.conftest import HOSTILE

PAGES = ("index.html", "crops.html")


class Parsed(HTMLParser):
    """Tags, addresses, text, and the data of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.places: list[str] = []
        self.text, self.data, self._inside = "", "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.places += [str(values[name]) for name in ("src", "href") if name in values]
        self._inside = "data" if values.get("id") == "data" else tag

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        else:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def data_of(folder: Path, page: str) -> Any:
    return json.loads(Parsed((folder / page).read_text()).data)


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_pages_name_only_files_of_the_folder(report: Path) -> None:
    for page in PAGES:
        places = Parsed((report / page).read_text()).places
        assert places
        for place in places:
            assert place.startswith(("#", "data:")) or (report / place).is_file(), place
    assert (report / "thumbnails").is_dir()


def test_the_table_of_methods_has_the_stored_figures(report: Path, run: StoredRun) -> None:
    text = Parsed((report / "index.html").read_text()).text
    for row in run.artifact("metrics").table("metrics").to_dict("records"):
        for name in ("top1", "top1_ci_low", "top1_ci_high", "top5", "ece"):
            assert f"{100 * row[name]:.2f}" in text


def test_contributions_add_up_to_the_stored_scores(report: Path, run: StoredRun) -> None:
    page = data_of(report, "crops.html")
    logits = run.artifact("scores").array("logits")
    labels, place = logits.attrs["labels"], logits.attrs["methods"].index("abs")
    for entry in page["entries"]:
        sums = [branch["sums"] for branch in entry["branches"].values()]
        for i, label in enumerate(entry["classes"]):
            stored = float(logits[entry["row"], place, labels.index(label)])
            assert sum(each[i] for each in sums) == pytest.approx(stored, abs=3e-6)
        added = [crop["added"] for b in entry["branches"].values() for crop in b["crops"]]
        pred = entry["classes"].index(entry["pred"])
        assert sum(each[0] for each in added) == pytest.approx(sum(s[pred] for s in sums), abs=2e-5)
        counts = [crop["count"] for b in entry["branches"].values() for crop in b["crops"]]
        assert sum(counts) == 2 * run.settings.scores.n


def test_windows_lie_in_what_clip_sees_of_the_image(report: Path) -> None:
    page = data_of(report, "crops.html")
    oblong = [e for e in page["entries"] if e["width"] != e["height"]]
    assert oblong
    for entry in oblong:  # CLIP resizes the short side and keeps the centre
        left, top, right, bottom = entry["seen"]
        short = min(entry["width"], entry["height"])
        assert right - left == pytest.approx(short, rel=0.02)
        assert bottom - top == pytest.approx(short, rel=0.02)
        assert (left + right) / 2 == pytest.approx(entry["width"] / 2, abs=2)
        assert (top + bottom) / 2 == pytest.approx(entry["height"] / 2, abs=2)


def test_text_stays_text(report: Path, run: StoredRun, tmp_path: Path) -> None:
    for name in PAGES:
        page = data_of(report, name)
        plain = Parsed(write._rendered(name, run, page).decode())
        if name == "index.html":
            page["remarks"] = [{"text": text, "files": [text]} for text in HOSTILE]
            page["names"][: len(HOSTILE)] = HOSTILE[: len(page["names"])]
            page["reproduction"]["settings"] = [[text, text] for text in HOSTILE]
        else:
            page["texts"] = [[0, text] for text in HOSTILE]
        found = Parsed(write._rendered(name, run, page).decode())
        assert json.loads(found.data) == json.loads(json.dumps(page))
        assert found.tags.count("script") == plain.tags.count("script")
        assert not {"img", "b"} & set(found.tags)
        if name == "index.html":
            assert all(text in found.text for text in HOSTILE)


def test_a_run_of_an_installed_package_is_of_no_commit(report: Path, run: StoredRun) -> None:
    """Manifests have a commit only where the code is a checkout of git."""
    page = data_of(report, "index.html")
    page["reproduction"] |= {"code": {}, "machine": {}}
    text = Parsed(write._rendered("index.html", run, page).decode()).text
    assert "Code: commit" not in text
    assert "Machine: unknown." in text
    page["reproduction"]["code"] = {"commit": "0123abc", "dirty": True}
    text = Parsed(write._rendered("index.html", run, page).decode()).text
    assert "Code: commit 0123abc, with changes that are not committed." in text


def test_a_store_is_only_read(finished: Path, tmp_path: Path) -> None:
    before = digests(finished)
    write_report(find_run("tiny", place=finished), tmp_path / "report", Choice(count=1), say=_quiet)
    assert digests(finished) == before


def _quiet(line: str) -> None:
    return


def test_a_copy_at_an_address_gives_the_same_report(
    finished: Path, report: Path, tmp_path: Path
) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(finished), "/report-copy", recursive=True)
    run = find_run("tiny", place="memory://report-copy")
    write_report(run, tmp_path / "report", Choice(), say=_quiet)
    for name in PAGES:
        mine, other = data_of(tmp_path / "report", name), data_of(report, name)
        for page in (mine, other):
            page.pop("differences", None)
        assert mine == other
    system.rm("/report-copy", recursive=True)


def test_images_that_are_gone_or_changed_are_said_in_their_place(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path)
    images = sorted((tmp_path / "images").rglob("*.png"))
    images[0].unlink()
    images[1].write_bytes(images[2].read_bytes())
    run = find_run(str(tmp_path / "tiny.yaml"), overrides=["scores.n=4"], place=finished)
    write_report(run, tmp_path / "report", Choice(), say=_quiet)
    found = [entry["picture"] for entry in data_of(tmp_path / "report", "crops.html")["entries"]]
    gone = [picture["gone"] for picture in found if "gone" in picture]
    assert len(gone) == 2
    assert any("No such file" in text for text in gone)
    assert any("changed since it was indexed" in text for text in gone)
    shutil.rmtree(tmp_path / "images")
    write_report(run, tmp_path / "report", Choice(), say=_quiet)
    found = [entry["picture"] for entry in data_of(tmp_path / "report", "crops.html")["entries"]]
    assert all("not found" in picture["gone"] for picture in found)
    assert not list((tmp_path / "report" / "thumbnails").iterdir())  # none that is not shown


def test_thumbnails_are_written_once(report: Path, run: StoredRun, tmp_path: Path) -> None:
    shutil.copytree(report, tmp_path / "report")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "report" / "thumbnails").iterdir()}
    write_report(run, tmp_path / "report", Choice(), say=_quiet)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_folder_with_other_files_is_refused(run: StoredRun, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        write_report(run, tmp_path, Choice(), say=_quiet)
    with pytest.raises(ConfigError, match="is a file"):
        write_report(run, tmp_path / "mine.txt", Choice(), say=_quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]


def test_without_its_packages_a_report_says_what_to_install(
    run: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(MissingInput, match=r"pip install 'abs-pipeline\[report\]'"):
        write_report(run, tmp_path / "report", Choice(), say=_quiet)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--class", "no such bird"], "no class 'no such bird'"),
        (["--images", "99"], "no image 99"),
        (["--method", "absa"], "method 'absa' is not scored; did you mean 'abs'"),
        (["--set", "scores.n=3"], "run: abs run with the same options"),
        (["--store", "/no/such/place"], "no run of dataset 'tiny'"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    finished: Path,
    tmp_path: Path,
    words: list[str],
    reason: str,
) -> None:
    out = tmp_path / "out"
    done = said("report", "tiny", "--out", out, *words, ABS_ARTIFACTS=str(finished))
    assert done.returncode
    assert reason in done.stderr
    assert done.stderr.splitlines()[-1].startswith("abs: ")
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_the_command_prints_the_first_page(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = ["--images", "0", "--images", "5"]
    done = said("report", "tiny", "--out", out, *images, ABS_ARTIFACTS=str(finished))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out / "index.html")
    assert [entry["row"] for entry in data_of(out, "crops.html")["entries"]] == [0, 5]
    assert re.search(r"nearest of 1 finished runs has \w+", done.stderr)


@pytest.mark.parametrize(
    ("model", "weights", "tokens", "mode"),
    [
        ("ViT-B-16", "openai", 14, "shortest"),
        ("ViT-L-14", "random:0", 16, "shortest"),
    ],
)
def test_what_clip_sees_is_known_without_weights(
    run: StoredRun, tmp_path: Path, model: str, weights: str, tokens: int, mode: str
) -> None:
    clip = run.settings.clip.model_copy(update={"model": model, "weights": weights})
    paths = run.settings.paths.model_copy(update={"artifacts": str(tmp_path)})
    grid = token_grid(run.settings.model_copy(update={"clip": clip, "paths": paths}))
    assert grid is not None
    assert (grid.tokens, grid.mode) == (tokens, mode)
    assert not list(tmp_path.iterdir())


def test_what_an_unknown_model_sees_is_not_guessed(run: StoredRun) -> None:
    for model, weights in (("local-dir:gone", None), ("hf-hub:a/b", None), ("ViT-B-16", "a/b.pt")):
        clip = run.settings.clip.model_copy(update={"model": model, "weights": weights})
        assert token_grid(run.settings.model_copy(update={"clip": clip})) is None
