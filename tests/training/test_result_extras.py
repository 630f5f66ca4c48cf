"""Sections of `result.json` for readers: parts of a price, when and where, and the times of a pipeline step."""

import subprocess

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from snap_jax import cost
from snap_jax.parallel.gpipe import GPipe
from snap_jax.traffic import Traffic, Transfer
from snap_jax.training.config import LanguageConfig
from snap_jax.training.exchange_sections import costs_with_exchange
from snap_jax.training.result_extras import made_section, source_commit, timeline_section
from snap_jax.training.result_json import cost_section, part_of


def message(path, direction="forward", nbytes=1000):
    return Transfer("ppermute", ("stage",), 2, "uint8", nbytes, path=path, direction=direction, perm=((0, 1),), pairs=1)


STEP = Traffic(
    (
        message("boundary/snap.ppermute"),
        message("boundary/snap.ppermute", "backward", 3000),
        Transfer("psum", ("stage",), 2, "float32", 4, path="norm"),
    )
)


def test_every_byte_belongs_to_one_part():
    assert [part_of(t) for t in STEP] == ["forward", "backward", "bookkeeping"]
    assert part_of(message("gradients/boundary", "backward")) == "gradients"
    assert part_of(message("step/gradients")) == "gradients"


def test_parts_add_up_to_the_whole():
    ucie = cost_section(STEP, {"stage": 2})["UCIe standard package"]
    assert set(ucie["parts"]) == {"forward", "backward", "bookkeeping"}
    for name in ("energy_j_per_step", "latency_s_per_step"):
        for end in (0, 1):
            assert sum(part[name][end] for part in ucie["parts"].values()) == pytest.approx(ucie[name][end])
    forward, backward = (ucie["parts"][way]["energy_j_per_step"] for way in ("forward", "backward"))
    # Flits of 68 bytes carry 64: 1000 bytes take 16 of them, 3000 take 47.
    assert backward[0] / forward[0] == pytest.approx(47 / 16, rel=0.02)


def test_parts_are_of_the_sizes_measured():
    sent = Traffic((message("boundary/snap.ppermute", nbytes=64),))
    found = cost_section(STEP, {"stage": 2}, sent)["UCIe standard package"]
    assert found["parts"]["forward"]["energy_j_per_step"] == found["sent_energy_j_per_step"]


def test_an_exchange_of_parameters_is_part_of_the_gradients():
    costs, exchange = cost_section(STEP, {"stage": 2}), Traffic((message("gradients"),))
    both = costs_with_exchange(costs, exchange, {"stage": 2}, 0.25)["UCIe standard package"]["parts"]
    once = cost_section(exchange, {"stage": 2})["UCIe standard package"]["energy_j_per_step"]
    assert both["gradients"]["energy_j_per_step"] == [0.25 * joules for joules in once]
    assert both["forward"] == costs["UCIe standard package"]["parts"]["forward"]


def test_a_pass_takes_its_multiply_accumulates_at_the_peak_rate():
    mesh = jax.make_mesh((4,), ("stage",), axis_types=(AxisType.Auto,))
    traced = jax.jit(lambda x: x @ x).trace(jnp.ones((64, 64)))
    schedule = GPipe(microbatches=3, stages=4)  # 3 + 4 - 1 = 6 ticks
    found = timeline_section(traced, schedule, mesh, LanguageConfig(devices=4))["timeline"]
    assert (found["kind"], found["devices"], found["microbatches"]) == ("gpipe", 4, 3)
    rate = (
        cost.UNITS["H100"].tera_ops_per_s.low * 1e12
    )  # multiply-accumulates per second: half of 989.4 tera-operations
    assert rate == pytest.approx(989.4e12 / 2)
    assert found["forward_s"] == pytest.approx(64**3 / (4 * 6) / 3 / rate)
    assert found["backward_s"] == pytest.approx(2 * found["forward_s"])
    assert timeline_section(traced, None, mesh, LanguageConfig())["timeline"] == {}


def test_a_run_says_when_and_where():
    made = made_section()["made"]
    assert made["date"].endswith("+00:00")
    assert made["devices"] == f"{len(jax.devices())} x cpu"


def test_a_commit_is_that_of_tracked_files_only(tmp_path):
    package = tmp_path / "user" / "site-packages" / "snap_jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git = ["git", "-C", str(tmp_path / "user"), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], check=True)
    assert source_commit(package) is None  # the repository of a user around an installed package
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "y"], check=True)
    commit = source_commit(package)
    assert len(commit) == 10
    (package / "__init__.py").write_text("changed")
    assert source_commit(package) == f"{commit}+"
