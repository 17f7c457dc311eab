"""The ten datasets as their authors' archives unpack, and as others arrange them.

Every tree is written here, a few classes and images of each, in the order and with the traps of the
real one. What is asserted are labels and names, by hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from pipeline.core.errors import AbsError, MissingInput
from pipeline.datasets.dataset import Dataset
from pipeline.datasets.listing import LINKED
from pipeline.datasets.readers.imagenet import read_imagenet
from pipeline.first_steps.doctor import only_index
from pipeline.run import Run
from stages.index import Index

Tree = Callable[[Path], None]

TENCH, GOLDFISH, EFT, NEWT = "n01440764", "n01443537", "n01631663", "n01630670"
MISSILE, PROJECTILE = "n03773504", "n04008634"


def picture(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (colour % 256, 90, 90)).save(path, "JPEG")


def pictures(root: Path, names: Iterable[str]) -> None:
    for number, name in enumerate(names):
        picture(root / name, number)


def written(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path / "store"))
    (tmp_path / "data").mkdir()


def dataset(name: str, *changes: str, profile: str = "official") -> Dataset:
    run = Run.of(name, profile, changes, plan=only_index)
    (index,) = run.stages
    assert isinstance(index, Index)
    run.execute([index], [], quiet=True)
    return index.dataset


def named(found: Dataset) -> dict[str, str]:
    """The name of each image's class, by its path."""
    return {path: found.classes.names[label] for path, label in found.samples}


# --- ImageNet and its relatives ---------------------------------------------------------------

PLACES = {
    "imagenet": [
        "imagenet/val",
        "imagenet/images/val",
        "ILSVRC2012/val",
        "imagenet",
        "ILSVRC/Data/CLS-LOC/val",
    ],
    "imagenet-r": ["imagenet-r", "imagenet-rendition/imagenet-r"],
    "imagenet-a": ["imagenet-a", "imagenet-adversarial/imagenet-a"],
    "imagenet-sketch": ["sketch", "imagenet-sketch/sketch", "imagenet-sketch/images"],
}


@pytest.mark.parametrize(("name", "place"), [(n, p) for n in PLACES for p in PLACES[n]])
def test_folders_of_wnids(tmp_path: Path, name: str, place: str) -> None:
    """Labels are places among 1000 wnids, though few of them are there."""
    root = tmp_path / "data" / place
    pictures(root, [f"{TENCH}/b.JPEG", f"{EFT}/a.jpg", f"{TENCH}/a.jpg", f"{PROJECTILE}/x.jpeg"])
    written(root / "README.txt", "not an image")
    found = dataset(name)
    assert found.root == root
    labels = {f"{TENCH}/a.jpg": 0, f"{TENCH}/b.JPEG": 0, f"{EFT}/a.jpg": 27}
    assert dict(found.samples) == labels | {f"{PROJECTILE}/x.jpeg": 744}
    assert len(found.classes.names) == 1000
    assert named(found)[f"{EFT}/a.jpg"] == "newt"
    there = [label for label, present in enumerate(found.classes.present) if present]
    assert there == ([0, 27, 744] if name in ("imagenet-r", "imagenet-a") else list(range(1000)))


def test_classes_of_one_name_and_what_prompt_files_know_them_by(tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "imagenet" / "val", [f"{MISSILE}/a.jpg", f"{PROJECTILE}/a.jpg"])
    kept, unique = dataset("imagenet"), dataset("imagenet", profile="aligned")
    assert (kept.classes.names[657], kept.classes.names[744]) == ("missile", "missile")
    assert (unique.classes.names[657], unique.classes.names[744]) == ("missile", "projectile")
    assert kept.classes.aliases[744] == ("projectile", "missile")
    assert kept.classes.aliases[27] == ("newt", "eft")
    assert len(set(kept.classes.names)) == 998
    assert len(set(unique.classes.names)) == 1000


def test_descriptors_under_openais_names(tmp_path: Path) -> None:
    """CLIP-D's file calls four classes otherwise; sentences then do so too."""
    pictures(tmp_path / "data" / "imagenet" / "val", [f"{EFT}/a.jpg", f"{PROJECTILE}/a.jpg"])
    names = list(dataset("imagenet").classes.names)
    names[27], names[744], names[638], names[836] = "eft", "projectile", "maillot", "sunglass"
    file = tmp_path / "clip-d.json"
    file.write_text(json.dumps({name: [f"{n} spots"] for n, name in enumerate(names)}))
    change = f"descriptions.clip-d.file={file}"
    run = Run.of(
        "imagenet", "official", [change, "clip.weights=random:0", "scores.methods=[clip-d]"]
    )
    texts = run.named("descriptions-clip-d")[0].prompts.texts  # type: ignore[attr-defined]
    assert texts[27] == ["eft, which has 27 spots"]
    assert texts[744] == ["projectile, which has 744 spots"]
    assert texts[657] == ["missile, which has 657 spots"]


