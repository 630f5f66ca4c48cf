"""A pretrained language model over four pipeline stages, its boundaries calibrated only: loss against wire bits.

SmolLM2-135M (`experiments.smollm2`) is cut after layers 8, 15 and 23 of 30. Every code is calibrated on documentation
and articles and tested on source code. Nothing is trained. Codes come in two forms: `plain`, and with all that helps
ours: the first token of a window and the largest errors exact, prediction from the embeddings of two tokens, a change
of coordinates, and an entropy coder with tables from the calibration text. Wire bits are payload bytes, with scales,
exact numbers and headers, and 16 bits per token where tokens predict, which each stage must know. One line of JSON per
point; points that the file holds already are left out.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

import snap_jax as snap
from experiments import real_text, smollm2
from snap_jax.boundary import calibrate
from snap_jax.boundary.transforms import EmbeddingPrediction, WeightedBasis, chain

CUTS = (8, 15, 23)
TOGETHER = 2  # windows of a message
TOKEN_BITS = 16
WIRES = {"coder": snap.Rans(ratio=1.012, least=0.06), "rows": snap.RowRans(ratio=1.012, least=0.06)}
OUTLIERS = 3e-4  # share of the elements
GRADIENTS = slice(None, None, 2)  # windows of the sample


class Code(NamedTuple):
    """One code: its encoding, and what is around it.

    Attributes:
      encoding: with a number for the threshold, which calibration replaces.
      bits: for which calibration chooses the threshold; `None` keeps it.
      help: "plain", or what helps, joined by "+": "first", "outliers", "prediction", "basis", "weight", "tokens" (steps
        by what an error of a token costs), and "coder" or "rows" (tables by channel, or by channel and token).
    """

    encoding: snap.Codec | Any
    bits: float | None
    help: str = "plain"


ALL = "outliers+prediction+basis+weight+rows"
OURS = ALL + "+tokens"
COUNT = snap.Scaled(snap.Count(127), "token")


def codes() -> dict[str, Code]:
    """Return all points by name."""
    found = {f"count, {bits} bits": Code(COUNT, bits, OURS) for bits in (3.0, 2.5, 2.0, 1.5, 1.0, 0.7)}
    for part in ("prediction", "weight", "tokens", "outliers"):
        without = OURS.replace(part, "").replace("++", "+").strip("+")
        found[f"count, 2.0 bits, without {part}"] = Code(COUNT, 2.0, without)
    found["count, 2.0 bits, tables by channel"] = Code(COUNT, 2.0, OURS.replace("rows", "coder"))
    found["count, 2.0 bits, first token exact"] = Code(COUNT, 2.0, "first+" + OURS)
    found |= {f"int{k}:token": Code(snap.Int(k, block="token"), None) for k in (8, 4)}
    found |= {f"int{k}:block32": Code(snap.Int(k, block=32), None) for k in (4, 3)}
    found |= {f"int{k}:token, helped": Code(snap.Int(k, block="token"), None, ALL) for k in (8, 6, 5, 4)}
    found |= {f"int{k}:block32, helped": Code(snap.Int(k, block=32), None, ALL) for k in (4, 3, 2)}
    found |= {f"topk:{share}": Code(snap.TopK(share), None) for share in (0.5, 0.25)}
    found |= {f"topk:{share}, helped": Code(snap.TopK(share), None, ALL) for share in (0.5, 0.25, 0.1)}
    return found | {"count:7:token": Code(snap.codec("count:7:token").encoding, None, "plain")}


class Streams(NamedTuple):
    """Windows of tokens, and what stands at the boundaries of the dense model: `[boundary, window, time, width]`."""

    tokens: np.ndarray
    at: np.ndarray


class Calibration:
    """Boundaries whose transforms are calibrated on a sample, once for all codes that share them.

    Attributes:
      gradients: of the loss with respect to the streams, `[boundary, window, time, width]`, of every window of the
        sample that `GRADIENTS` picks.
    """

    def __init__(self, model: smollm2.Model, sample: Streams, gradients: np.ndarray | None):
        self.model, self.sample, self.gradients = model, sample, gradients
        self._done: dict[str, list[tuple[Any, jax.Array]]] = {}

    def boundaries(self, code: Code) -> list[Any]:
        """Return the boundaries of a code, calibrated, with tables of what they send."""
        wire = next((WIRES[part] for part in WIRES if part in code.help), None)
        made, sent = [], []
        for i, (calibrated, z) in enumerate(self._transforms(code.help)):
            codec = snap.codec(self._encoding(code, i, calibrated, z), wire)
            boundary = snap.Boundary(codec, smollm2.WIDTH, transform=self._makers(code.help, i))
            for side in (boundary.sender, boundary.receiver):
                nnx.update(side, nnx.state(calibrated))
            if code.bits is not None:
                calibrate.calibrate_threshold(boundary, z, bits=code.bits)
            made.append(boundary)
            sent.append(z[::4])
        calibrate.fit_wire(made, sent)
        return made

    def _encoding(self, code: Code, boundary: int, transform: Any, z: jax.Array) -> Any:
        encoding = code.encoding
        if "tokens" in code.help:
            tokens = jnp.asarray(self.sample.tokens[GRADIENTS])
            back = jax.vjp(lambda z: transform.restore(z, tokens), z[GRADIENTS])[1]
            (g,) = back(jnp.asarray(self.gradients[boundary]))
            weights = calibrate.token_weights(z[GRADIENTS, 1:-1], g[:, 1:-1])
            encoding = dataclasses.replace(encoding, weights=weights)
        encoding = snap.Outliers(encoding, OUTLIERS) if "outliers" in code.help else encoding
        return snap.Exact(encoding, tokens=1) if "first" in code.help else encoding

    def _transforms(self, help: str) -> list[tuple[Any, jax.Array]]:
        """Return calibrated transforms, and what they make of the sample."""
        kind = "+".join(part for part in ("prediction", "basis", "weight") if part in help)
        if kind not in self._done:
            self._done[kind] = [self._calibrated(kind, i) for i in range(len(CUTS))]
        return self._done[kind]

    def _calibrated(self, kind: str, boundary: int) -> tuple[Any, jax.Array]:
        transform = self._makers(kind, boundary)(smollm2.WIDTH, rngs=nnx.Rngs(0))
        z, tokens = jnp.asarray(self.sample.at[boundary]), jnp.asarray(self.sample.tokens)
        for link in transform.links:
            link.calibrate(z, tokens)
            z = link.prepare(z, tokens)
        return transform, z

    def _makers(self, help: str, boundary: int) -> Callable:
        makers: list[Callable] = []
        if "prediction" in help:
            makers.append(functools.partial(EmbeddingPrediction, embedding=self.model.embedding))
        if "basis" in help:
            weight = loss_weight(self.gradients[boundary]) if "weight" in help else None
            makers.append(functools.partial(WeightedBasis, weight=weight))
        return chain(*makers)


def run(model: smollm2.Model, boundaries: Sequence[Any], x: jax.Array, tokens: jax.Array) -> tuple[jax.Array, list]:
    """Return the loss of windows whose stream at the first boundary is `x`, and what each boundary sends."""
    sent = []
    for boundary, first, end in zip(boundaries, CUTS, (*CUTS[1:], smollm2.LAYERS), strict=True):
        sent.append(boundary.prepare(x, tokens))
        x = boundary.restore(sent[-1] if boundary.codec is None else boundary.codec.quantize(sent[-1]), tokens)
        x = smollm2.run_layers(smollm2.stage(model.layers, first, end), x)
    return smollm2.loss(model, x, tokens), sent


def measure(model: smollm2.Model, boundaries: Sequence[Any], test: Streams) -> tuple[float, list[float]]:
    """Return the loss in nats, and the payload bits per element of each boundary, both of all windows."""
    graph, state = nnx.split(nnx.List(boundaries))
    step = jax.jit(lambda model, state, x, tokens: run(model, nnx.merge(graph, state), x, tokens))
    loss, nbytes, elements = 0.0, np.zeros(len(CUTS)), 0
    for i in range(0, len(test.tokens), TOGETHER):
        here = slice(i, i + TOGETHER)
        found, sent = step(model, state, jnp.asarray(test.at[0, here]), jnp.asarray(test.tokens[here]))
        loss, elements = loss + float(found), elements + sent[0].size
        nbytes += [sent_bytes(boundary.codec, z) for boundary, z in zip(boundaries, sent, strict=True)]
    return loss, (8 * nbytes / elements).tolist()


def sent_bytes(codec: snap.Codec | None, z: jax.Array) -> int:
    """Return the payload bytes of what is sent."""
    return z.nbytes if codec is None else int(codec.sent_bytes(z))


def streams(model: smollm2.Model, tokens: np.ndarray, file: Path) -> Streams:
    """Return the streams of the dense model at the boundaries, kept in a file."""
    if not file.exists():
        step = jax.jit(functools.partial(_dense, at=CUTS))
        found = [np.stack(step(model, tokens[i : i + 1])) for i in range(len(tokens))]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.concatenate(found, 1))
    return Streams(tokens, np.load(file))


def _dense(model: smollm2.Model, tokens: jax.Array, at: Sequence[int]) -> list[jax.Array]:
    x, kept = smollm2.embed(model, tokens), []
    for first, end in zip((0, *at), at, strict=False):
        x = smollm2.run_layers(smollm2.stage(model.layers, first, end), x)
        kept.append(x)
    return kept


def loss_weight(gradients: np.ndarray) -> np.ndarray:
    """Return the mean of `g g'`, in which tokens with large gradients count less, since they get smaller steps."""
    g = gradients[:, 1:-1].reshape(-1, gradients.shape[-1])
    g = g * np.maximum(np.linalg.norm(g, axis=-1, keepdims=True), 1e-30) ** -0.75
    return g.T @ g / len(g)


def sampled_gradients(model: smollm2.Model, sample: Streams, file: Path) -> np.ndarray:
    """Return gradients of the loss at the boundaries, for next tokens that the model itself draws; kept in a file.

    So their mean `g g'` is the Fisher information, the second derivative of the loss where the model is right.
    """
    if not file.exists():
        found = []
        for i in range(len(sample.tokens))[GRADIENTS]:
            x = jnp.asarray(sample.at[0, i : i + 1])
            found.append(np.asarray(_gradients(jnp.zeros((len(CUTS), *x.shape)), model, x, jax.random.key(i)))[:, 0])
        np.save(file, np.stack(found, 1))
    return np.load(file)


@jax.jit
def _gradients(nudges: jax.Array, model: smollm2.Model, x: jax.Array, key: jax.Array) -> jax.Array:
    def loss(nudges: jax.Array) -> jax.Array:
        y = x
        for nudge, first, end in zip(nudges, CUTS, (*CUTS[1:], smollm2.LAYERS), strict=True):
            y = smollm2.run_layers(smollm2.stage(model.layers, first, end), y + nudge)
        logits = smollm2.logits(model, y)
        drawn = jax.random.categorical(key, lax.stop_gradient(logits))
        return smollm2.cross_entropy(logits, drawn)

    return jax.grad(loss)(nudges)


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--file", type=Path, default=Path("runs/real_model.jsonl"), help="Where results are kept.")
    options.add_argument("--cache", type=Path, default=Path(".cache/real_model"), help="Streams of the dense model.")
    options.add_argument("--only", nargs="*", default=None, help="Points to measure; the default is all.")
    options.add_argument("--show", action="store_true", help="Measure nothing; print the table of what is there.")
    asked = options.parse_args(arguments)
    if not asked.show:
        fill(asked.file, asked.cache, asked.only or list(codes()))
    print(table([json.loads(line) for line in asked.file.read_text().splitlines()]))


def fill(file: Path, cache: Path, names: Sequence[str]) -> None:
    """Measure the points that the file does not hold, and append a line for each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    there = {json.loads(line)["code"] for line in (file.read_text().splitlines() if file.exists() else [])}
    left = [name for name in ("dense", *names) if name not in there]
    model, tokenizer = smollm2.load()
    sample = streams(model, real_text.calibration_windows(tokenizer), cache / "calibration.npy")
    test = streams(model, real_text.held_out_windows(tokenizer), cache / "test.npy")
    calibration = Calibration(model, sample, sampled_gradients(model, sample, cache / "gradients.npy"))
    nbytes = real_text.byte_count(tokenizer, test.tokens)
    for name in left:
        code = codes().get(name, Code(None, None))
        boundaries = calibration.boundaries(code) if name != "dense" else [snap.Boundary(None, smollm2.WIDTH)] * 3
        loss, bits = measure(model, boundaries, test)
        beside = TOKEN_BITS / smollm2.WIDTH if "prediction" in code.help else 0.0
        line = {"code": name, "help": code.help, "bits_per_byte": float(loss / np.log(2) / nbytes)}
        line |= {"wire_bits_per_element": float(np.mean(bits)) + beside, "by_boundary": bits, "text_bytes": nbytes}
        with file.open("a") as lines:
            lines.write(json.dumps(line) + "\n")
        print(line, flush=True)


def table(lines: Sequence[dict]) -> str:
    """Return the points, fewest bits last, with their loss increase."""
    dense = next(line["bits_per_byte"] for line in lines if line["code"] == "dense")
    rows = [
        "| code | wire bits per element | per token | bits per byte of text | loss increase |",
        "|---|---|---|---|---|",
    ]
    for line in sorted(lines, key=lambda line: -line["wire_bits_per_element"]):
        bits, loss = line["wire_bits_per_element"], line["bits_per_byte"]
        increase = f"{100 * (loss / dense - 1):+.2f} %"
        rows.append(f"| {line['code']} | {bits:.2f} | {bits * smollm2.WIDTH:.0f} | {loss:.4f} | {increase} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
