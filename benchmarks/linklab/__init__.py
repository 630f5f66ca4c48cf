"""The link lab: hosts of one machine, joined by links of a chosen rate, and the programs that are timed in it."""
