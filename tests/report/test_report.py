"""The report: right numbers, nothing from the network, and one line that names the file when a run is broken."""

import io
import json
import math
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from snap_jax.report import table
from snap_jax.report.load_run import read_runs
from snap_jax.report.rows import rows
from tests.support.report_pages import page
from tests.support.report_runs import ORDER, RESULT, SPIKING, logs, make_run, two_runs

runs = pytest.fixture(two_runs)


def printed(runs):
    console = Console(width=120, file=io.StringIO())
    console.print(table(runs))
    return console.file.getvalue()


def test_the_table_relates_to_the_densest_run(runs, tmp_path):
    lines = [line for line in page(runs, tmp_path).lines if len(line) > 1]
    assert lines[3:] == [
        ["bf16", "count:3"],
        ["bits per byte", "2.000", "2.100"],
        ["against bf16", "–", "+5.0 %"],  # 2.1 / 2.0
        ["predictions measured", "4,096", "4,096"],
        ["bits per element", "16", "2"],
        ["against bf16", "–", "12.5 %"],  # 2 / 16
        ["entropy, bits per element", "12", "1.25"],
        ["firing rate", "–", "37.5 %"],
        ["forward, bytes per step", "1,000", "125"],
        ["against bf16", "–", "12.5 %"],  # 125 / 1000
        ["backward, bytes per step", "3,000", "3,000"],
        ["against bf16", "–", "100 %"],
        ["both, bytes per step", "4,000", "3,125"],
        ["against bf16", "–", "78.1 %"],  # 3125 / 4000 = 0.78125
        ["energy per step", "1–2 µJ", "1–2 µJ"],
        ["latency per step", "3 ms", "3 ms"],
        ["latency per step", "1–2.5 s", "1–2.5 s"],
        ["trained in", "1 min 35 s", "1 min 35 s"],
    ]


def test_terminal_and_page_have_the_same_lines(runs, tmp_path):
    shown = [line.split("  ") for line in printed(runs).splitlines()]
    shown = [[cell.strip() for cell in line if cell.strip()] for line in shown]
    for line in page(runs, tmp_path).lines[3:]:
        assert line in shown


def test_notes_say_why_and_against_what(runs, tmp_path):
    for words in (printed(runs), " ".join(page(runs, tmp_path).words)):
        assert words.count("far, energy: not measured") == 1
        assert words.count("far, latency: secondary source") == 1
        assert "gzip -9 of the held-out text: 1.937 bits per byte" in words


def test_baselines_of_different_texts_are_kept_apart(tmp_path):
    paths = [make_run(tmp_path, "a"), make_run(tmp_path, "b", {("baselines", "gzip_bits_per_byte"): 2.5})]
    words = page(paths, tmp_path).words
    assert "gzip -9 of the text held out from bf16 (a): 1.937 bits per byte" in words
    assert "gzip -9 of the text held out from bf16 (b): 2.500 bits per byte" in words
    assert "order-0 entropy of the held-out text: 4.675 bits per byte" in words


def test_the_headline_has_the_numbers(runs, tmp_path):
    words = "".join(page(runs, tmp_path).words).replace("\xa0", " ")
    assert (
        "count:3 sends 2 bits per element forward between devices, 12.5 % of the 16 that bf16 sends, "
        "and reaches 2.100 bits per byte on held-out stdlib, +5.0 % against 2.000." in words
    )
    assert "Forward and backward together, count:3 moves 78.1 % of the bytes of bf16." in words


def test_the_headline_is_of_the_leanest_run_that_is_about_as_good(tmp_path):
    values = {16: 2.0, 4: 2.059, 2: 2.061, 1: 3.0}  # 3 % above 2 is 2.06
    paths = []
    for bits, value in values.items():
        changes = {
            ("wire", "bits_per_element"): bits,
            ("quality", "value"): value,
            ("config", "link"): f"{bits}b",
        }
        paths.append(make_run(tmp_path, str(bits), changes))
    assert "4b sends 4 bits per element forward" in "".join(page(paths, tmp_path).words)
    none_as_good = [paths[0], *paths[2:]]
    assert "1b sends 1 bits per element forward" in "".join(page(none_as_good, tmp_path).words)


def test_a_single_run_is_compared_with_nothing(runs, tmp_path):
    words = "".join(page(runs[:1], tmp_path).words)
    assert "bf16 sends 16 bits per element forward between devices, and reaches 2.000 bits per byte" in words
    assert "against" not in words.replace("against bits per element", "")


