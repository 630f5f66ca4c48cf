"""The pretrained model over four emulated devices, as a pipeline: calibrate, place, run, and count what was sent.

The code is the one of `experiments.real_model` with the name given by `--code`. Each device holds a quarter of the
layers, the boundary that it sends through and the one that it receives from. Prints the loss of the pipeline and of one
device, and the payload bytes that each boundary sent.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from experiments import real_model, real_text, smollm2
from snap_jax.parallel.mesh import auto_mesh

STAGES = len(real_model.CUTS) + 1


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--code", default="count, 2.5 bits", help="A point of experiments.real_model.")
    options.add_argument("--tokens", type=int, default=real_text.TIME, help="Tokens of the window that is run.")
    options.add_argument("--cache", type=Path, default=Path(".cache/real_model"), help="Streams of the dense model.")
    asked = options.parse_args(arguments)
    snap.emulate_devices(STAGES)
    model, tokenizer = smollm2.load()
    sample = real_model.streams(model, real_text.calibration_windows(tokenizer), asked.cache / "calibration.npy")
    gradients = real_model.sampled_gradients(model, sample, asked.cache / "gradients.npy")
    boundaries = real_model.Calibration(model, sample, gradients).boundaries(real_model.codes()[asked.code])
    tokens = jnp.asarray(real_text.held_out_windows(tokenizer, 1)[:, : asked.tokens])
    loss, sent = pipeline(model, boundaries)(tokens)
    x = smollm2.run_layers(smollm2.stage(model.layers, 0, real_model.CUTS[0]), smollm2.embed(model, tokens))
    alone, prepared = real_model.run(model, boundaries, x, tokens)
    per_token = [float(total) / (tokens.size - 1) for total in (loss, alone)]
    print(f"loss per token: {per_token[0]:.4f} nats in the pipeline, {per_token[1]:.4f} on one device")
    for i, (nbytes, z) in enumerate(zip(sent, prepared, strict=True)):
        print(f"boundary {i}: {nbytes} bytes sent, {8 * int(nbytes) / z.size:.2f} bits per element")


def pipeline(model: smollm2.Model, boundaries: Sequence[Any]) -> Any:
    """Return the function from tokens to the loss and the payload bytes of each boundary, over four devices."""
    graph, _, constants = nnx.split(boundaries[0], nnx.Param, ...)
    params = [nnx.state(boundary, nnx.Param) for boundary in boundaries]
    stacked = lambda states: jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)  # noqa: E731
    senders, receivers = stacked([*params, params[-1]]), stacked([params[0], *params])

    def local(layers: Any, sender: Any, receiver: Any, constants: Any, rest: Any, tokens: jax.Array) -> Any:
        layers, sender, receiver = jax.tree.map(lambda leaf: leaf[0], (layers, sender, receiver))
        sender, receiver = (nnx.merge(graph, state, constants) for state in (sender, receiver))
        here, nbytes = lax.axis_index("stage"), []
        x = lax.pcast(smollm2.embed(rest, tokens), "stage", to="varying")
        for hop in range(STAGES - 1):
            z = sender.prepare(smollm2.run_layers(layers, x), tokens)
            z = jnp.where(here == hop, z, 0)  # the others have nothing to send
            arrived, sent = sender.send(z, "stage", [(hop, hop + 1)], sender_codec=receiver.codec, return_sent=True)
            x = receiver.restore(arrived, tokens)
            nbytes.append(sender.observe(sent, "stage").sent_bytes)
        loss = smollm2.loss(rest, smollm2.run_layers(layers, x), tokens)
        last = lambda y: lax.psum(jnp.where(here == STAGES - 1, y, 0), "stage")  # noqa: E731
        return last(loss), last(jnp.stack(nbytes))

    specs = (P("stage"), P("stage"), P("stage"), P(), P(), P())
    mapped = jax.shard_map(local, mesh=auto_mesh({"stage": STAGES}), in_specs=specs, out_specs=P())
    rest = model._replace(layers={})
    return lambda tokens: jax.jit(mapped)(placed(model), senders, receivers, constants, rest, tokens)


def placed(model: smollm2.Model) -> smollm2.Layers:
    """Return the layers by stage; layers of zeros, which change nothing, fill up the shorter stages."""
    ends = [0, *real_model.CUTS, smollm2.LAYERS]
    most = max(np.diff(ends))
    stages = [smollm2.stage(model.layers, first, end) for first, end in itertools.pairwise(ends)]
    filled = [{k: jnp.pad(w, ((0, most - len(w)), *[(0, 0)] * (w.ndim - 1))) for k, w in s.items()} for s in stages]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *filled)


if __name__ == "__main__":
    main()
