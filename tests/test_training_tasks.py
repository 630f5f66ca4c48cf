"""Every task, mode and layout through the one training entry: dense results do not depend on the chips, others run."""

import dataclasses
import json
import struct

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from snap_jax import cli, training
from snap_jax.config import Config, VisionConfig, command, read_settings, written_settings
from snap_jax.errors import UsageError
from snap_jax.training import directory

LAYOUTS = [("pipeline", 2), ("tensor", 2), ("data:2+pipeline", 4), ("data:2+pipeline:2+tensor:2", 8)]


@pytest.fixture(scope="module", autouse=True)
def compiled_once_and_fast(tmp_path_factory):
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


def write_idx(folder, part, rng, count):
    pixels, labels = rng.integers(0, 256, (count, 4, 4), np.uint8), np.arange(count, dtype=np.uint8) % 3
    pixels[np.arange(count), labels] = 255  # a bright row says which class it is
    (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 4, 4) + pixels.tobytes())
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small run of each task; both models can be divided in two along layers, heads or channels, and rows."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    write_idx(folder, "train", rng, 60)
    write_idx(folder, "t10k", rng, 20)
    (folder / "text.txt").write_bytes(b"".join(b"line %d of a text that repeats itself\n" % (i % 7) for i in range(99)))
    common = {"layers": 2, "chips": 1, "batch": 4, "microbatches": 2, "steps": 3, "learning_rate": 0.01}
    language = Config(
        data=str(folder / "text.txt"), model="transformer", width=8, heads=2, window=8, heldout_bytes=64, **common
    )
    return {"language": language, "vision": VisionConfig(data=str(folder), width=32, **common)}


def trained(config, out, **changes):
    return training.train(dataclasses.replace(config, **changes), out)


def last_line(out):
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Dense, on one chip."""
    out = tmp_path_factory.mktemp("whole")
    for task, config in tiny.items():
        trained(config, out / task, mode="dense")
    return out


@pytest.mark.parametrize(("layout", "chips"), LAYOUTS)
@pytest.mark.parametrize("task", ["language", "vision"])
def test_dense_results_do_not_depend_on_the_layout(tiny, whole, tmp_path, task, layout, chips):
    result = trained(tiny[task], tmp_path / "run", mode="dense", layout=layout, chips=chips)
    expected, found = last_line(whole / task), last_line(tmp_path / "run")
    for name in ("loss_bits", "heldout_bits", "gradient_norm"):
        assert found[name] == pytest.approx(expected[name], rel=2e-4), name
    one_chip = directory.finished(whole / task)
    assert one_chip is not None
    assert result["quality"]["value"] == pytest.approx(one_chip["quality"]["value"], rel=2e-4)
    assert result["wire"]["bits_per_element"] == pytest.approx(32)  # whatever crosses forward is a float
    assert set(result["cost"]) == {"UCIe standard package", "PCIe 5 x16", "400G Ethernet"}
