"""Explanations of scores: what each view and description of an image added to a class's score."""
