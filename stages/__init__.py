"""Stages of the pipeline, one file each: settings it reads, units, outputs, worker, command."""
