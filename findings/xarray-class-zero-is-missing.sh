#!/usr/bin/env bash
# xarray reads a 0 in an array of Zarr format 2 as NaN where the array was made without a fill value of its own:
# whole-number labels become floats, and every image of class 0 a missing one. Format 3 is read as it is.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check xarray==2026.9.0 zarr==3.1.6
venv/bin/python - <<'PYTHON'
import xarray
import zarr

print("xarray", xarray.__version__, "zarr", zarr.__version__)
labels, seen = [0, 1, 2, 0, 1], {}
for version in (2, 3):
    group = zarr.open_group(f"v{version}", mode="w", zarr_format=version)
    dims = {"attributes": {"_ARRAY_DIMENSIONS": ["image"]}} if version == 2 else {"dimension_names": ["image"]}
    group.create_array("label", shape=(5,), dtype="int64", **dims)[:] = labels
    assert group["label"][:].tolist() == labels  # zarr itself reads what was written
    array = xarray.open_zarr(f"v{version}", consolidated=False)["label"]
    seen[version] = str(array.dtype), str(array.values.tolist()), int(array.count())
print("given:   int64 labels", labels)
print("guessed: int64, the same numbers, 5 that are there")
for version, (dtype, values, count) in seen.items():
    print(f"seen:    {dtype}, {values}, {count} that are there (Zarr format {version})")
assert seen[3] == ("int64", str(labels), 5), "changed: format 3"
assert seen[2] == ("float64", "[nan, 1.0, 2.0, nan, 1.0]", 3), "changed"
PYTHON
