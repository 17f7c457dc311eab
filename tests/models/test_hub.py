"""Where weights are looked for, what is fetched, and what is said when they are nowhere."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import open_clip.factory
import open_clip.pretrained
import pytest
from huggingface_hub import constants

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.models.hub import Repository
from tests.helpers import small_models, transformers_models
from tests.helpers.runs import ROOT
from tests.helpers.shards import SAFE, divide, files_of
from tests.helpers.small_models import clip_source, vit_source

TAG = {
    "hf_hub": "owner/tiny-clip/",
    "url": "https://example.org/0123/Tiny.pt",
    "quick_gelu": True,
    "mean": [0.5, 0.5, 0.5],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's default cache, empty; and no connection."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A small architecture that open_clip knows by name, with a tag `openai`."""
    config = small_models.clip_config(56, 8)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-quickgelu", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-quickgelu", {"openai": TAG})
    return "tiny-quickgelu"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CLIP in open_clip's layout."""
    small_models.write_clip(tmp_path / "model", 56, 8)
    return tmp_path / "model"


# --- A tag's weights -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "weights/owner/tiny-clip/open_clip_model.safetensors",
        "weights/tiny-clip/open_clip_pytorch_model.bin",
        "weights/Tiny.pt",
    ],
)
def test_a_tag_is_found_in_a_folder_of_weights(tmp_path: Path, tiny_name: str, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    source = clip_source(tmp_path, tiny_name, "openai", weights_dir=tmp_path / "weights")
    assert source.resolved.file == file
    assert source.resolved.architecture["preprocess"] == {"mean": [0.5, 0.5, 0.5]}
    assert source.identity()["weights"] == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize("place", ["cache", "weights"])
def test_a_tag_is_found_in_a_cache_of_the_hub(
    tmp_path: Path, tiny_name: str, folder: Path, place: str
) -> None:
    snapshot = small_models.write_repository(folder, tmp_path / place, "owner/tiny-clip")
    (tmp_path / "weights").mkdir(exist_ok=True)
    (tmp_path / "weights" / "Tiny.pt").write_bytes(b"the same, but second choice")
    source = clip_source(tmp_path, tiny_name, "openai", weights_dir=tmp_path / "weights")
    assert source.resolved.file == snapshot / "open_clip_model.safetensors"


def test_the_file_of_dinos_first_publication_is_found(tmp_path: Path) -> None:
    file = tmp_path / "dino_deitsmall16_pretrain.pth"
    file.write_bytes(b"weights")
    name = "vit_small_patch16_224.dino"
    assert vit_source(tmp_path, name, "pretrained", weights_dir=tmp_path).resolved.file == file


def test_weights_that_are_nowhere_are_named_with_every_place_and_what_to_do(
    tmp_path: Path, tiny_name: str, cache: Path
) -> None:
    started = time.perf_counter()
    with pytest.raises(MissingInput) as caught:
        _ = clip_source(tmp_path, tiny_name, "openai", weights_dir=tmp_path / "w").resolved
    assert time.perf_counter() - started < 2
    assert str(caught.value) == (
        "owner/tiny-clip: open_clip_model.safetensors or open_clip_pytorch_model.bin or Tiny.pt "
        f"not found in {tmp_path}/w, {cache}, {tmp_path}/w/owner/tiny-clip, {tmp_path}/w/tiny-clip "
        "and cannot be fetched (OfflineModeIsEnabled); put it into a folder and add --weights-dir "
        "FOLDER, or set clip.weights to a file"
    )
    with pytest.raises(MissingInput, match=r"model\.safetensors .*, or set attention.weights to"):
        _ = vit_source(tmp_path, "vit_base_patch16_224.dino", "pretrained").resolved


# --- A repository with everything ------------------------------------------------------------


@pytest.mark.parametrize("place", ["cache", "hub layout", "owner/name", "name"])
def test_a_repository_is_the_same_model_as_its_folder(
    tmp_path: Path, folder: Path, place: str, cache: Path
) -> None:
    weights = tmp_path / "weights"
    expected = clip_source(tmp_path, f"local-dir:{folder}").identity()
    for junk in ("README.md", ".gitattributes", "tokenizer.json", "open_clip_pytorch_model.bin"):
        (folder / junk).write_text("{}")
    if place in ("cache", "hub layout"):
        where = cache if place == "cache" else weights
        small_models.write_repository(folder, where, "owner/tiny-clip")
    else:
        copy = weights / ("owner/tiny-clip" if place == "owner/name" else "tiny-clip")
        shutil.copytree(folder, copy)
    source = clip_source(tmp_path, "hf-hub:owner/tiny-clip", weights_dir=weights)
    assert source.identity() == expected
    assert (source.grid, source.layers, source.dim) == (7, 3, 24)
    assert clip_source(tmp_path, f"local-dir:{folder}").identity() == expected


def test_a_repository_is_remembered_until_its_folder_is_gone(
    tmp_path: Path, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_models.write_repository(folder, cache, "owner/tiny-clip")
    first = clip_source(tmp_path, "hf-hub:owner/tiny-clip").identity()
    with monkeypatch.context() as patched:
        patched.delattr(Repository, "folder")
        assert clip_source(tmp_path, "hf-hub:owner/tiny-clip").identity() == first
    shutil.rmtree(cache)
    with pytest.raises(MissingInput, match=r"or set clip.model to local-dir:FOLDER$"):
        clip_source(tmp_path, "hf-hub:owner/tiny-clip").identity()


def test_a_repository_may_be_the_attention_model(tmp_path: Path, cache: Path) -> None:
    small_models.write_vit(tmp_path / "m", "vit_tiny_patch16_224", img_size=64, depth=2)
    small_models.write_repository(tmp_path / "m", cache, "owner/vit")
    vit = vit_source(tmp_path, "hf-hub:owner/vit").load(small_models.CPU)
    assert (vit.layers, vit.grid) == (2, 4)


@pytest.mark.parametrize("source", [clip_source, vit_source])
def test_a_repository_brings_its_own_weights(tmp_path: Path, source: Any) -> None:
    with pytest.raises(ConfigError, match=r"hf-hub:a/b brings its own weights; set it to null"):
        _ = source(tmp_path, "hf-hub:a/b", "openai").resolved
    for name in ("a", "a/", "/b", "a/b/c", "a/b@main", "", "a b/c", "a--b/c", "../b", "a/b.git"):
        with pytest.raises(ConfigError, match="write hf-hub:OWNER/NAME"):
            _ = source(tmp_path, f"hf-hub:{name}").resolved


def test_the_files_of_a_tokenizer_count_where_the_model_reads_them(
    tmp_path: Path, folder: Path
) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "owner/words"
    path.write_text(json.dumps(config))
    with pytest.raises(AbsError, match="has no files of the tokenizer owner/words"):
        _ = clip_source(tmp_path, f"local-dir:{folder}").resolved
    found = []
    for content in ("{}", "[]"):
        (folder / "tokenizer.json").write_text(content)
        found.append(clip_source(tmp_path, f"local-dir:{folder}").identity())
    assert found[0]["extra"] != found[1]["extra"]
    assert len(found[0]["extra"]) == 1


@pytest.mark.parametrize("content", ["[]", "{}", '{"model_cfg": 3}', "{"])
def test_a_folder_with_another_configuration_is_one_line(
    tmp_path: Path, folder: Path, content: str
) -> None:
    (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(AbsError, match=r"^model configuration .*open_clip_config.json"):
        _ = clip_source(tmp_path, f"local-dir:{folder}").vision


# --- Fetching --------------------------------------------------------------------------------


@pytest.fixture
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine that has the folder as a repository: address, and what was asked."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            asked.append(f"{self.command} {self.path}")
            file = folder / self.path.rpartition("/")[2]
            content = file.read_bytes() if file.is_file() else b""
            if self.path == "/api/models/owner/tiny-clip":
                siblings = [{"rfilename": path.name} for path in folder.iterdir()]
                content = json.dumps({"id": "owner/tiny-clip", "siblings": siblings}).encode()
            self.send_response(200 if content else 404)
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.mark.subprocess
def identity_through(address: str, folder: Path, **environment: str) -> str:
    code = f"""
from pathlib import Path
from pipeline.core.errors import AbsError
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.models.clip.source import ClipSource
from pipeline.models.config import ClipConfig
folder = Path({str(folder)!r})
parts = Paths(artifacts=str(folder / "store"), weights=str(folder)), HashCache(folder / "digests")
try:
    source = ClipSource(ClipConfig(model="hf-hub:owner/tiny-clip", weights=None), *parts)
    print(source.identity())
except AbsError as error:
    print(error)
"""
    places = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), **environment}
    places = {name: value for name, value in places.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=places
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_a_repository_is_fetched_once_without_what_is_no_part_of_the_model(
    tmp_path: Path, folder: Path, hub: tuple[str, list[str]]
) -> None:
    (folder / "README.md").write_text("# Tiny")
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"not needed beside safetensors")
    (folder / "tokenizer.json").write_text("{}")
    address, asked = hub
    expected = str(clip_source(tmp_path, f"local-dir:{folder}").identity())
    place = tmp_path / "place"
    place.mkdir()
    assert identity_through(address, place) == expected
    fetched = {path.rpartition("/")[2] for path in asked if path.startswith("GET /owner/")}
    needed = {"open_clip_config.json", "open_clip_model.safetensors", "merges.txt.gz"}
    assert fetched == {"tokenizer.json", *needed}
    count = len(asked)
    shutil.rmtree(place / "store")
    assert identity_through(address, place, HF_HUB_OFFLINE="1") == expected
    assert len(asked) == count


@pytest.mark.slow
def test_a_repository_with_weights_in_several_files_is_fetched_whole(
    tmp_path: Path, folder: Path, hub: tuple[str, list[str]]
) -> None:
    shutil.rmtree(folder)
    transformers_models.write(folder, "altclip")
    divide(folder, SAFE)
    expected = str(clip_source(tmp_path, f"local-dir:{folder}").identity())
    place = tmp_path / "place"
    place.mkdir()
    assert identity_through(hub[0], place) == expected
    fetched = {path.rpartition("/")[2] for path in hub[1] if path.startswith("GET /owner/")}
    assert {file.name for file in files_of(folder)} < fetched
    shutil.rmtree(place / "store")
    assert identity_through(hub[0], place, HF_HUB_OFFLINE="1") == expected
    (part,) = place.rglob(files_of(folder)[1].name)
    part.unlink()
    shutil.rmtree(place / "store")
    assert "cannot be fetched" in identity_through(hub[0], place, HF_HUB_OFFLINE="1")
    assert identity_through(hub[0], place) == expected


@pytest.mark.slow
def test_a_repository_without_the_file_is_told_apart_from_one_that_cannot_be_reached(
    tmp_path: Path, folder: Path, hub: tuple[str, list[str]]
) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    assert "cannot be fetched (the repository has no such file)" in identity_through(
        hub[0], tmp_path / "a"
    )
    started = time.perf_counter()
    assert "cannot be fetched (ConnectError)" in identity_through(
        "http://127.0.0.1:9", tmp_path / "b"
    )
    assert time.perf_counter() - started < 20
