"""Experiments: one runnable file a question."""
