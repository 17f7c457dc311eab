"""Class folders as people have them: nested, in other formats, with other files among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from pipeline.core.errors import AbsError, ConfigError
from pipeline.core.hash_cache import HashCache
from pipeline.core.paths import Paths
from pipeline.datasets.config import DatasetConfig
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.images import decode
from pipeline.datasets.listing import FOREIGN_FORMAT, LINKED, NOT_AN_IMAGE
from pipeline.datasets.readers.folder import read_folder
from tests.helpers.runs import said


def picture(path: Path, kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (120, 30, 60)).save(path, kind)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two class folders with an image each."""
    for name in ("cat", "dog"):
        picture(tmp_path / "images" / name / "0.png")
    return tmp_path / "images"


def dataset(root: Path, **more: object) -> Dataset:
    config = DatasetConfig(name="mine", root=(str(root),), **more)  # type: ignore[arg-type]
    store = root.parent / "store"
    return Dataset(config, Paths(artifacts=str(store)), HashCache(store / "sha256.json"))


def test_images_at_any_depth_belong_to_their_class(root: Path) -> None:
    for path in ("cat/a/1.png", "cat/a/b/2.png", "dog/x.y/3.png"):
        picture(root / path)
    found = read_folder(root)
    paths = ["cat/0.png", "cat/a/1.png", "cat/a/b/2.png", "dog/0.png", "dog/x.y/3.png"]
    assert found.samples == [(path, int(path[0] == "d")) for path in paths]
    assert not found.skipped


def test_every_format_that_pillow_opens_is_an_image(root: Path) -> None:
    kinds = {"a.jpe": "JPEG", "b.pgm": "PPM", "c.jp2": "JPEG2000", "d.avif": "AVIF", "e": "PNG"}
    kinds |= {"f.image": "WEBP", "g.tga": "TGA"}
    for name, kind in kinds.items():
        picture(root / "cat" / name, kind)
    found = read_folder(root)
    assert {path for path, _ in found.samples} == {
        "cat/0.png", "dog/0.png", *(f"cat/{name}" for name in kinds)
    }  # fmt: skip


def test_whatever_is_left_out_is_listed_with_its_reason(root: Path) -> None:
    picture(root / "beside.png")
    (root / "notes.md").write_text("# notes")
    (root / "cat" / "list.txt").write_text("0.png")
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "dog" / "again").symlink_to(root / "dog")
    (root / "dog" / ".hidden.png").write_bytes(b"")
    assert dict(read_folder(root).skipped) == {
        "beside.png": "not in a class folder",
        "notes.md": "not an image",
        "cat/list.txt": "not an image",
        "dog/again": LINKED,
        "dog/gone.png": "a link that leads nowhere",
    }


