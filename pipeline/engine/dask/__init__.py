"""Engine of many processes, on Dask distributed."""
