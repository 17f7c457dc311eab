"""Engines, which run a stage unit by unit: in this process or on a Dask cluster."""
