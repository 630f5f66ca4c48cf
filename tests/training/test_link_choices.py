"""Codecs per axis of a layout, and what a policy makes of them, before anything is compiled."""

import dataclasses
import json

import jax
import pytest

import snap_jax as snap
from snap_jax import training
from snap_jax.errors import UsageError
from snap_jax.parallel.data_parallel import average_codec, codec_for
from snap_jax.training import run_dir, starting
from snap_jax.training.config import LanguageConfig, command, read_settings, written_settings
from snap_jax.training.link_setup import average_codec_of, links_of, region_codecs
from tests.support.training_jobs import write_text

THREE = {"layout": "data:2+pipeline:2+tensor:2", "devices": 8}


def codecs(**flags):
    """Between stages forward and backward, of regions forward and backward, and of averages."""
    config = LanguageConfig(**flags)
    links = links_of(config)
    return links.codec, links.grad_codec, *region_codecs(config, links), average_codec_of(config, links)


def test_each_axis_has_its_codec_and_others_send_floats():
    named, bf16, ternary = snap.codec, snap.codec("bf16"), codec_for(snap.codec("ternary"))
    count = named("count:3")
    assert codecs(**THREE, link="count:3") == (count, bf16, count, bf16, codec_for(count))
    assert codecs(**THREE, link="pipeline=count:3,data=ternary") == (count, bf16, None, None, ternary)
    assert codecs(**THREE, link="data=ternary") == (None, None, None, None, ternary)
    assert codecs(**THREE, link="tensor=int8") == (None, None, named("int8"), bf16, None)
    back = codecs(**THREE, link="count:3", grad_link="tensor=int8:absmax,data=topk:0.1")
    assert back == (count, None, count, named("int8:absmax"), named("topk:0.1"))
    assert average_codec(None) is None


def test_in_layout_data_the_gradient_link_is_that_of_averages():
    assert codecs(layout="data", grad_link="ternary")[-1] == codec_for(snap.codec("ternary"))
    assert codecs(layout="data", link="count:3")[-1] == codec_for(snap.codec("count:3"))
    assert codecs(layout="data:2+pipeline:2", link="count:3", grad_link="bf16")[-1] == codec_for(snap.codec("count:3"))
    assert codecs(layout="data", link="int8:absmax")[-1] is None


def test_a_run_with_codecs_per_axis_comes_back_from_its_record():
    config = LanguageConfig(**THREE, link="pipeline=count:3,data=ternary", link_policy="native")
    assert read_settings(json.loads(json.dumps(written_settings(config)))) == config
    assert "--link pipeline=count:3,data=ternary" in command(config)


@pytest.fixture
def tiny(tmp_path):
    return LanguageConfig(
        data=write_text(tmp_path), model="transformer", layers=1, width=8, heads=2, seq_len=8, batch=4, microbatches=1,
        devices=4, layout="data", grad_link="bf16", heldout_bytes=64, steps=2,
    )  # fmt: skip


def test_a_policy_replaces_codecs_that_send_no_less(tiny):
    """Four replicas gather 3 payloads of 16 bits each; a sum of floats sends 2 * 3 / 4 of 32 bits."""
    native, exact = (training.prepare(dataclasses.replace(tiny, link_policy=policy)) for policy in ("native", "exact"))
    (floats,), (coded,) = native.choices, exact.choices
    assert (floats.message, floats.codec, native.task.data_codec) == ("averages of replicas", None, None)
    assert (coded.codec, exact.task.data_codec) == (snap.codec("bf16"), snap.codec("bf16"))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(native.params))
    assert 0.99 < floats.dense_bytes / (2 * 3 * 4 * parameters) < 1.01
    assert training.prepare(tiny).choices == ()


def test_a_link_that_has_changed_is_not_resumed_on(tiny, tmp_path):
    speed, out = tmp_path / "speed.json", tmp_path / "run"
    speed.write_text('{"latency_s": 0.001, "bytes_per_s": 1e6}')
    config = dataclasses.replace(tiny, grad_link="ternary", link_policy="auto", link_speed=str(speed))
    notes = []
    starting.begin(config, out, False, lambda _: None, notes.append)
    assert notes[1].startswith("averages of replicas  psum")
    known = run_dir.record(out)
    assert known is not None
    assert list(known.notes) == notes
    speed.write_text('{"latency_s": 0.002, "bytes_per_s": 1e6}')
    with pytest.raises(UsageError, match=r"--link-speed .*speed.json has changed since the run in .* began"):
        starting.take_up(config, out, known, lambda _: None, lambda _: None)