def test_other_files_do_not_stop_a_run_but_are_counted(tmp_path: Path, root: Path) -> None:
    for number in range(3):
        (root / "cat" / f"{number}.txt").write_text("no image")
    yaml = tmp_path / "mine.yaml"
    yaml.write_text(f"dataset: {{name: mine, root: {root}}}\n")
    done = said("doctor", yaml, ABS_ARTIFACTS=str(tmp_path / "store"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped: 3" in done.stdout


@pytest.mark.parametrize(
    "names",
    [
        "train test", "Train val Test", "test", "training_set test_set", "train2017 val2017",
        "seg_train seg_test seg_pred", "train test valid images-to-test", "fold_1 fold_2 fold_3",
        "Training Test test-multiple_fruits", "train test __MACOSX", "trainA trainB testA testB",
    ],
)  # fmt: skip
def test_splits_are_no_classes(tmp_path: Path, names: str) -> None:
    for name in names.split():
        picture(tmp_path / name.replace("-", " ") / "cat" / "0.png")
    with pytest.raises(AbsError, match=r"look like splits, not classes; set dataset\.root"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("names", "example"),
    [("train val", "val"), ("seg_train seg_test", "seg_test"), ("test train valid", "test")],
)
def test_no_training_images_are_suggested(tmp_path: Path, names: str, example: str) -> None:
    for name in names.split():
        picture(tmp_path / name / "cat" / "0.png")
    with pytest.raises(AbsError, match=f"such as {tmp_path / example}, or"):
        read_folder(tmp_path)


def test_folders_are_classes_if_the_user_says_so(tmp_path: Path) -> None:
    for name in ("train", "test"):
        picture(tmp_path / name / "0.png")
    with pytest.raises(AbsError, match=r"dataset\.folders_are_classes=true"):
        _ = dataset(tmp_path).samples
    assert dataset(tmp_path, folders_are_classes=True).classes.names == ("test", "train")


@pytest.mark.parametrize("names", ["images masks", "Images Annotations", "images", "img1 img2"])
def test_kinds_of_files_are_no_classes(tmp_path: Path, names: str) -> None:
    for name in names.split():
        picture(tmp_path / name / "0.png")
    with pytest.raises(AbsError, match="look like kinds of files, not classes"):
        read_folder(tmp_path)


@pytest.mark.parametrize("parts", [("color", "grayscale", "segmented"), ("a", "b", "notes")])
def test_variants_of_all_images_are_no_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts[:2]:
        for name in ("apple", "pear", f"only in {part}"):
            picture(tmp_path / part / name / "0.png")
    picture(tmp_path / parts[2] / "0.png")
    with pytest.raises(AbsError, match=f"{parts[0]}, {parts[1]} have the same sub-folders"):
        read_folder(tmp_path)


@pytest.mark.parametrize("copy", ["flowers", "train"])
def test_a_copy_of_the_classes_among_them_is_no_class(tmp_path: Path, copy: str) -> None:
    for name in ("daisy", "rose", "tulip"):
        picture(tmp_path / name / "0.png")
    for name in ("rose", "tulip", "of another kind"):
        picture(tmp_path / copy / name / "0.png")
    with pytest.raises(AbsError, match=f"the folders {copy} hold folders called like those beside"):
        read_folder(tmp_path)
    assert len(read_folder(tmp_path, folders_are_classes=True).classes) == 4


@pytest.mark.parametrize(
    "names",
    [
        "bullet_train test_tube car bus cup pan pot map pen ink", "steam_train bullet_train",
        "eye_test blood_test", "train bus car", "with_mask without_mask", "image_cat image_dog",
        "contest latest", "valley validator", "test_tube training_shoes beaker",
        "train_station test_pattern cathedral bus",
    ],
)  # fmt: skip
def test_names_of_classes_that_sound_like_splits_are_read(tmp_path: Path, names: str) -> None:
    for name in names.split():
        picture(tmp_path / name / "images" / "0.png")
    assert len(read_folder(tmp_path).classes) == len(names.split())


def test_classes_with_images_beside_the_same_sub_folders_are_read(root: Path) -> None:
    for path in ("cat/old/1.png", "cat/new/1.png", "dog/old/1.png", "dog/new/1.png"):
        picture(root / path)
    assert len(read_folder(root).samples) == 6


def test_links_within_the_dataset_are_not_followed(tmp_path: Path, root: Path) -> None:
    """They would label an image twice, or lead in a circle; links to other places are images."""
    picture(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "elsewhere" / "back").symlink_to(root / "dog")
    for path, target in {
        "cat/loop": "..", "cat/alias": "../dog", "puppy": "dog", "all": tmp_path,
        "dog/more": tmp_path / "elsewhere", "dog/once more": tmp_path / "elsewhere",
    }.items():  # fmt: skip
        (root / path).symlink_to(target)
    found = read_folder(root)
    assert found.samples == [("cat/0.png", 0), ("dog/0.png", 1), ("dog/more/1.png", 1)]
    links = {"all", "puppy", "cat/loop", "cat/alias", "dog/more/back", "dog/once more"}
    assert dict(found.skipped) == dict.fromkeys(links, LINKED)


@pytest.mark.parametrize("suffix", ["heic", "HEIF", "cr2", "nef", "arw", "dng", "jxl", "svg"])
def test_images_in_other_formats_count_as_images(root: Path, suffix: str) -> None:
    (root / "cat" / f"1.{suffix}").write_bytes(b"of another program")
    assert read_folder(root).skipped == [(f"cat/1.{suffix}", FOREIGN_FORMAT)]


def test_the_thumbnail_of_a_raw_file_is_not_taken_for_it(root: Path) -> None:
    picture(root / "cat" / "1.nef", "TIFF")
    picture(root / "cat" / "2.heic", "JPEG")
    found = read_folder(root)
    assert found.skipped == [("cat/1.nef", FOREIGN_FORMAT)]
    assert [path for path, _ in found.samples] == ["cat/0.png", "cat/2.heic", "dog/0.png"]


STARTS = {
    "h5": b"\x89HDF\r\n\x1a\n", "hdf": b"\x89HDF\r\n\x1a\n", "mpg": b"\x00\x00\x01\xb3\x00\x10\x01",
    "grib": b"GRIB\x00\x00\x00\x01", "bufr": b"BUFR", "wmf": b"\xd7\xcd\xc6\x9a\x00\x00",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n",
}  # fmt: skip
STARTS["ps"] = STARTS["eps"]


@pytest.mark.parametrize("suffix", STARTS)
def test_formats_that_pillow_leaves_to_others_are_never_opened(root: Path, suffix: str) -> None:
    """Pillow recognises them, and would start Ghostscript for EPS."""
    for name in (f"1.{suffix}", "1.unknown", "1.png"):
        (root / "cat" / name).write_bytes(STARTS[suffix] + bytes(100))
    others = {f"cat/1.{suffix}": NOT_AN_IMAGE, "cat/1.unknown": NOT_AN_IMAGE}
    assert dict(read_folder(root).skipped) == others
    with pytest.raises(UnidentifiedImageError):
        decode((root / "cat" / "1.png").read_bytes())


@pytest.mark.parametrize("folders", [["images"], ["a", "b"]])
@pytest.mark.parametrize(
    ("name", "content", "reader"),
    [
        ("metadata.csv", "file_name,label\nimages/0.png,cat\n", "manifest"),
        ("metadata.jsonl", '{"file_name": "images/0.png", "label": "cat"}', "manifest"),
        ("labels.csv", "path,label\nimages/0.png,cat\n", "manifest"),
        ("all.jsonl", '{"path": "images/0.png", "label": "cat"}', "manifest"),
        ("split_zhou_Birds.json", '{"test": [["0.png", 0, "cat"]]}', "coop"),
    ],
)
def test_folders_beside_a_table_of_labels_are_no_classes(
    tmp_path: Path, folders: list[str], name: str, content: str, reader: str
) -> None:
    for folder in folders:
        picture(tmp_path / folder / "0.png")
    (tmp_path / name).write_text(content)
    with pytest.raises(AbsError, match=rf"{name} labels the images.* dataset\.reader={reader}"):
        read_folder(tmp_path)


def test_class_folders_beside_a_table_without_labels_are_classes(root: Path) -> None:
    (root / "metadata.csv").write_text("file_name,photographer\ncat/0.png,Ada\n")
    assert ("metadata.csv", NOT_AN_IMAGE) in read_folder(root).skipped


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dog", "dog"),
        ("caf\u00e9", "cafe\u0301"),
        ("dog", "dog "),
        ("hot dog", "hot\u00a0dog"),
        ("hot dog", "hot  dog"),
        ("apple_pie", "Apple pie"),
        ("dog", "\ufeffdog"),
        ("dog", "dog\u200f"),
        ("dog", "dog\u200d"),
        ("dog", "dog\ufe0f"),
    ],
)
def test_spellings_of_one_name_are_no_two_classes(tmp_path: Path, one: str, other: str) -> None:
    for name in (one, other):
        picture(tmp_path / name / "0.png")
    with pytest.raises(AbsError, match="differ only in space, underscores, case, invisible") as why:
        _ = dataset(tmp_path).samples
    assert all(shown in str(why.value) for shown in (ascii(one), ascii(other))) or other.isascii()


