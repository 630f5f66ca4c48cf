"""Collectives: `jax.lax` with one more keyword; what crosses between devices is spikes.

1. Without a codec the jaxpr is that of `lax`.
2. `C(x, axis, codec=c)` equals `lax.C(c.quantize(x), axis)`, in value and in the gradient with respect to `x` and to
   every learnable array of the codec: bit for bit where data only moves, up to float rounding where it is summed.
5. A NaN or an infinity in the input comes out as NaN at every receiver.
7. The cotangent travels as floats unless `grad_codec=` is given.

`coded` and `deliver` are the steps for a collective of your own; see `collectives.autodiff`.
"""

from snap_jax.collectives.autodiff import coded as coded
from snap_jax.collectives.gather import all_gather as all_gather
from snap_jax.collectives.gather import psum_scatter as psum_scatter
from snap_jax.collectives.message import Sent as Sent
from snap_jax.collectives.message import deliver as deliver
from snap_jax.collectives.permute import all_to_all as all_to_all
from snap_jax.collectives.permute import ppermute as ppermute
from snap_jax.collectives.reduce import pmean as pmean
from snap_jax.collectives.reduce import psum as psum
