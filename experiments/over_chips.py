"""A trained model over emulated chips: what its compiled program moves, in the rungs that its spikes take.

Law: the program is that of `GPipe`, and gives what the model gives on one chip; a payload that may have
several sizes counts in the size it has, tick by tick, not the largest.
"""

import collections
import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from experiments import tasks
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.side_information import token_bits
from snap_jax.models.split import split
from snap_jax.models.stages import Stages
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.mesh import STAGE, auto_mesh
from snap_jax.traffic import Traffic
from snap_jax.traffic.hlo import compiled_traffic
from snap_jax.training.tasks.losses import Batch
from snap_jax.wires import Rans

_COARSE = {"ratio": 1.05, "least": 1 / 32}  # rungs of a program; with those of training, compiling takes minutes


def coarse(model: tasks.Cut) -> tasks.Cut:
    """The same spikes on a wire with fewer rungs; up to 5 % more bytes."""
    for boundary in model.boundaries:
        if boundary.codec is not None and isinstance(boundary.codec.wire, Rans):
            boundary.set_wire(dataclasses.replace(boundary.codec.wire, **_COARSE))
    return model


def forward(model: tasks.Cut, microbatches: Array, *, tokens: Rans | None) -> tuple[Traffic, Array]:
    """What one pass over chips moves, and its logits.

    Args:
      model: one chip a block.
      microbatches: inputs, `[microbatch, batch, ...]`.
      tokens: how the inputs travel, where both sides of a boundary predict from them; they then ride in the payloads,
        which the program, whose chips all hold the inputs, does not show.
    """
    chips, (stages, params) = len(model.net.blocks), _divided(model)

    def run(params, microbatches):
        return _run(stages, params, microbatches)[1][None]

    program = _compiled(run, chips, params, microbatches)
    traffic = taken(_messages(program, chips), rungs(model, microbatches, tokens=tokens is not None))
    return with_tokens(traffic, token_bytes(tokens, microbatches)), program(params, microbatches)[-1]


def training_step(model: tasks.Cut, microbatches: Array, *, tokens: Rans | None) -> Traffic:
    """What forward and backward move over chips; the way back is that of `grad_codec`. Compiled, not run."""
    chips, (stages, params) = len(model.net.blocks), _divided(model)

    def run(params, microbatches):
        # What crosses does not depend on what is minimised.
        return jax.grad(lambda p: _run(stages, p, microbatches)[0])(params)

    messages = _messages(_compiled(run, chips, params, microbatches), chips)
    traffic = taken(messages, rungs(model, microbatches, tokens=tokens is not None))
    return with_tokens(traffic, token_bytes(tokens, microbatches))


def _divided(model: tasks.Cut):
    boundaries = list(model.boundaries) or [Boundary(None, model.net.width(1)) for _ in model.net.blocks[1:]]
    return split(model.net, [*boundaries, nnx.clone(boundaries[-1])])


def _run(stages: Stages, params, microbatches: Array) -> tuple[Array, Array]:
    """What is minimised, and the logits."""
    work = stages.work(lambda logits, _: (jnp.square(logits).mean(), logits))
    schedule = GPipe(len(microbatches), stages.count)
    loss, (logits, _), _ = schedule.run(work, params, Batch(microbatches, microbatches))
    return loss, logits


def _compiled(run, chips: int, params, microbatches: Array) -> jax.stages.Compiled:
    spread = jax.shard_map(run, mesh=auto_mesh({STAGE: chips}), in_specs=(P(STAGE), P()), out_specs=P(STAGE))
    return jax.jit(spread).lower(params, microbatches).compile()


def _messages(program: jax.stages.Compiled, chips: int) -> Traffic:
    """What moves at every tick; thresholds, which a chip that serves learns once, when it starts, are left out."""
    return compiled_traffic(program, auto_mesh({STAGE: chips})).where(
        lambda t: "snap." in t.path or t.dtype == "float32"
    )


def rungs(model: tasks.Cut, microbatches: Array, *, tokens: bool) -> tuple[int, ...]:
    """The rung that all chips take at each tick: the largest that any of them needs for what it sends then."""
    codecs = [boundary.codec for boundary in model.boundaries]
    if not codecs or codecs[0] is None:
        return ()

    @nnx.jit
    def needed(model, inputs):
        _, sent, _ = model(inputs, inputs if tokens else None)
        pairs = [(b.codec, z) for b, z in zip(model.boundaries, sent, strict=True)]
        # A chip that has nothing to do sends zeros.
        return jnp.stack([jnp.maximum(c.draft(c.spikes(z))[0], c.draft(c.spikes(0 * z))[0]) for c, z in pairs])

    table = np.stack([np.asarray(needed(model, inputs)) for inputs in microbatches])
    return diagonals(table)


def diagonals(table: np.ndarray) -> tuple[int, ...]:
    """The largest of each anti-diagonal of `[microbatch, chip]`, for those chips that send, and one tick more.

    >>> diagonals(np.array([[1, 2], [5, 3]]))  # microbatch 0 leaves chip 0 at tick 0 and chip 1 at tick 1
    (1, 5, 3, 0)
    """
    count, senders = table.shape
    at = [[table[t - d, d] for d in range(senders) if 0 <= t - d < count] for t in range(count + senders)]
    return tuple(int(max(found, default=0)) for found in at)


def taken(traffic: Traffic, rungs: tuple[int, ...]) -> Traffic:
    """The traffic with every switch between payload sizes replaced by what its branches moved.

    A switch has a branch a rung, and runs once a tick; what is no part of it stays.
    """
    times: Mapping[int, int] = collections.Counter(rungs)
    kept = list(traffic.transfers)
    for choice in traffic.choices:
        for transfer in choice.branches[choice.counted]:
            kept.remove(transfer)
        for rung, count in sorted(times.items()):
            kept += [dataclasses.replace(t, times=count) for t in choice.branches[rung]]
    return Traffic(tuple(kept))


def token_bytes(wire: Rans | None, microbatches: Array) -> int:
    """Bytes of the tokens of a microbatch, of that which takes the most; none without a wire for them."""
    return 0 if wire is None else max(round(token_bits(wire, tokens) * tokens.size / 8) for tokens in microbatches)


def with_tokens(traffic: Traffic, nbytes: int) -> Traffic:
    """The same, with so many bytes more in each message to the next chip."""
    return Traffic(
        tuple(
            dataclasses.replace(t, bytes=t.bytes + nbytes) if (t.op, t.direction) == ("ppermute", "forward") else t
            for t in traffic
        )
    )
