"""Tables of the experiments say what the lines say, settings differ in what they name, and a file can be continued."""

import dataclasses

import numpy as np
import pytest

from experiments import (
    ablations,
    gap_to_dense,
    gradient_bits,
    local_steps,
    paper_claims,
    pareto,
    pareto_plot,
    scaling,
    side_info_savings,
    sweep,
)
from experiments.markdown import percent
from experiments.settings import DIGITS, TEXT, bottlenecks, dense, distilled, folder, quick, spikes, start
from tests.support.experiment_lines import line, written


def test_every_run_of_a_seed_starts_from_the_same_dense_run():
    ours, baseline = spikes(TEXT, 1.0), bottlenecks(TEXT, 1.0)[0]
    assert start(ours) == start(baseline) == start(dense(TEXT))
    assert (start(ours).steps, start(ours).mode, start(ours).init_from) == (120, "dense", None)
    assert ours.init_from == baseline.init_from == str(folder(start(ours)))
    again = sweep.reseeded(distilled(ours), 3)
    assert (again.init_from, again.teacher) == (str(folder(start(again))), str(folder(dense(again))))
    assert again.seed == start(again).seed == 3
    assert again.init_from != ours.init_from
    assert start(spikes(paper_claims.BASES["digits"], 1.0)) == start(spikes(DIGITS, 1.0))  # one folder, one run


def test_a_bottleneck_has_the_bits_of_the_budget():
    for config in bottlenecks(TEXT, 1.5):
        size = int(config.link.removeprefix("int"))
        assert 1.5 * 64 - size < size * config.rank <= 1.5 * 64


@pytest.mark.parametrize("base", [TEXT, quick(TEXT)])
def test_no_setting_is_trained_twice(base):
    named = ablations.settings(base)
    assert len(set(named.values())) == len(named) == 37
    for settings in (gap_to_dense.pairs, gradient_bits.pairs, scaling.settings):
        assert len(set(settings(base))) == len(settings(base))


def test_bits_needed_are_on_the_line_through_the_logarithms():
    """A loss that halves with every bit, from 8 % at one bit: 1 % takes three bits more."""
    losses = [(bits, 0.08 / 2 ** (bits - 1)) for bits in (1.0, 2.0, 3.0)]
    assert scaling.needed(losses) == pytest.approx(4.0)
    assert scaling.needed([*losses, (5.0, 0.005)]) == pytest.approx(4.0)
    assert scaling.needed([(1.0, 0.02), (2.0, 0.03)]) == np.inf
    assert scaling.needed([(1.0, 0.001), (2.0, 0.0)]) == 0.0


def test_the_pareto_table_compares_losses_with_the_dense_model():
    """Of two baselines of a fixed size the better one is shown; spikes are 0.2 bits, 0.1386 nats, better still."""
    fixed = bottlenecks(TEXT, 1.0)[:2]
    lines = [line(dense(TEXT), 2.0, 32.0), line(spikes(TEXT, 1.0), 2.1, 1.0)]
    lines += [line(fixed[0], 2.3, 1.0), line(fixed[1], 2.5, 1.0), line(distilled(fixed[0]), 2.0, 1.0)]
    rows = pareto.comparison(TEXT, lines, 1).splitlines()
    assert rows[-2] == "| 1.0 | spikes | 1 | 1.000 | 2.1000 | +5.0 % | – |"
    assert rows[-1] == f"| 1.0 | int4, rank 16 | 1 | 1.000 | 2.3000 | +15.0 % | {0.2 * np.log(2):.4f} |"
    assert pareto.comparison(TEXT, [], 1) == "no dense run yet"
    again = [config for config in pareto.repeats(TEXT, lines, 2) if config.rank == 16 and config.link == "int4"]
    assert again == [sweep.reseeded(fixed[0], 1)]


def test_the_plot_has_a_curve_per_family(tmp_path):
    lines = [line(dense(DIGITS), 0.5, 32.0), *(line(spikes(DIGITS, b), 1 / b, b) for b in (1.0, 2.0))]
    lines += [line(sweep.reseeded(spikes(DIGITS, 1.0), 1), 1.2, 1.0), line(bottlenecks(DIGITS, 1.0)[0], 1.3, 1.0)]
    assert {pareto_plot.kind(one) for one in lines} == {"dense", "spikes", "bottleneck"}
    pareto_plot.draw(lines, "digits", "image", tmp_path / "plot.svg")
    assert "bits per element" in (tmp_path / "plot.svg").read_text()


