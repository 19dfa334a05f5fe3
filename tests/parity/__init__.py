"""Comparison with golden files, number by number: `python -m tests.parity DIR`."""