def test_v2_goes_by_numbers_not_by_their_order_as_text(tmp_path: Path) -> None:
    root = tmp_path / "data" / "imagenetv2-matched-frequency-format-val"
    pictures(root, ["0/a.jpeg", "10/a.jpeg", "2/a.jpeg", "999/z.jpeg"])
    found = dataset("imagenet-v2")
    expected = {"0/a.jpeg": 0, "10/a.jpeg": 10, "2/a.jpeg": 2, "999/z.jpeg": 999}
    assert dict(found.samples) == expected


@pytest.mark.parametrize("place", ["imagenetv2/ImageNetV2-matched-frequency", "imagenetv2"])
def test_v2_by_wnid(tmp_path: Path, place: str) -> None:
    pictures(tmp_path / "data" / place, [f"{GOLDFISH}/a.jpeg"])
    assert dict(dataset("imagenet-v2").samples) == {f"{GOLDFISH}/a.jpeg": 1}


def test_v2_has_no_thousandth_label(tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "imagenetv2", ["1000/a.jpeg"])
    with pytest.raises(AbsError, match="1000 is not a label"):
        dataset("imagenet-v2")


FLAT = ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]


def test_all_images_in_one_folder_with_kaggles_list(tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "ILSVRC" / "Data" / "CLS-LOC" / "val", FLAT)
    rows = [f"ILSVRC2012_val_00000002,{TENCH} 1 2 3 4 {TENCH} 5 6 7 8"]
    rows.append(f"ILSVRC2012_val_00000001,{EFT} 1 2 3 4 ")
    written(tmp_path / "data" / "LOC_val_solution.csv", "ImageId,PredictionString", *rows)
    assert dict(dataset("imagenet").samples) == {FLAT[0]: 27, FLAT[1]: 0}


def test_all_images_in_one_folder_with_a_list_of_wnids(tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "imagenet" / "val", FLAT)
    file = tmp_path / "data" / "imagenet" / "imagenet_2012_validation_synset_labels.txt"
    written(file, GOLDFISH, TENCH)
    assert dict(dataset("imagenet").samples) == {FLAT[0]: 1, FLAT[1]: 0}


def test_a_missing_image_moves_no_label(tmp_path: Path) -> None:
    """Line n belongs to image n, not to the n-th file that is there."""
    pictures(tmp_path / "data" / "imagenet" / "val", FLAT[1:])
    file = tmp_path / "data" / "imagenet" / "imagenet_2012_validation_synset_labels.txt"
    written(file, GOLDFISH, TENCH)
    assert dict(dataset("imagenet").samples) == {FLAT[1]: 0}
    written(file, GOLDFISH)
    with pytest.raises(AbsError, match="no line for ILSVRC2012_val_00000002"):
        dataset("imagenet")


def test_all_images_in_one_folder_without_a_list(tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "imagenet" / "val", FLAT)
    with pytest.raises(MissingInput, match=r"LOC_val_solution\.csv, .* beside it"):
        dataset("imagenet")


KIT = "ILSVRC2012_devkit_t12/data"


@pytest.mark.parametrize("place", ["imagenet", "imagenet/val", ""])
def test_all_images_in_one_folder_with_the_devkit(tmp_path: Path, place: str) -> None:
    """The devkit's numbers are not places among sorted wnids: meta.mat says what they are."""
    pictures(tmp_path / "data" / "imagenet" / "val", [*FLAT, "ILSVRC2012_val_00000003.JPEG"])
    kit = tmp_path / "data" / place / KIT
    if place == "":
        (tmp_path / "data" / "imagenet" / "val").rename(tmp_path / "data" / "val")
    written(kit / "ILSVRC2012_validation_ground_truth.txt", "3", "1", "2")
    kinds = [("ILSVRC2012_ID", int), ("WNID", object), ("words", object), ("num_children", int)]
    rows = [(1, GOLDFISH, "goldfish", 0), (2, TENCH, "tench", 0), (3, EFT, "eft", 0)]
    synsets = np.array([*rows, (1001, "n00001740", "entity", 3)], dtype=kinds)
    savemat(kit / "meta.mat", {"synsets": synsets})
    found = dataset("imagenet")
    assert [label for _, label in found.samples] == [27, 1, 0]
    assert not found.skipped


