"""Comparisons of `abs bench`: one file for each name of `--only`."""
