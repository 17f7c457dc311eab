#!/usr/bin/env bash
# The mean of 20,000 float16 numbers near 0.9 is 0.14 in xarray, which leaves NaN out unless told otherwise,
# also where there is none; NumPy's is 0.9. Dask's depends on the chunks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check xarray==2026.9.0 numpy==2.4.6 "dask[array]==2026.8.0"
venv/bin/python - <<'PYTHON'
import dask
import dask.array
import numpy as np
import xarray

print("xarray", xarray.__version__, "numpy", np.__version__, "dask", dask.__version__)
values = np.random.default_rng(0).normal(0.9, 0.05, (20_000, 4)).astype(np.float16)
array = xarray.DataArray(values, dims=("image", "dim"))
true = values.astype(np.float64).mean(axis=0)[0]
print("given:   (image, dim) float16, no NaN; mean over images, first column")
print(f"guessed: {true:.3f}, which float64 gives, to three digits")
seen = {
    "numpy.mean": values.mean(axis=0)[0],
    "numpy.nanmean": np.nanmean(values, axis=0)[0],
    "xarray, mean('image')": array.mean("image").values[0],
    "xarray, skipna=False": array.mean("image", skipna=False).values[0],
    "xarray, astype('float32')": array.astype("float32").mean("image").values[0],
    **{f"dask, chunks of {rows}": dask.array.from_array(values, chunks=(rows, 4)).mean(axis=0).compute()[0]
       for rows in (1_000, 5_000, 20_000)},
}
for name, value in seen.items():
    print(f"seen:    {value:.3f}  {name}")
near = {name: abs(float(value) / true - 1) < 0.01 for name, value in seen.items()}
assert [name for name in near if near[name]] == ["numpy.mean", "xarray, skipna=False", "xarray, astype('float32')"], "changed"
assert float(seen["xarray, mean('image')"]) < 0.2, "changed"
PYTHON
