"""Data for training: byte corpora in `snap_jax.data.text_loader`, pictures in `snap_jax.data.image_loader`."""
