"""Models of transformers that open_clip has no counterpart for: Tables 8 and 10 of the paper."""
