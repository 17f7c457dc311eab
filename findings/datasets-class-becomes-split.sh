#!/usr/bin/env bash
# A class folder whose name has the word train, test, dev or eval in it is taken for a split: every other
# class vanishes, and the labels with them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 venv/bin/python - <<'PYTHON'
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()


def opened(*classes):
    """Return rows and columns of each split of a folder with two pictures per class."""
    root = Path("_".join(classes).replace(" ", ""))
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"{number}.png")
    found = datasets.load_dataset("imagefolder", data_dir=str(root))
    return {split: (len(rows), rows.column_names) for split, rows in found.items()}


print("datasets", datasets.__version__)
print("given:   two pictures in each of three class folders, one of them bullet_train, test_tube or dev board")
print("guessed: {'train': (6, ['image', 'label'])}, as with taxi, tram and bus:")
print("        ", plain := opened("taxi", "tram", "bus"))
seen = [opened("bullet_train", "taxi", "tram"), opened("test_tube", "flask", "vial"), opened("dev board", "mouse", "fan")]
print("seen:   ", *seen, sep="\n         ")
assert plain == {"train": (6, ["image", "label"])}, "changed: ordinary class folders"
assert seen == [{"train": (2, ["image"])}, {"test": (2, ["image"])}, {"validation": (2, ["image"])}], "changed"
PYTHON