def test_all_images_in_one_folder_with_torchvisions_list(tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "imagenet" / "val", FLAT)
    names = {TENCH: ("tench", "Tinca tinca"), EFT: ("eft",)}
    torch.save((names, [EFT, TENCH]), tmp_path / "data" / "imagenet" / "meta.bin")
    assert dict(dataset("imagenet").samples) == {FLAT[0]: 27, FLAT[1]: 0}


class Harm:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


def test_labels_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "data" / "imagenet" / "val", FLAT)
    torch.save(Harm(), tmp_path / "data" / "imagenet" / "meta.bin")
    with pytest.raises(AbsError, match=r"meta\.bin is not torchvision's"):
        dataset("imagenet")
    assert not Path("harmed").exists()
    kit = tmp_path / "data" / "imagenet" / KIT
    written(kit / "ILSVRC2012_validation_ground_truth.txt", "1", "1")
    with pytest.raises(MissingInput, match=r"meta\.mat not found"):
        dataset("imagenet")
    (kit / "meta.mat").write_bytes(b"no mat file")
    with pytest.raises(AbsError, match=r"meta\.mat is not the devkit's"):
        dataset("imagenet")
    savemat(
        kit / "meta.mat",
        {"synsets": np.array([(2, TENCH)] * 2, dtype=[("ILSVRC2012_ID", int), ("WNID", object)])},
    )
    with pytest.raises(AbsError, match="line 1: '1' is not a class"):
        dataset("imagenet")


# --- The others -------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["CUB_200_2011", "cub/CUB_200_2011", "cub"])
def test_cub(tmp_path: Path, place: str) -> None:
    """The test images are those of flag 0; ids join the lists, and labels count from 1."""
    root = tmp_path / "data" / place
    birds = ["001.Black_footed_Albatross", "002.Gray_crowned_Rosy_Finch", "003.Northern_Flicker"]
    files = [f"{birds[2]}/c.jpg", f"{birds[0]}/a.jpg", f"{birds[1]}/b.jpg", f"{birds[0]}/t.jpg"]
    pictures(root / "images", files)
    written(root / "images.txt", *(f"{n} {file}" for n, file in enumerate(files, 1)))
    written(root / "image_class_labels.txt", "4 1", "1 3", "2 1", "3 2")
    written(root / "train_test_split.txt", "1 0", "2 0", "3 0", "4 1")
    written(root / "classes.txt", *(f"{n} {bird}" for n, bird in enumerate(birds, 1)))
    found = dataset("cub")
    assert named(found) == {
        f"images/{birds[0]}/a.jpg": "Black-footed Albatross",
        f"images/{birds[1]}/b.jpg": "Gray-crowned-Rosy Finch",
        f"images/{birds[2]}/c.jpg": "Northern Flicker",
    }


@pytest.mark.parametrize("place", ["oxford-iiit-pet", "oxford_pets", "pets"])
def test_pets_are_in_an_order_without_case(tmp_path: Path, place: str) -> None:
    root = tmp_path / "data" / place
    names = ["Abyssinian_1", "american_bulldog_10", "Bengal_2", "american_bulldog_9"]
    pictures(root / "images", [f"{name}.jpg" for name in names])
    written(root / "images" / "Abyssinian_34.mat", "not an image")
    rows = ["Bengal_2 3 1 2", "Abyssinian_1 1 1 1", "american_bulldog_10 2 2 1"]
    written(root / "annotations" / "test.txt", *rows, "american_bulldog_9 2 2 1")
    found = dataset("oxford-pets")
    assert found.classes.names == ("Abyssinian", "american bulldog", "Bengal")
    assert named(found)["images/Bengal_2.jpg"] == "Bengal"
    assert named(found)["images/american_bulldog_9.jpg"] == "american bulldog"
    assert len(found.samples) == 4


@pytest.mark.parametrize("place", ["dtd", "dtd/dtd"])
def test_dtd_takes_the_first_split(tmp_path: Path, place: str) -> None:
    root = tmp_path / "data" / place
    pictures(
        root / "images", ["zigzagged/zigzagged_0001.jpg", "banded/banded_0002.jpg", "banded/n.jpg"]
    )
    written(root / "labels" / "test1.txt", "zigzagged/zigzagged_0001.jpg", "banded/banded_0002.jpg")
    written(root / "labels" / "test2.txt", "banded/n.jpg")
    found = dataset("dtd")
    assert found.root == root
    assert named(found) == {
        "images/banded/banded_0002.jpg": "banded",
        "images/zigzagged/zigzagged_0001.jpg": "zigzagged",
    }