def test_tables_of_the_other_experiments():
    ours = gradient_bits.settings(TEXT)[0]
    lines = [line(dense(TEXT), 2.0, 32.0), line(ours, 2.04, 2.0)]
    assert gradient_bits.table(TEXT, lines).endswith("| 2.000 | 2.00 | 1/8.0 | 2.0400 | +2.00 % |")
    size = [
        line(c, bits, i)
        for i, (c, bits) in enumerate(zip(scaling.size(TEXT, 32, 3), (1.0, 1.02, 1.01, 1.005), strict=True))
    ]
    assert scaling.tables(TEXT, size).splitlines()[2].endswith("| +1.0 % at 2.00 | +0.5 % at 3.00 | 2.00 |")
    ours = distilled(spikes(TEXT, 1.0))
    lines = [
        line(dense(ours), 1.0, 32.0),
        line(distilled(dense(ours)), 0.8, 32.0),
        line(ours, 1.2, 1.0),
    ]
    assert gap_to_dense.table(TEXT, lines).endswith("| 1.000 | 1.2000 | 1.0000 | +20.00 % | 0.8000 | +50.00 % |")
    first, second, *_ = ablations.settings(TEXT).values()
    rows = ablations.table(TEXT, [line(first, 1.0, 1.0), line(second, 1.1, 1.0)]).splitlines()
    assert rows[-1] == "| entropy-coded int4 in place of counts | 1.000 | 1.1000 | +0.1000 |"
    assert percent(-1e-9) == "0.00 %"


def test_the_table_of_local_steps_compares_bytes_and_losses_seed_by_seed():
    """20 of 20 bytes, and 1 of 20; losses 10 % and 20 % above those of the same seed."""
    floats, ours = (local_steps.method(local_steps.BASE, name) for name in ("floats", "30 local steps, ternary"))
    again = [sweep.reseeded(config, 1) for config in (floats, ours)]
    coded = {"wire": {"forward_bytes_per_step": 0, "backward_bytes_per_step": 1}}
    lines = [line(floats, 2.0, 0.0), line(again[0], 4.0, 0.0)]
    lines += [line(ours, 2.2, 0.0) | coded, line(again[1], 4.8, 0.0) | coded]
    rows = local_steps.table(local_steps.BASE, lines).splitlines()
    assert rows[2] == "| 1000 | floats | 20 | 1.0x | 3.0000 | 0.00 ± 0.00 % | 2 |"
    assert rows[3] == "| 1000 | 30 local steps, ternary | 1 | 20.0x | 3.5000 | 15.00 ± 7.07 % | 2 |"
    assert len(set(local_steps.settings(local_steps.BASE))) == 2 * len(local_steps.METHODS) + 2 * len(
        local_steps.REPEATED
    )


def test_tokens_count_as_sent():
    found = line(spikes(TEXT, 1.0), 2.0, 0.9, context_bits=0.0625)
    assert sweep.wire_bits(found) == 0.9625


def test_a_sweep_trains_what_is_missing_and_nothing_twice(tmp_path, monkeypatch):
    configs, trained = [sweep.reseeded(dense(quick(DIGITS)), seed) for seed in (0, 1, 2)], []

    def run(config, finish):
        trained.append(config.seed)
        return line(config, 1.0, 2.0, seconds=3.0)

    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr(sweep, "keep_programs", lambda where: None)
    file, says = tmp_path / "runs" / "lines.jsonl", []
    sweep.sweep(configs[:2], file, say=says.append)
    with file.open("a") as out:
        out.write('{"config": {"task": "vis')  # killed while it wrote
    assert [one["config"]["seed"] for one in sweep.load(file)] == [0, 1]
    sweep.sweep(configs, file, say=says.append)
    assert [one["config"]["seed"] for one in sweep.load(file)] == trained == [0, 1, 2]
    assert says[-1] == "    1.0000 bits, 2.000 bits per element, 3 s"


def test_show_trains_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "run", lambda *_: pytest.fail("it trains"))
    ours = spikes(TEXT, 1.0)
    file = written(tmp_path / "lines", [line(dense(TEXT), 2.0, 32.0), line(ours, 2.1, 1.0)])
    arguments = ["--show", "--file", str(file)]
    sweep.main("what it is", TEXT, gap_to_dense.pairs, gap_to_dense.table, arguments)
    assert "| ours | 1.000 | 2.1000 | 2.0000 | +5.00 % |" in capsys.readouterr().out


def test_savings_are_found_where_they_are():
    """Large and small tokens, each an entropy of its own; 0.8 of the last value saves log2(1 / 0.6)."""
    rng = np.random.default_rng(0)
    tokens = rng.permuted(np.tile([0, 1], (40, 64)), axis=1)
    z = (rng.normal(size=(40, 128, 1)) * np.where(tokens, 8.0, 0.1)[..., None]).astype(np.float32)
    spikes = np.round(z)
    together = side_info_savings.by_channel(spikes.reshape(-1, 1), 1) / spikes.size
    grouped = side_info_savings.with_token_groups(spikes, z, tokens, 2, 1)
    assert grouped == pytest.approx(side_info_savings.entropy(spikes[20:][tokens[20:] == 1]) / 2, abs=0.05)
    assert grouped < together - 0.8  # of the one bit that says which
    # A scale that is sent costs up to two bits per vector, and also tells large from small.
    assert grouped < side_info_savings.with_sent_scale(spikes, z, 1) < grouped + 2.05
    last = rng.normal(size=(40, 128, 1))
    now = 0.8 * last + 0.6 * rng.normal(size=last.shape)
    assert side_info_savings.gaussian_bits(last, now, 1) == pytest.approx(np.log2(1 / 0.6), abs=0.05)


def test_names_say_what_differs():
    config = dataclasses.replace(spikes(TEXT, 1.0), link="int4+rans")
    assert pareto.name(line(config, 1.0, 1.0)) == "int4+rans, rank 20"
