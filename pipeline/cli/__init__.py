"""Command line: one thin file per command, and the tables that they print."""