def test_the_page_asks_nothing_of_the_network(runs, tmp_path):
    html = page(runs, tmp_path)
    assert html.open == []
    assert "script" not in {tag for tag, _ in html.seen}
    links = [attrs[key] for _, attrs in html.seen for key in ("href", "src", "srcset", "action") if key in attrs]
    assert len(links) >= 3  # the empty icon and two rasters
    assert all(link.startswith(("data:", "#")) for link in links)
    anchors = {attrs["id"] for _, attrs in html.seen if "id" in attrs}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "://" not in text
    assert "@import" not in text
    assert "url(" not in text
    policies = [attrs["content"] for tag, attrs in html.seen if "http-equiv" in attrs]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_page_reads_well_on_phones_and_aloud(runs, tmp_path):
    html = page(runs, tmp_path)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in html.seen
    drawings = [attrs for tag, attrs in html.seen if tag == "svg"]
    figures = [attrs["aria-label"] for attrs in drawings if attrs.get("role") == "img"]
    # energy, time, trade-off, bytes, loss, entropy, firing rate, thresholds, raster, histograms
    assert len(figures) == 10
    assert "bits per byte against bits per element. bf16: 16 bits, 2.000; count:3: 2 bits, 2.100" in figures
    assert all(attrs.get("role") == "img" or attrs["aria-hidden"] == "true" for attrs in drawings)


def coordinates(html):
    """Each x, y of each figure, as shares of its width and height."""
    width = height = math.nan
    for tag, attrs in html.seen:
        if tag == "svg":
            _, _, width, height = map(float, attrs["viewbox"].split())
        pairs = [pair.split(",") for pair in attrs.get("points", "").split()]
        pairs += [(attrs[x], attrs[y]) for x, y in (("x", "y"), ("cx", "cy"), ("x1", "y1"), ("x2", "y2")) if x in attrs]
        yield from ((float(x) / width, float(y) / height) for x, y in pairs)


NUMBER = st.one_of(st.none(), st.floats(1e-6, 64), st.sampled_from([math.nan, math.inf, 0.0, 1e-9, 1e9]))


VALUE = st.one_of(st.floats(0.01, 100), st.sampled_from([math.nan, math.inf, 0.0]))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(VALUE, NUMBER, NUMBER, NUMBER, st.lists(VALUE, max_size=3)), min_size=1, max_size=9))
def test_whatever_the_numbers_figures_stay_in_their_frames(tmp_path_factory, drawn):
    root, paths = tmp_path_factory.mktemp("runs"), []
    for i, (value, bits, entropy, gzip, losses) in enumerate(drawn):
        changes = {
            ("quality", "value"): value,
            ("wire", "bits_per_element"): bits,
            ("wire", "entropy_bits_per_element"): entropy,
            ("baselines", "gzip_bits_per_byte"): gzip,
            ("baselines", "order0_bits_per_byte"): entropy,
        }
        log = [
            {"step": s, "loss_bits": v, "heldout_bits": v, "firing_rate": v, "threshold_mean": [v, -v]}
            for s, v in enumerate(losses)
        ]
        paths.append(make_run(root, str(i), changes, logs=log))
    printed(paths)
    html = page(paths, root)
    assert html.open == []
    found = list(coordinates(html))
    assert found
    assert all(-0.01 <= share <= 1.01 for pair in found for share in pair)


@settings(deadline=None, max_examples=12)
@given(st.text(min_size=1, max_size=30), st.text(max_size=30))
def test_words_from_files_are_words_on_the_page(tmp_path_factory, link, version):
    root = tmp_path_factory.mktemp("run")
    bad = f"'\"&<script>{version}"
    made, hop = (
        {"date": bad, "commit": bad, "devices": bad},
        {"path": f"stage {bad}", "forward_bytes": 1, "backward_bytes": 1},
    )
    changes = {
        ("config", "link"): f"<b>{link}",
        ("config", bad): bad,
        ("versions", "jax"): bad,
        ("command",): f"snap-jax {bad}",
        ("made",): made,
        ("wire", "by_boundary"): [hop],
        ("cost",): {bad: {"energy_j_per_step": [1.0, 2.0], "latency_note": bad, "parts": {}}},
        ("timeline",): ORDER | {"unit": bad},
    }
    path = make_run(root, "r", changes, logs())
    html = page([path], root)
    assert html.open == []
    assert {"b", "script"}.isdisjoint(tag for tag, _ in html.seen)
    assert any("<script>" in words for words in html.words)
    printed([path])


def test_missing_optional_files_leave_their_figures_out(tmp_path):
    result = {key: RESULT[key] for key in ("quality", "wire")} | {"wire": dict(RESULT["wire"], by_boundary=None)}
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "result.json").write_text(json.dumps(result))
    words = page([tmp_path / "bare"], tmp_path).words
    assert "All numbers" in words
    assert "bare" in words  # called by its folder, for want of a link
    for section in ("While it trained", "What crosses each boundary", "Energy and time of the links", "Effort"):
        assert section not in words


