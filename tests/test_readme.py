"""The README's code blocks run from top to bottom, print what it says, and its training step and model work."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
PRINTED = re.search(r"```python\n.*?```\n\n```text\n(.*?)```", README, flags=re.DOTALL)

# What a reader does next with the names that the README defines.
CHECKS = """
print("--- checks ---")


def two_steps(params, batch):
    state = optimizer.init(params)
    for _ in range(2):
        params, state = train_step(params, state, batch)
    return params


start = jnp.ones(64)
end = jax.jit(jax.shard_map(two_steps, mesh=mesh, in_specs=(P(), P("device")), out_specs=P()))(start, x)
assert jnp.mean((x @ end) ** 2) < jnp.mean((x @ start) ** 2)

gradient = nnx.grad(lambda model: jnp.mean(model(x) ** 2))(placed)
assert [p.shape for _, p in nnx.to_flat_state(nnx.state(gradient, snap.Threshold))] == [(32,)]
assert stages.stages == 2
"""


def test_the_blocks_run_and_print_what_stands_below_the_first():
    assert PRINTED is not None
    code = "\n".join([*BLOCKS, CHECKS])
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(PRINTED[1])
    assert "all_to_all" in ran.stdout.split("--- checks ---")[0]


def test_it_is_short():
    assert len(README.splitlines()) <= 150
    assert max(map(len, README.splitlines())) <= 180
