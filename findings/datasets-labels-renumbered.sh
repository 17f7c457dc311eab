#!/usr/bin/env bash
# class_encode_column, which train_test_split(stratify_by_column=...) asks for, gives whole-number labels
# other numbers once there are more than ten: it sorts them as texts, so 2 becomes 4.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check datasets==5.2.0
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 venv/bin/python - <<'PYTHON'
import datasets

datasets.disable_progress_bars()
print("datasets", datasets.__version__)
labels = list(range(12))
table = datasets.Dataset.from_dict({"label": labels})
encoded = table.class_encode_column("label")
print("given:   labels ", labels)
print("guessed: labels  as they were, since they are whole numbers from 0 without a gap")
print("seen:    labels ", seen := list(encoded["label"]))
print("         names  ", encoded.features["label"].names)
few = list(datasets.Dataset.from_dict({"label": labels[:10]}).class_encode_column("label")["label"])
print("With ten classes they stay:", few)
assert few == labels[:10], "changed: ten classes"
assert seen == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3], "changed"
PYTHON
