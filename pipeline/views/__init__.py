"""View sets: their settings, draws, readers, and the reuse of stored views."""
