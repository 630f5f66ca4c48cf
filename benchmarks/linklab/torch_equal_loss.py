"""The peers of `equal_loss`: the same model, batches and steps with PyTorch's hooks. Needs an environment of its own.

`benchmarks/linklab/lab --hosts 4 --rate 1gbit -- /tmp/torch/bin/python -m benchmarks.linklab.torch_equal_loss`
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.linklab import byte_model, namespaces
from benchmarks.linklab.torch_peers import RANK, hooked


class ByteModel(torch.nn.Module):
    """That of `byte_model`."""

    def __init__(self, hidden: int, seed: int):
        super().__init__()
        for name, array in byte_model.weights(hidden, seed).items():
            setattr(self, name, torch.nn.Parameter(torch.from_numpy(array)))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        read = self.embed[rows[:, :-1]].flatten(1)
        return torch.nn.functional.cross_entropy(torch.tanh(read @ self.hidden) @ self.head, rows[:, -1])


def main() -> None:
    asked = _asked()
    host, hosts = int(os.environ["JAX_PROCESS_ID"]), int(os.environ["JAX_NUM_PROCESSES"])
    address, _, port = os.environ["JAX_COORDINATOR_ADDRESS"].partition(":")
    dist.init_process_group("gloo", init_method=f"tcp://{address}:{port}", rank=host, world_size=hosts)
    network = namespaces.parse(os.environ[namespaces.VARIABLE])
    for rate in asked.rates:
        if host == 0:
            namespaces.set_rate(network, rate)
        for hook in asked.hooks:
            for seed in range(asked.seeds):
                dist.barrier()
                seconds, loss = _run(hook, asked, seed, host)
                if host == 0:
                    _write(asked, {"spec": hook, "rate": rate, "hosts": hosts, "seed": seed}, seconds, loss)


def _run(hook: str, asked: argparse.Namespace, seed: int, host: int) -> tuple[list[float], float]:
    """Train once; the first tenth of the steps is not timed."""
    train, heldout = byte_model.divided(byte_model.text())
    plain = ByteModel(asked.hidden, seed)
    model = hooked(DistributedDataParallel(plain, bucket_cap_mb=200, gradient_as_bucket_view=True), hook)
    rule, seconds = torch.optim.Adam(model.parameters(), lr=byte_model.RATE), []
    for number in range(asked.steps):
        rows = torch.from_numpy(byte_model.batch(train, step=number, host=host, seed=seed)).long()
        began = time.monotonic()
        rule.zero_grad()
        model(rows).backward()
        rule.step()
        seconds.append(time.monotonic() - began)
    final = {name: parameter.detach().numpy() for name, parameter in plain.named_parameters()}
    return seconds[asked.steps // 10 :], byte_model.bits_per_byte(final, heldout)


def _write(asked: argparse.Namespace, what: dict, seconds: list[float], loss: float) -> None:
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    print(
        f"{what['rate']:9} {what['spec']:15} seed {what['seed']}: {1e3 * middle:8.2f} ms per step, "
        f"{loss:.4f} bits per byte",
        flush=True,
    )
    what |= {"program": "torch_equal_loss", "seconds": middle, "low": low, "high": high, "heldout_bits": loss}
    what |= {"steps": asked.steps, "rounds": len(seconds), "machine": f"torch {torch.__version__}"}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with asked.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hooks", nargs="+", default=("fp32", "fp16", f"powersgd:{RANK}"))
    parser.add_argument("--rates", nargs="+", default=("1gbit",))
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(".cache/linklab/results.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
