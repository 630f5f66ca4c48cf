"""Benchmarks: ratios within one run, with their spread, beside the best that is possible."""
