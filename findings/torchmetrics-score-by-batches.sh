#!/usr/bin/env bash
# AUROC, average precision and calibration error of torchmetrics depend on how the same scores are cut into batches:
# a batch is passed through softmax if any number in it lies outside 0 to 1, the others are taken as probabilities.
# Cosines of CLIP lie there mostly, but not always.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.15.0 torchmetrics==1.9.0
venv/bin/python - <<'PYTHON'
import torch
import torchmetrics
from torchmetrics.classification import MulticlassAUROC, MulticlassAveragePrecision, MulticlassCalibrationError

print("torchmetrics", torchmetrics.__version__, "torch", torch.__version__)
draw, images, classes = torch.Generator().manual_seed(0), 1000, 5
cosines = 0.3 * torch.rand(images, classes, generator=draw)
labels = torch.randint(classes, (images,), generator=draw)
cosines[range(images), labels] += 0.05
cosines[500:, 0] -= 0.2  # some of the second half are negative


def measured(metric, rows):
    for start in range(0, images, rows):
        metric.update(cosines[start : start + rows], labels[start : start + rows])
    return round(metric.compute().item(), 3)


print("given:   cosines from", f"{cosines.min():.2f} to {cosines.max():.2f}, 1000 images of 5 classes")
print("guessed: one number per metric, whatever the batch size")
changed = []
for kind in (MulticlassAUROC, MulticlassAveragePrecision, MulticlassCalibrationError):
    seen = {rows: measured(kind(num_classes=classes), rows) for rows in (1000, 100, 1)}
    print("seen:   ", kind.__name__, *(f"{value} in batches of {rows}" for rows, value in seen.items()), sep="  ")
    if len(set(seen.values())) < 3:
        changed.append(kind.__name__)
assert not changed, changed
PYTHON
