"""The demo: one language model, five kinds of links between its devices, two seeds each, and what to conclude.

Steps, batches and seeds are the same for every link, and so is the model; only what crosses differs.
"""

import dataclasses
import json
import statistics
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from rich import box
from rich.table import Table

from snap_jax import cost
from snap_jax.errors import UsageError
from snap_jax.traffic import Traffic
from snap_jax.training.config import LanguageConfig
from snap_jax.training.result_json import as_sent

STEPS, SEEDS = 100, (0, 1)
LINKS = {  # what crosses forward and backward
    "fp32": "fp32",
    "bf16": "bf16",
    "int8": "int8:absmax",
    "int3+rans": "int8:absmax",
    "ternary+rans": "int8:absmax",
}
NETWORKS = {
    "200 Mb/s": cost.links.INTERNET_200M,
    "10 Gb/s": cost.links.ETHERNET_10G,
    "die to\ndie": cost.links.UCIE_STANDARD,
}
INTRODUCTION = """\
One RWKV language model, split into four pipeline stages on four emulated
devices, is trained with five kinds of links between the stages: float32,
bfloat16, 8-bit integers, entropy-coded 3-bit integers, and entropy-coded
ternary spikes. Steps, batches and the two seeds are the same for all. Gradients
are sent back in the format of the link, in 8 bits where that is narrower.
"""
LEGEND = """\
± is half the distance between the two seeds. KB are what all devices send in
one step; the last three columns are the times that these bytes take on links of
that speed, from a cost model.
"""
_CLOSE = 0.01  # of the loss: what counts as equally good, besides the spread between seeds


@dataclasses.dataclass(frozen=True)
class LinkResult:
    """What runs with one kind of link measured.

    Attributes:
      link: of the forward pass.
      runs: their directories, one per seed.
      bits_per_byte: held-out loss, by seed.
      bits_per_element: forward, measured, mean over seeds.
      nbytes: sent in one step by all devices, forward and backward.
      seconds: that one step's bytes take on each network.
    """

    link: str
    runs: tuple[Path, ...]
    bits_per_byte: tuple[float, ...]
    bits_per_element: float
    nbytes: tuple[int, int]
    seconds: dict[str, float]

    @property
    def loss(self) -> float:
        """Mean over seeds."""
        return statistics.mean(self.bits_per_byte)

    @property
    def spread(self) -> float:
        """Half the distance between the seeds."""
        return (max(self.bits_per_byte) - min(self.bits_per_byte)) / 2


def folders_of(out: Path, link: str) -> tuple[Path, ...]:
    """Return the directories of the runs with one link, one per seed."""
    return tuple(out / f"{link.replace(':', '')}-{seed}" for seed in SEEDS)


def check_free(out: Path, overwrite: bool) -> None:
    """Check that a demo in `out` replaces nothing but a demo, and that only with `--overwrite`.

    Raises:
      UsageError: otherwise.
    """
    runs = any((folder / "run.json").exists() for link in LINKS for folder in folders_of(out, link))
    if runs and not overwrite:
        raise UsageError(f"demo: {out} already holds a demo: choose another --out, or pass --overwrite")
    if (out / "report.html").exists() and not runs:
        raise UsageError(f"demo: {out} holds report.html, but no demo that wrote it: choose another --out")


