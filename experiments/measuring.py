"""What a model cut by boundaries sends, and how good it is.

`wire_bits` are those of the payloads of held-out batches, headers and the rungs taken included, an element of the
stream that is cut; tokens that predict count what an entropy-coded payload of them takes, at every boundary.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from experiments import tasks
from experiments.points import Point, reads_tokens
from snap_jax import Cast
from snap_jax.boundary import rate_control


@nnx.jit
def wire_and_entropy(model: tasks.Cut, inputs: jax.Array, context: jax.Array | None) -> tuple:
    logits, sent, _ = model(inputs, context)
    pairs = [(b.codec, z) for b, z in zip(model.boundaries, sent, strict=True) if b.codec is not None]
    spiking = [(c, z) for c, z in pairs if not isinstance(c.encoding, Cast)]
    nbytes = [c.sent_bytes(z) for c, z in pairs]
    seen = [rate_control.boundary_stats(c.encoding, z) for c, z in spiking]
    bits = [s.bits * z.size for s, (_, z) in zip(seen, spiking, strict=True)]
    return logits, jnp.stack(nbytes or [0]), jnp.stack(bits or [0.0]), jnp.stack([s.rate for s in seen] or [0.0])


def excess(model: tasks.Cut, batch: tuple) -> jax.Array:
    """What the wire takes over what the code length says."""
    _, nbytes, bits, _ = wire_and_entropy(model, batch[0], batch[2])
    return 8 * nbytes.sum() / jnp.maximum(bits.sum(), 1.0)


def measure(model: tasks.Cut, task: tasks.Task, point: Point) -> dict:
    """Quality on held-out data and what the wire took for it."""
    nats = right = count = bits = entropy = elements = rate = 0.0
    for inputs, labels, context in task.heldout:
        logits, nbytes, entropies, rates = wire_and_entropy(model, inputs, context)
        nats += float(tasks.nats(logits, labels)) * labels.size
        right += float((logits.argmax(-1) == labels).sum())
        count += labels.size
        bits, entropy, rate = bits + 8 * float(nbytes.sum()), entropy + float(entropies.sum()), float(rates.mean())
        elements += inputs.size * task.width * (point.blocks - 1)  # a vector a token or pixel
    extra = task.bits_of([context for _, _, context in task.heldout]) if reads_tokens(point) else 0.0
    return {
        "nats": nats / count,
        "bits_per_byte": nats / count / math.log(2),
        "accuracy": 100 * right / count,
        "wire_bits": bits / elements + extra,
        "entropy_bits": entropy / elements,
        "context_bits": extra,
        "grad_bits": _grad_bits(model, task),
        "firing_rate": rate,
    }


def _grad_bits(model: tasks.Cut, task: tasks.Task) -> float:
    """Payload bits of the cotangent an element of the stream; 32 where no codec is given."""
    inputs, _, context = task.heldout[0]
    bits = []
    for boundary, z in zip(model.boundaries, model(inputs, context)[1], strict=True):
        codec = boundary.grad_codec
        bits.append(32 * z.size if codec is None else 8 * codec.payload_bytes(z.shape))
    return sum(bits) / (inputs.size * task.width * len(bits)) if bits else 32.0