@pytest.mark.parametrize("form", ["json", "txt"])
def test_food_in_sorted_order_whatever_the_list_has(tmp_path: Path, form: str) -> None:
    root = tmp_path / "data" / "food-101"
    files = ["waffles/11", "apple_pie/22", "apple_pie/7"]
    pictures(root / "images", [f"{file}.jpg" for file in [*files, "apple_pie/train"]])
    listed = {"waffles": files[:1], "apple_pie": files[1:]}
    written(root / "meta" / f"test.{form}", *([json.dumps(listed)] if form == "json" else files))
    found = dataset("food101")
    assert found.classes.names == ("apple pie", "waffles")
    assert named(found) == {
        "images/apple_pie/22.jpg": "apple pie",
        "images/apple_pie/7.jpg": "apple pie",
        "images/waffles/11.jpg": "waffles",
    }


CATEGORIES = [
    "/a/airfield 0",
    "/a/apartment_building/outdoor 1",
    "/a/arena/hockey 2",
    "/a/arena/rodeo 3",
]


def test_places_with_lists(tmp_path: Path) -> None:
    """Large images are taken where there are two sizes, and said to be."""
    root = tmp_path / "data" / "places365"
    names = [f"Places365_val_0000000{n}.jpg" for n in (1, 2, 3)]
    pictures(root / "val_large", names)
    pictures(root / "val_256", names)
    written(root / "categories_places365.txt", *CATEGORIES)
    written(root / "places365_val.txt", f"{names[0]} 3", f"{names[1]} 1", f"{names[2]} 2")
    found = dataset("places365")
    assert found.listing.layout == "images in val_large/ (not val_256)"
    assert [label for _, label in found.samples] == [3, 1, 2]
    assert found.classes.names == ("airfield", "apartment building", "arena", "arena")
    unique = dataset("places365", profile="aligned").classes.names
    assert unique == ("airfield", "apartment building", "arena hockey", "arena rodeo")


@pytest.mark.parametrize("hyphen", ["-", "_"])
def test_places_in_folders(tmp_path: Path, hyphen: str) -> None:
    root = tmp_path / "data" / "places365_standard"
    outdoor = f"apartment_building{hyphen}outdoor"
    pictures(root / "val", ["airfield/a.jpg", f"{outdoor}/b.jpg"])
    written(root / "categories_places365.txt", *CATEGORIES)
    expected = {"val/airfield/a.jpg": 0, f"val/{outdoor}/b.jpg": 1}
    assert dict(dataset("places365").samples) == expected


def test_places_in_folders_without_lists(tmp_path: Path) -> None:
    root = tmp_path / "data" / "places365_standard"
    pictures(root / "val", ["airfield/a.jpg", "arena-rodeo/b.jpg", "arena-hockey/b.jpg"])
    found = dataset("places365")
    assert found.classes.names == ("airfield", "arena", "arena")
    assert named(found)["val/airfield/a.jpg"] == "airfield"


# --- Where things lie, and one's own ----------------------------------------------------------


def test_the_first_of_two_places_is_taken_and_the_other_is_named(tmp_path: Path) -> None:
    for place in ("imagenet/val", "val"):
        pictures(tmp_path / "data" / place, [f"{TENCH}/a.jpg"])
    found = dataset("imagenet")
    assert found.root == tmp_path / "data" / "imagenet" / "val"
    assert tmp_path / "data" / "val" in found.other_roots


THE_TEN = (
    "imagenet", "imagenet-v2", "imagenet-r", "imagenet-a", "imagenet-sketch",
    "cub", "oxford-pets", "dtd", "food101", "places365",
)  # fmt: skip


