"""The embedded demo: drawn scenes of birds, a test set of them, and two models trained on them."""
