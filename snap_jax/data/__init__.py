"""Training data: texts as bytes in `snap_jax.data.text_loader`, images in `snap_jax.data.image_loader`."""
