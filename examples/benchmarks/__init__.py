"""The sections of `examples/benchmark.py`, one file each."""
