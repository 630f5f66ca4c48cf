"""Data for training: byte corpora in `snap_jax.data.text`."""
