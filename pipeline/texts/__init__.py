"""Text sets: their settings and rules, readers of prompt files, and texts joined with classes."""
