"""One file per stage: its config, what it reads, what it computes for one unit, its command."""
