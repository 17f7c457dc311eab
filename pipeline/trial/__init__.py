"""A first trial on a user's own photographs: a sample of them, a small N, models at hand."""
