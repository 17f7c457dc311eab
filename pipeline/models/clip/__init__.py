"""CLIP through open_clip: names and weights, image and text encoders."""