def train(out: Path, data: str, steps: int, run: Callable[[LanguageConfig, Path], None]) -> list[LinkResult]:
    """Train all links with all seeds, in `out`/LINK-SEED.

    Args:
      out: directory of the demo.
      data: the training text.
      steps: of each run.
      run: trains a config in a directory.
    """
    # Both seeds run one program, so the second reads it from disk.
    jax.config.update("jax_compilation_cache_dir", str((out / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    results = []
    for link, back in LINKS.items():
        folders = folders_of(out, link)
        for seed, folder in zip(SEEDS, folders, strict=True):
            run(config_of(link, back, data, steps, seed), folder)
        results.append(read(link, folders))
    return results


def config_of(link: str, grad_link: str, data: str, steps: int, seed: int) -> LanguageConfig:
    """Return the settings of one run.

    >>> config_of("int8", "int8:absmax", "stdlib", 100, 1).backward_link
    'int8:absmax'
    """
    return LanguageConfig(
        data=data, link=link, grad_link=grad_link, steps=steps, seed=seed, width=64, microbatches=4,
        heldout_bytes=2**15, save_every=steps,
    )  # fmt: skip


def read(link: str, folders: Sequence[Path]) -> LinkResult:
    """Read what the runs of one link left in their directories."""
    results = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in folders]
    traffic = Traffic.from_json((folders[0] / "traffic.json").read_text(encoding="utf-8"))
    wire, shape = results[0]["wire"], {"stage": results[0]["config"]["devices"]}
    bits = statistics.mean(result["wire"]["bits_per_element"] for result in results)
    elements = round(8 * wire["forward_bytes_per_step"] / wire["max_bits_per_element"])
    sent = as_sent(traffic, shape, elements, bits) or traffic
    crossing = sent.where(lambda t: "boundary" in t.path)
    forward = crossing.where(lambda t: t.direction == "forward").sent_bytes
    seconds = {
        name: cost.price(sent, cost.System({"stage": cost.Chain(shape["stage"], one)})).serialization_s.high
        for name, one in NETWORKS.items()
    }
    losses = tuple(result["quality"]["value"] for result in results)
    return LinkResult(link, tuple(folders), losses, bits, (forward, crossing.sent_bytes - forward), seconds)


def table(results: Sequence[LinkResult]) -> Table:
    """Return one row per link: loss, bits, bytes, and the time of one step's bytes on each network."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, show_edge=False)
    for name in ("link", "held-out\nbits/byte", "bits per\nelement", "KB sent\nout/back", *NETWORKS):
        made.add_column(name, justify="left" if name == "link" else "right", no_wrap=True)
    for found in results:
        sent = "/".join(f"{nbytes / 1e3:.0f}" for nbytes in found.nbytes)
        loss = f"{found.loss:.3f} ±{found.spread:.3f}"
        times = [duration(found.seconds[name]) for name in NETWORKS]
        made.add_row(found.link, loss, f"{found.bits_per_element:.2f}", sent, *times)
    return made


def conclusion(results: Sequence[LinkResult]) -> str:
    """Return one sentence on the leanest link that is about as good as float32, computed from the numbers."""
    dense, *others = results
    near = [r for r in others if r.loss <= dense.loss * (1 + _CLOSE) + dense.spread + r.spread]
    if not near:
        best = min(others, key=lambda r: r.loss)
        text = f"no link is as good as float32 here: {best.link} comes closest, with a loss {_percent(best, dense)}."
        return textwrap.fill(f"Conclusion: {text}", 79)
    lean, slow = min(near, key=lambda r: sum(r.nbytes)), next(iter(NETWORKS))
    between = 100 * 2 * dense.spread / dense.loss
    return textwrap.fill(
        f"Conclusion: {lean.link} trains about as well as float32 (loss {_percent(lean, dense)}; seeds differ by "
        f"{between:.1f} %) and sends {sum(dense.nbytes) / sum(lean.nbytes):.1f} times fewer bytes. Over {slow}, the "
        f"bytes of one step take {duration(lean.seconds[slow])} instead of {duration(dense.seconds[slow])}.",
        79,
    )


def _percent(found: LinkResult, dense: LinkResult) -> str:
    return f"{100 * (found.loss / dense.loss - 1):+.1f} %"


def duration(seconds: float) -> str:
    """Return a time with its unit.

    >>> duration(0.0123), duration(2.5), duration(4e-6)
    ('12 ms', '2.5 s', '4.0 µs')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            number = seconds / size
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{seconds / 1e-9:.0f} ns"
