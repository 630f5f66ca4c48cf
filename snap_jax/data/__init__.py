"""Data for training: byte corpora in `snap_jax.data.text`, pictures in `snap_jax.data.images`."""
