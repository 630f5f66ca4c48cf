"""Collectives: `jax.lax` with one more keyword; what crosses between devices is spikes.

Law 1: `codec=None` gives the very jaxpr of `lax`.
Law 2: `C(x, axis, codec=c)` equals `lax.C(c.quantize(x), axis)`, in value and in the gradient with respect to `x` and
to every threshold; bit-equal where data only moves, equal to float rounding where it is summed.
Law 5: a NaN or an infinity in the input comes out as NaN at every receiver.
Law 7: the cotangent travels dense unless `grad_codec=` is given.
"""

from snap_jax.collectives.gather import all_gather as all_gather
from snap_jax.collectives.gather import psum_scatter as psum_scatter
from snap_jax.collectives.permute import all_to_all as all_to_all
from snap_jax.collectives.permute import ppermute as ppermute
from snap_jax.collectives.reduce import pmean as pmean
from snap_jax.collectives.reduce import psum as psum
