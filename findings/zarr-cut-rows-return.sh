#!/usr/bin/env bash
# Rows that resize cut off come back when the array grows again, as far as they lay in a chunk or shard that
# was kept in part; the others are the fill value.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check zarr==3.1.6
venv/bin/python - <<'PYTHON'
import numpy as np
import zarr

print("zarr", zarr.__version__)
seen = {}
for name, shards in {"chunks of 4": None, "shards of 8": (8,)}.items():
    array = zarr.create_array(f"{name}.zarr", shape=(10,), chunks=(4,), shards=shards, dtype="int32", fill_value=0)
    array[:] = np.arange(1, 11)
    array.resize((5,))
    assert array[:].tolist() == [1, 2, 3, 4, 5]
    array.resize((10,))
    seen[name] = array[:].tolist()
print("given:   1 to 10, cut to 5 rows, then 10 rows again; fill value 0")
print("guessed: [1, 2, 3, 4, 5, 0, 0, 0, 0, 0]: what was cut off is gone")
for name, values in seen.items():
    print(f"seen:    {values}, {name}")
assert seen == dict.fromkeys(seen, [1, 2, 3, 4, 5, 6, 7, 8, 0, 0]), "changed"
PYTHON
