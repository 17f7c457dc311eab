"""Shared parts of the stages: settings, store, engine, datasets, texts, models, methods, views."""
