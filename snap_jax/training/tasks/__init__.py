"""Tasks: what a model is trained to do, as pure functions on stacked stages."""
