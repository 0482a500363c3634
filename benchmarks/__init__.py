"""Interleaved timings of alternatives in one process: `python -m benchmarks.NAME`."""
