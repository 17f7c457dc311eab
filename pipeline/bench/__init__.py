"""Benchmarks and stress tests: `abs bench`, `make torture`, `python -m pipeline.bench.scale`."""
