import functools

from jax import lax

from snap_jax.collectives import coded, deliver


def pshuffle(x, axis_name, perm, *, codec=None):
    """`lax.pshuffle(codec.quantize(x), axis_name, perm)`, sent as spikes."""
    plain = functools.partial(lax.pshuffle, axis_name=axis_name, perm=perm)

    def line(codecs, xs):
        return deliver(codecs, xs, axis_name, plain, senders=False)

    return coded("pshuffle", x, axis_name, codec, plain=plain, line=line)
