"""Sources of attention maps: a timm ViT, CLIP itself, or random noise."""
