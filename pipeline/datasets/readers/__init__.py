"""Readers of datasets, one file per layout."""
