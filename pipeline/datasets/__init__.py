"""Datasets on disk: images, labels, class names, and the readers of their layouts.

A reader (`readers/`) turns a folder into classes and samples. `classes.py` then applies the
settings for class names, independently of the reader.
"""