def test_names_of_classes_are_in_normal_form(tmp_path: Path) -> None:
    for name in ("cafe\u0301_au  lait", "tea"):
        picture(tmp_path / name / "0.png")
    assert [one.name for one in read_folder(tmp_path).classes] == ["caf\u00e9 au lait", "tea"]


def test_a_link_in_a_circle_is_skipped(root: Path) -> None:
    (root / "cat" / "loop.jpg").symlink_to("loop.jpg")
    assert read_folder(root).skipped == [("cat/loop.jpg", "a link that leads nowhere")]


def test_one_class_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "cat" / "0.png")
    with pytest.raises(AbsError, match=r"one class alone, 'cat', .*dataset\.single_class=true"):
        _ = dataset(tmp_path / "images").samples
    assert len(dataset(tmp_path / "images", single_class=True).samples) == 1
    names = tmp_path / "all.json"
    names.write_text(json.dumps(["cat", "dog"]))
    assert len(dataset(tmp_path / "images", vocabulary=str(names)).samples) == 1


@pytest.mark.parametrize("folders", [("0", "1", "10"), ("n01440764", "n02123045", "n02510455")])
def test_identifiers_are_no_names(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for folder in folders:
        picture(tmp_path / "images" / folder / "0.png")
    with pytest.raises(ConfigError, match=r"dataset\.names: classes have identifiers for names"):
        _ = dataset(tmp_path / "images").samples
    names = tmp_path / "names.json"
    names.write_text(json.dumps({folder: f"the {folder}" for folder in folders}))
    named = dataset(tmp_path / "images", names=str(names))
    assert named.classes.names == tuple(f"the {folder}" for folder in folders)


def test_a_list_names_numbered_folders_by_number(tmp_path: Path) -> None:
    for folder in ("0", "1", "2", "10"):
        picture(tmp_path / "images" / folder / "0.png")
    names = tmp_path / "names.json"
    names.write_text(json.dumps([f"class {number}" for number in range(11)]))
    found = dataset(tmp_path / "images", names=str(names))
    labels = dict(found.samples)
    assert found.classes.names[labels["10/0.png"]] == "class 10"
    assert found.classes.names[labels["2/0.png"]] == "class 2"
