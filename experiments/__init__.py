"""Experiments: one runnable file per question; `python -m experiments.NAME --help` describes it."""
