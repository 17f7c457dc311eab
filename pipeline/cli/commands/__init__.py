"""One thin file per command: it reads options, asks the project, and prints."""
