"""Codecs: an encoding and a wire, and the words that name them on a command line."""

from snap_jax.codecs.codec import Codec as Codec
