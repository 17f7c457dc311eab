"""Commands, one thin file each: read options, call the project, print the result."""
