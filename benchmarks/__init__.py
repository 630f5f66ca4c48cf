"""Benchmarks: ratios within one run, with spread, beside the floor they are held against."""
