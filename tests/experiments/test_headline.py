"""The headline: what is read from programs is what was sent, tables hold what lines say, and a run goes on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from benchmarks import vision as bench
from experiments import asking, headline, language, over_chips, pricing, tasks, vision, ways
from experiments.inside import firing_rate
from experiments.ways import Trial, Way
from snap_jax.boundary.boundary import Boundary
from snap_jax.boundary.transforms import LearnedTransform
from snap_jax.models import resnet
from snap_jax.models.neurons import RateNeurons, TickNeurons
from snap_jax.models.split import split
from snap_jax.parallel.gpipe import GPipe
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.traffic import Traffic, Transfer
from snap_jax.traffic.transfer import choose
from snap_jax.training.tasks.losses import Batch

MOVE = Transfer("ppermute", ("stage",), 2, "uint8", 640, pairs=1, perm=((0, 1),))


PICTURES = resnet.ResNetConfig((2,), width=8, downsample=False)


def test_a_pass_moves_the_bytes_that_its_program_counts_tick_by_tick():
    codec = snap.Codec(snap.Count(3, 0.5), snap.Rans(ratio=1.3, least=1 / 4))  # few rungs: they take long to compile
    boundary = Boundary(codec, 8, transform=LearnedTransform(6))
    model = tasks.Cut(resnet.ResNet(PICTURES, rngs=nnx.Rngs(0)), [boundary])
    pictures = jnp.asarray(np.random.default_rng(0).standard_normal((3, 16, 4, 4, 1)), jnp.float32)
    traffic, logits = over_chips.forward(model, pictures, tokens=None)
    np.testing.assert_allclose(logits[0], nnx.jit(lambda model, x: model(x, None)[0])(model, pictures[0]), atol=1e-5)

    stages, params = split(model.net, [boundary, boundary])

    def watched(params, pictures):
        work = stages.work(lambda logits, _: (jnp.zeros(()), ()), observe=True)
        return jax.tree.map(lambda a: a[None], GPipe(3, 2).run(work, params, Batch(pictures, pictures))[2])

    devices = auto_mesh({"stage": 2})
    seen = jax.jit(jax.shard_map(watched, mesh=devices, in_specs=(P("stage"), P()), out_specs=P("stage")))(
        params, pictures
    )
    # Chip 0 works at ticks 0, 1, 2; at tick 3 zeros leave it.
    size = 16 * 4 * 4 * 6
    zeros = codec.sizes(size)[int(codec.draft(jnp.zeros((16, 4, 4, 6), jnp.int8))[0])] + 1  # and a header
    messages = [t.bytes for t in traffic if t.op == "ppermute" for _ in range(t.times)]
    assert len(messages) == 4
    assert sum(messages) == int(jax.device_get(seen).sent_bytes[0]) + zeros


def test_a_switch_counts_in_the_rungs_taken():
    small, large = (Traffic((dataclasses.replace(MOVE, bytes=n, times=4),)) for n in (10, 100))
    agree = Transfer("pmax", ("stage",), 2, "uint8", 1, 4)
    whole = Traffic((agree, *choose("b", [small, large]).transfers), choose("b", [small, large]).choices)
    assert whole.sent_bytes == 2 * 1 * 4 + 400
    assert over_chips.taken(whole, (0, 1, 0, 0)).sent_bytes == 2 * 1 * 4 + 3 * 10 + 100
    with_tokens = over_chips.with_tokens(over_chips.taken(whole, (0, 1, 0, 0)), 5)
    assert with_tokens.sent_bytes == 2 * 1 * 4 + 3 * 15 + 105


def test_floats_need_no_rungs_and_count_both_ways():
    model, pictures = tasks.Cut(resnet.ResNet(PICTURES, rngs=nnx.Rngs(0)), []), jnp.zeros((2, 1, 4, 4, 1))
    assert over_chips.rungs(model, pictures, tokens=False) == ()
    traffic = over_chips.training_step(model, pictures, tokens=None)
    each = 3 * 4 * 4 * 8 * 4  # ticks, pixels, width, bytes of a float
    sent = {way: traffic.where(lambda t, way=way: t.direction == way).sent_bytes for way in ("forward", "backward")}
    assert sent == {"forward": each, "backward": each}


class OneLayer(nnx.Module):
    def __init__(self, act):
        self.act = act

    def __call__(self, x):
        return self.act(x)


def test_firing_rates_are_spikes_a_neuron_and_tick():
    # Currents of 0.5 for three ticks reach the threshold of 1 once; currents of 0 never.
    assert firing_rate(OneLayer(TickNeurons(ticks=3, leak=1.0)), jnp.array([[0.5, 0.0]] * 3)) == pytest.approx(1 / 6)
    # As its docstring has it: in thresholds these fire at 1, 0.5 and 0 of their ticks.
    assert firing_rate(OneLayer(RateNeurons(3, 4, signed=False)), jnp.array([2.0, 1.2, -2.0])) == pytest.approx(0.5)


def line(trial, nbytes, macs=0, **more):
    traffic = json.loads(Traffic((dataclasses.replace(MOVE, bytes=nbytes),)).to_json())
    each = {"pass": traffic, "smallest": traffic, "step": traffic}
    quality = {"bits_per_byte": 2.0, "accuracy": 98.0, "nats": 0.1, "wire_bits": 1.0, "inner_rate": None}
    rest = {"traffic": each, "operations": [["mac", "float32", macs], ["other", "float32", 7]], "seconds": 3}
    return trial.key | quality | rest | more


def written(file, lines):
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return file


DENSE, HYBRID = (Trial("text", way) for way in headline.WAYS["text"][:3:2])


def test_ratios_are_those_of_the_equations():
    dense, ours = line(DENSE, 640, 10**6), line(HYBRID, 64, 10**6)
    # UCIe: 68 bytes on the wire for 64, 0.5 to 0.6 pJ a bit, 64 bytes a ns, 1 ns a hop.
    energy = lambda one: pricing.energy(pricing.links(one, "pass", "ucie-chain"))
    assert energy(dense).low == pytest.approx(680 * 8 * 0.5e-12)
    assert pricing.times_less([dense], [ours], energy) == "10"
    time = lambda one: pricing.seconds(pricing.links(one, "pass", "ucie-chain"))
    assert pricing.times_less([dense], [ours], time) == f"{(1 + 680 / 64) / (1 + 68 / 64):.3g}"
    whole = lambda one: pricing.energy(pricing.with_compute(one, "ucie-chain", 1.0))
    wanted = (680 * 8 * 0.5 + 4.6e6) / (68 * 8 * 0.5 + 4.6e6)
    assert pricing.times_less([dense], [ours], whole) == f"{wanted:.3g}"
    assert (
        pricing.times_less([dense], [ours], lambda one: pricing.energy(pricing.links(one, "pass", "ethernet-400g")))
        == "n/a"
    )


def test_a_spiking_model_accumulates_where_neurons_fire():
    spiking = next(way for way in headline.WAYS["text"] if way.ticks == 4)
    counted = pricing.operations(line(Trial("text", spiking), 64, 100, inner_rate=0.25))
    assert (counted.times("accumulate"), counted.times("mac"), counted.times("other")) == (0.25 * 4 * 100, 0, 4 * 7)


def test_the_page_says_what_the_claim_would_need(tmp_path):
    file = written(tmp_path / "lines", [line(DENSE, 6400, 10**6), line(HYBRID, 64, 10**6)])
    page = pricing.page([DENSE, HYBRID], file, headline.BASE)
    # 100x on the links: (E - 5.3 e) / 4.3 is left for 10^6 multiply-accumulates, at 0.6 pJ a bit.
    left = (6800 - 5.3 * 68) * 8 * 0.6 / 4.3 / 1e6
    assert f"energy 100x on the links; 5.3x if a multiply-accumulate takes at most {left:.2g} pJ" in page
    speed = (10**6 + 7) / 4 * 14.2 / ((1 + 6800 / 64 - 15.2 * (1 + 68 / 64)) * 1e-9) / 1e12
    assert f"15.2x if each chip does {speed:.3g} tera-op/s" in page
    assert "15.2x is out of reach" in page  # on Ethernet, where latency rules
    assert page.endswith("2 runs of 6 s in all")
    assert "yet" in pricing.page([HYBRID], file, headline.BASE)


def test_tables_have_mean_and_spread(tmp_path, capsys):
    seeds = [dataclasses.replace(DENSE, seed=seed) for seed in (0, 1)]
    lines = [line(t, 64, bits_per_byte=q) for t, q in zip(seeds, (2.0, 2.2), strict=True)] + [
        line(HYBRID, 64, bits_per_byte=2.31)
    ]
    language.main(["--show", "--seeds", "0", "1", "--file", str(written(tmp_path / "text", lines))])
    assert "| ANN, bf16 links | 2 | 2.100 ± 0.141 | +0.0 % | 1.000 | – |" in (printed := capsys.readouterr().out)
    assert "| hybrid, 1 bit | 1 | 2.310 | +10.0 % | 1.000 | – |" in printed

    pictures = [Trial("digits", way) for way in vision.WAYS[:2]]
    lines = [line(pictures[0], 64, accuracy=98.5), line(pictures[1], 64, accuracy=97.5)]
    vision.main(["--show", "--file", str(written(tmp_path / "digits", lines))])
    assert (
        "dense 98.50 % (wanted 98.0): yes; hybrid +1.00 points worse (at most 0.5): NO; 1.000"
        in capsys.readouterr().out
    )


def test_a_tiny_run_is_found_again_and_not_run_twice(tmp_path, monkeypatch, capsys):
    small = dataclasses.replace(tasks.digits(8, 2, batch=8), name="small")
    monkeypatch.setattr(ways, "task_of", lambda trial: small)
    monkeypatch.setattr(ways, "PASS", {"digits": (2, 1)})
    monkeypatch.setattr(ways, "WIDTH", {"digits": 8})
    monkeypatch.setattr(headline, "WAYS", {"digits": (Way(headline.BASE, "bf16"),)})
    monkeypatch.setattr(asking, "keep_programs", lambda folder: None)
    file = tmp_path / "runs" / "lines"
    arguments = ["--task", "digits", "--scale", "0.01", "--seeds", "1", "--file", str(file)]
    headline.main(arguments)
    monkeypatch.setattr(ways, "run", lambda trial, programs: pytest.fail("it was there"))
    capsys.readouterr()
    headline.main(arguments)
    # 2 microbatches over 2 chips: 3 ticks of 8 x 8 x 8 numbers in 2 bytes and a header; a step only at seed 0.
    assert f"| {3 * (8 * 8 * 8 * 2 + 1):,} | n/a | 0 M | – |" in capsys.readouterr().out


def test_what_a_kill_cut_short_goes(tmp_path):
    file = tmp_path / "lines"
    file.write_text('{"a": 1}\n{"b": ')
    ways.append({"c": 2}, file)
    assert file.read_text() == '{"a": 1}\n{"c": 2}\n'


def test_bubbles_and_pictures(tmp_path):
    # Two microbatches over two chips: each works for two of three ticks.
    assert bench.bubble(2, 2) == pytest.approx(1 / 3)
    data = bench.written(tmp_path, 60)
    assert data.train_images.shape == (60, 28, 28, 1)
    assert len(data.heldout_images) == 10
