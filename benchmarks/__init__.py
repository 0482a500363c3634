"""Timings of alternatives that take turns in one process: `python -m benchmarks.NAME`."""
