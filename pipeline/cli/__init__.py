"""The command line: one thin file per command, and the tables they print."""
