"""Models: `sources` says which one, without importing torch; the other files run it."""
