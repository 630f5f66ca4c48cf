"""Models that others wrote, over several devices: `python -m examples.outside_models` prints the table of the docs."""
