"""Time PyTorch's averages of 25 million gradients, with Gloo on CPUs, in the lab. Needs an environment of its own.

    python -m venv /tmp/torch && /tmp/torch/bin/pip install -r benchmarks/linklab/torch_requirements.txt
    benchmarks/linklab/lab --hosts 4 --rate unlimited -- /tmp/torch/bin/python -m benchmarks.linklab.torch_peers

The gradient of the loss is a constant, so that hardly anything but the average is timed. The quantization hooks of this
version fail on CPUs, with an index error.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks.linklab import namespaces

SIDE = 5000  # 25 million parameters, as a matrix: PowerSGD sends two thin ones instead
RANK = 4


class Constant(torch.nn.Module):
    """A loss whose gradient is one and the same."""

    def __init__(self, host: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(SIDE, SIDE))
        self.gradient = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(host))

    def forward(self) -> torch.Tensor:
        return (self.weight * self.gradient).sum()


def main() -> None:
    asked = _asked()
    host, hosts = int(os.environ["JAX_PROCESS_ID"]), int(os.environ["JAX_NUM_PROCESSES"])
    address, _, port = os.environ["JAX_COORDINATOR_ADDRESS"].partition(":")
    dist.init_process_group("gloo", init_method=f"tcp://{address}:{port}", rank=host, world_size=hosts)
    network = namespaces.parse(os.environ[namespaces.VARIABLE])
    for name in asked.hooks:
        model = _model(name, host)
        _seconds(model, 3)  # PowerSGD starts after two steps
        for rate in asked.rates:
            if host == 0:
                namespaces.set_rate(network, rate)
            dist.barrier()
            seconds = _seconds(model, asked.rounds)
            if host == 0:
                _write(asked.out, name, rate, hosts, seconds)


def _model(name: str, host: int) -> DistributedDataParallel:
    return hooked(DistributedDataParallel(Constant(host), bucket_cap_mb=200, gradient_as_bucket_view=True), name)


def hooked(model: DistributedDataParallel, name: str) -> DistributedDataParallel:
    """Return the model after it got one of PyTorch's hooks by name; `fp32` has none."""
    if name == "fp16":
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    if name == "bf16":
        model.register_comm_hook(None, default_hooks.bf16_compress_hook)
    if name == f"powersgd:{RANK}":
        state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=RANK, start_powerSGD_iter=2)
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    return model


def _seconds(model: DistributedDataParallel, rounds: int) -> list[float]:
    """From when the last host began until the last one ended; they have one clock."""
    spans = []
    for _ in range(rounds):
        model.zero_grad(set_to_none=False)
        loss = model()
        dist.barrier()
        began = time.monotonic()
        loss.backward()
        spans.append((began, time.monotonic()))
    everywhere: list = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, spans)
    return [max(e for _, e in one) - max(b for b, _ in one) for one in zip(*everywhere, strict=True)]


def _write(out: Path, name: str, rate: str, hosts: int, seconds: list[float]) -> None:
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    what = {"program": "torch_peers", "spec": name, "rate": rate, "hosts": hosts, "parameters": SIDE * SIDE}
    what |= {
        "seconds": middle,
        "low": low,
        "high": high,
        "rounds": len(seconds),
        "machine": f"torch {torch.__version__}",
    }
    print(f"{rate:9} {name:15} {1e3 * middle:9.2f} ms", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hooks", nargs="+", default=("fp32", "fp16", "bf16", f"powersgd:{RANK}"))
    parser.add_argument("--rates", nargs="+", default=("unlimited", "1gbit"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(".cache/linklab/results.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
