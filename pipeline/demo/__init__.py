"""The embedded demo: a drawn world, test pictures of it, and two models trained on it."""
