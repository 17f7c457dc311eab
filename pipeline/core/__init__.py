"""Foundations that know nothing of the project: errors, files, hashing, settings, progress."""
