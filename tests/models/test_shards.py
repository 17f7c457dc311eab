"""Weights in several files: the same model as from one, or one line that says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.errors import AbsError
from pipeline.models import weights
from pipeline.models.clip.model import ClipModel
from pipeline.models.clip.source import ClipSource
from tests.helpers import transformers_models
from tests.helpers.shards import PICKLED, SAFE, divide, files_of, save
from tests.helpers.small_models import CPU, clip_source


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AltCLIP in one file."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    transformers_models.write(folder, "altclip")
    return folder


@pytest.fixture(params=[SAFE, PICKLED])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(whole: Path, kind: str, tmp_path: Path) -> Path:
    """The same model in three files."""
    shutil.copytree(whole, tmp_path / "model")
    divide(tmp_path / "model", kind)
    return tmp_path / "model"


def source_of(folder: Path) -> ClipSource:
    return clip_source(folder.parent, f"local-dir:{folder}")


def test_a_divided_model_is_the_same_model(whole: Path, folder: Path) -> None:
    one, several = (ClipModel(source_of(each), CPU) for each in (whole, folder))
    assert torch.equal(one.encode_texts(["a bird"]), several.encode_texts(["a bird"]))
    assert torch.equal(one.encode_images(one.black()), several.encode_images(one.black()))
    assert source_of(folder).scale(None) == source_of(whole).scale(None) != 100.0


def test_the_digest_is_of_all_files(folder: Path) -> None:
    before = source_of(folder).identity()
    assert source_of(folder).identity() == before
    for file in files_of(folder):
        content = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
        name = next(n for n in content if content[n].is_floating_point())
        save(content | {name: content[name] + 1}, file)
        after = source_of(folder).identity()
        assert after["weights"] != before["weights"]
        before = after


def test_one_file_counts_before_several(whole: Path, folder: Path) -> None:
    shutil.copy(whole / SAFE, folder)
    assert source_of(folder).identity() == source_of(whole).identity()


def test_an_index_may_be_given_where_a_file_may(folder: Path, kind: str) -> None:
    found = weights.read(folder / f"{kind}.index.json")
    assert "logit_scale" in found.tensors
    with pytest.raises(AbsError, match="it is part 1 of 3; give the folder, or the index"):
        weights.read(files_of(folder)[0])


# --- Faults ------------------------------------------------------------------------------------


def in_index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        (index,) = folder.glob("*.index.json")
        content = json.loads(index.read_text())
        change(content)
        index.write_text(json.dumps(content))

    return changed


def in_file(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Change the tensors of the second file."""

    def changed(folder: Path) -> None:
        file = files_of(folder)[1]
        content = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
        change(content)
        save(content, file)

    return changed


def cut(folder: Path) -> None:
    file = files_of(folder)[1]
    file.write_bytes(file.read_bytes()[:-10])


def pointer(folder: Path) -> None:
    files_of(folder)[1].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def twice_in_index(folder: Path) -> None:
    (index,) = folder.glob("*.index.json")
    text = index.read_text()
    index.write_text(text.replace('"logit_scale":', '"logit_scale": "x", "logit_scale":'))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file is missing": (lambda f: files_of(f)[1].unlink(), r"of which .*00002.* is not there$"),
    "two are": (
        lambda f: [each.unlink() for each in files_of(f)[1:]],
        "is not there, nor are 1 others",
    ),
    "cut short": (cut, r"00002.* (are not complete: .* bytes|cannot be loaded)"),
    "a pointer": (pointer, r"00002.*Git LFS pointer"),
    "a tensor is missing": (in_file(lambda c: c.pop(min(c))), r"is not in .*00002"),
    "a tensor is twice": (
        in_file(lambda c: c.update({"logit_scale": torch.ones(())})),
        r"logit_scale is in two files, .*00001.* and .*00002",
    ),
    "a tensor is more": (
        in_file(lambda c: c.update({"more": torch.ones(1)})),
        r"more in .*00002.* is not in the index",
    ),
    "twice in the index": (twice_in_index, "is not valid JSON"),
    "no map": (in_index(lambda c: c.pop("weight_map")), "no weight_map"),
    "an empty map": (in_index(lambda c: c["weight_map"].clear()), "no weight_map"),
    **{
        f"the place {place!r}": (
            in_index(lambda c, place=place: c["weight_map"].update(logit_scale=place)),  # type: ignore[misc]
            r"logit_scale is in .*, which is no file beside the index",
        )
        for place in ("../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 3, "a\\b")
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line(folder: Path, kind: str, fault: str) -> None:
    """Of safetensors before torch reads a tensor."""
    spoil, words = FAULTS[fault]
    spoil(folder)
    with pytest.raises(AbsError, match=words) as raised:
        _ = source_of(folder).resolved if kind == SAFE else ClipModel(source_of(folder), CPU)
    assert "\n" not in str(raised.value)


def test_nothing_of_a_pickle_runs(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "model")
    divide(tmp_path / "model", PICKLED)
    file = files_of(tmp_path / "model")[0]
    torch.save({**torch.load(file), "evil": Touch(tmp_path / "touched")}, file)
    with pytest.raises(AbsError, match=r"evil .* is not in the index"):
        ClipModel(source_of(tmp_path / "model"), CPU)
    assert not (tmp_path / "touched").exists()


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)
