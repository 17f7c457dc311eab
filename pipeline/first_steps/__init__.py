"""First steps with one's own images: `abs init`, `abs try` and `abs doctor`."""