@pytest.mark.parametrize("name", THE_TEN)
def test_nothing_there_says_where_it_was_looked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingInput, match="not found: looked for") as caught:
        dataset(name)
    assert str(tmp_path / "data") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tree_of_another_kind_says_what_is_missing(tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "CUB_200_2011" / "images" / "001.A", ["a.jpg"])
    with pytest.raises(MissingInput, match=r"classes\.txt not found"):
        dataset("cub")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_of_images(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "mine"
    pictures(folder, ["x/1.jpg", "y/2.jpg", "x/3.jpg"])
    rows = pd.DataFrame({"path": ["x/1.jpg", "y/2.jpg", "x/3.jpg"], "label": ["b", "a", "b"]})
    table = folder / f"manifest.{form}"
    rows.to_csv(table, index=False) if form == "csv" else rows.to_parquet(table)
    yaml = tmp_path / "mine.yaml"
    written(yaml, "dataset:", "  name: mine", "  reader: manifest", f"  root: {table}")
    found = dataset(str(yaml))
    assert named(found) == {"x/1.jpg": "b", "x/3.jpg": "b", "y/2.jpg": "a"}
    assert found.root == folder


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("path,label\n../a.jpg,b", "row 1: '../a.jpg' is not below the table's folder"),
        ("path,label\n/etc/passwd,b", "is not below the table's folder and relative to it"),
        ("path,label\na.jpg,b\na.jpg,c", "row 2: 'a.jpg' is listed twice"),
        ("path,label\na.jpg,", "no row has a path and a label"),
        ("file,label\na.jpg,b", "no column 'path'; it has file, label"),
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, rows: str, message: str) -> None:
    written(tmp_path / "manifest.csv", *rows.split("\n"))
    yaml = tmp_path / "mine.yaml"
    written(yaml, "dataset:", "  name: mine", "  reader: manifest", f"  root: {tmp_path}")
    with pytest.raises(AbsError, match=message):
        dataset(str(yaml))


@pytest.mark.parametrize(
    "row", [{"path": None, "label": "b"}, {"path": "x.jpg", "label": None}], ids=["path", "label"]
)
def test_empty_cells_of_a_parquet_table(tmp_path: Path, row: dict[str, str | None]) -> None:
    """The row is skipped with its reason, and the others are read."""
    pictures(tmp_path, ["a.jpg", "x.jpg"])
    pd.DataFrame([{"path": "a.jpg", "label": "b"}, row]).to_parquet(tmp_path / "manifest.parquet")
    yaml = tmp_path / "mine.yaml"
    written(yaml, "dataset:", "  name: mine", "  reader: manifest", f"  root: {tmp_path}")
    with open(yaml, "a") as file:
        file.write("  single_class: true\nindex: {max_skipped: 0.5}\n")
    found = dataset(str(yaml))
    assert found.samples == [("a.jpg", 0)]
    assert found.skipped == [("row 2", "no path") if row["path"] is None else ("x.jpg", "no label")]


@pytest.mark.parametrize("categories", [["/a/airfield x"], ["/a/airfield 1"], ["/a/b 0", "/a/c 0"]])
def test_categories_are_numbered_from_zero_each_once(tmp_path: Path, categories: list[str]) -> None:
    root = tmp_path / "data" / "places365"
    pictures(root / "val_large", ["a.jpg"])
    written(root / "categories_places365.txt", *categories)
    written(root / "places365_val.txt", "a.jpg 0")
    with pytest.raises(AbsError, match="each once"):
        dataset("places365")


# --- files that are not taken ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["imagenet", "imagenet-r"])
def test_images_outside_the_classes_of_imagenet_are_skipped_with_their_reason(
    tmp_path: Path, name: str
) -> None:
    root = tmp_path / "data" / PLACES[name][0]
    taken = [f"{TENCH}/a.jpg", f"{TENCH}/images/b.jpg", f"{EFT}/c.jp2"]
    left_out = ["loose.jpg", "n99999999/a.jpg", "tench/deep/er/a.jpg"]
    pictures(root, [*taken, *left_out])
    written(root / "README.txt", "of the published tree")
    listing = read_imagenet(root)
    assert [path for path, _ in listing.samples] == taken
    assert [path for path, _ in listing.skipped] == left_out
    assert {reason for _, reason in listing.skipped} == {"not in a folder of a class of ImageNet"}


def test_links_among_the_classes_of_imagenet_are_followed_as_among_class_folders(
    tmp_path: Path,
) -> None:
    root = tmp_path / "val"
    pictures(root, [f"{TENCH}/a.jpg"])
    pictures(tmp_path / "disk", [f"{EFT}/b.jpg"])
    (root / EFT).symlink_to(tmp_path / "disk" / EFT)
    (root / NEWT).symlink_to(TENCH)
    listing = read_imagenet(root)
    assert dict(listing.samples) == {f"{TENCH}/a.jpg": 0, f"{EFT}/b.jpg": 27}
    assert listing.skipped == [(NEWT, LINKED)]


def test_images_below_a_flat_imagenet_are_skipped(tmp_path: Path) -> None:
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2)]
    pictures(tmp_path / "val", [*names, "more/x.jpg"])
    written(tmp_path / "imagenet_2012_validation_synset_labels.txt", TENCH, EFT)
    listing = read_imagenet(tmp_path / "val")
    assert [path for path, _ in listing.samples] == names
    assert [path for path, _ in listing.skipped] == ["more/x.jpg"]