def test_runs_of_one_link_are_told_apart(tmp_path):
    paths = [make_run(tmp_path, name) for name in ("a", "b")]
    paths.append(make_run(tmp_path, "c", {("config", "grad_link"): "int8"}))
    assert page([*paths, paths[0]], tmp_path).lines[4] == ["bf16 (a)", "bf16 (b)", "bf16 (c)"]
    assert page([paths[0], paths[2]], tmp_path).lines[3] == ["bf16 / None", "bf16 / int8"]


def test_commands_survive_a_shell(tmp_path):
    path = make_run(tmp_path, "a run", {("config", "data"): "my text.txt", ("config", "remat"): True})
    told = make_run(tmp_path, "told", {("command",): "snap-jax demo"})
    commands = "".join(page([path, told], tmp_path).words).split("Settings, and how to repeat this")[2]
    command, second = (line for line in commands.splitlines() if "snap-jax" in line)
    words = shlex.split(command[command.index("snap-jax") :])
    assert words[:5] == ["snap-jax", "train", "language", "--data", "my text.txt"]
    assert words[5:] == ["--link", "bf16", "--steps", "30", "--no-resume", "--remat", "--out", "a run"]
    assert second.startswith("snap-jax demo")


def test_a_step_logged_twice_counts_as_logged_last(tmp_path):
    twice = [
        {"step": 1, "heldout_bits": 3.0},
        {"step": 2, "heldout_bits": 7.0},
        {"step": 2, "heldout_bits": 2.5},
    ]
    html = page([make_run(tmp_path, "run", logs=twice)], tmp_path)
    labels = [attrs.get("aria-label", "") for _, attrs in html.seen]
    assert "Bits per byte over training steps; bf16 ends at 2.500" in labels


def test_pruned_channels_are_in_the_table(tmp_path):
    pruned = {("pruned",): {"channels": [24, 21], "payload_bytes": [4096, 3600], "identical": True}}
    runs = read_runs([make_run(tmp_path, "plain"), make_run(tmp_path, "pruned", SPIKING | pruned)])
    cells = {row.name: row.cells for row in rows(runs)}
    assert cells["channels on the wire, before and after pruning"] == ("–", "24 → 21")
    assert cells["bytes of an evaluation, before and after pruning"] == ("–", "4,096 → 3,600")


def test_bits_are_the_measured_ones_where_payloads_have_several_sizes(tmp_path):
    measured = {
        ("wire", "bits_per_element"): 0.875,
        ("wire", "max_bits_per_element"): 2.0,
        ("wire", "budget_bits_per_element"): 1.0,
    }
    found = read_runs([make_run(tmp_path, "plain"), make_run(tmp_path, "buckets", SPIKING | measured)])
    assert [run.bits for run in found] == [16.0, 1.0]
    cells = {row.name: row.cells for row in rows(found)}
    assert cells["at most, as compiled"] == ("16", "2")
    one_size = read_runs(
        [make_run(tmp_path, "one", {("wire", "bits_per_element"): 15.9, ("wire", "max_bits_per_element"): 16.0})]
    )
    assert one_size[0].bits == 16.0
    assert "at most, as compiled" not in {row.name for row in rows(one_size)}


def test_cells_are_whole_in_80_columns_however_many_runs_there_are(tmp_path):
    """Ten runs: as many beside each other as fit, then others below; each row is there for each of them."""
    made = [make_run(tmp_path, f"run{i}", {("config", "link"): f"count:{i + 3}+rans"}) for i in range(10)]
    console = Console(width=80, file=io.StringIO())
    console.print(table(made))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in console.file.getvalue()
    assert sum(line.split()[:2] == ["firing", "rate"] for line in lines) > 1
    shown = " ".join(lines)
    assert all(f"count:{i + 3}+rans" in shown for i in range(10))


def test_gradients_and_bookkeeping_have_rows_where_a_run_knows_them(tmp_path):
    parts = {("wire", "gradient_bytes_per_step"): 2500, ("wire", "bookkeeping_bytes_per_step"): 16}
    text = printed([make_run(tmp_path, "a", parts), make_run(tmp_path, "b", {("config", "link"): "int8"})])
    assert re.search(r"of them gradients of replicas +2,500 +– ", text)
    assert re.search(r"bookkeeping, bytes per step +16 +– ", text)
    assert "bookkeeping" not in printed([make_run(tmp_path, "c")])
