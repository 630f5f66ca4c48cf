"""Codecs: an encoding and a wire, and the words that name them on a command line."""

from snap_jax.codecs.codec import Codec as Codec
from snap_jax.codecs.link_spec import parse_link as parse_link
