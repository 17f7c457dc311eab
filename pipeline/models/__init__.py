"""Models: `source` resolves which model is meant without importing torch; other modules run it."""
