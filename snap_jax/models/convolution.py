"""What the convolutional models have in common: a convolution and a norm.

Law: nothing here lets one image of a batch see another.
"""

import math

from flax import nnx

from snap_jax.errors import UsageError

_GROUP = 16  # channels a group: the best fixed size in Table 3 of Wu & He 2018


def conv(inputs: int, outputs: int, size: int, *, rngs: nnx.Rngs, stride: int = 1, groups: int = 1) -> nnx.Conv:
    """A square convolution without bias, since a norm follows."""
    return nnx.Conv(
        inputs, outputs, (size, size), strides=stride, feature_group_count=groups, use_bias=False, rngs=rngs
    )


def norm(width: int, *, rngs: nnx.Rngs, scale: float = 1.0) -> nnx.GroupNorm:
    """Group normalisation (Wu & He 2018) in groups of 16 channels, or of 8 where 16 does not divide them.

    Not batch normalisation: its statistics would depend on how a batch is cut into microbatches and over chips, and
    its running averages would be one more state to keep alike on all of them.

    Args:
      width: channels, a multiple of 8.
      rngs: unused by constants, asked for by `nnx`.
      scale: where the learnable scale starts; 0 silences a branch until it has learned something.

    Raises:
      UsageError: groups would have fewer than 8 channels.
    """
    group = math.gcd(width, _GROUP)
    if group < _GROUP // 2:
        raise UsageError(
            f"norm: width={width} is no multiple of {_GROUP // 2}: use one that is, e.g. {-(-width // 8) * 8}"
        )
    start = nnx.initializers.constant(scale)
    return nnx.GroupNorm(width, num_groups=None, group_size=group, scale_init=start, rngs=rngs)
