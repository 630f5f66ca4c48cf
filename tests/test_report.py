"""The report: right numbers, nothing from the network, and one line naming the file when a run is broken."""

import base64
import copy
import io
import json
import math
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from rich.console import Console

from snap_jax.errors import UsageError
from snap_jax.report import table, write_report
from snap_jax.report.png import data_uri

RESULT = {
    "quality": {"metric": "bits_per_byte", "value": 2.0, "n": 4096},
    "wire": {
        "forward_bytes_per_step": 1000,
        "backward_bytes_per_step": 3000,
        "bits_per_element": 16.0,
        "entropy_bits_per_element": 12.0,
        "firing_rate": None,
        "by_boundary": [
            {
                "path": "boundary_0",
                "forward_bytes": 400,
                "backward_bytes": 1200,
                "firing_rate": None,
                "entropy_bits": 12.0,
            },
            {
                "path": "boundary_1",
                "forward_bytes": 600,
                "backward_bytes": 1800,
                "firing_rate": None,
                "entropy_bits": 12.0,
            },
        ],
    },
    "cost": {
        "ring": {"energy_j_per_step": [1e-6, 2e-6], "energy_note": None, "latency_s_per_step": [3e-3, 3e-3]},
        "far": {
            "energy_j_per_step": None,
            "energy_note": "nobody measured it",
            "latency_s_per_step": [1.0, 2.5],
            "latency_note": "by hearsay",
        },
    },
    "config": {"data": "stdlib", "link": "bf16", "steps": 30, "resume": False, "budget": None},
    "versions": {"jax": "0.10.2"},
    "seconds": 95.0,
    "baselines": {"order0_bits_per_byte": 4.675, "gzip_bits_per_byte": 1.937},
}
SPIKING = {
    ("quality", "value"): 2.1,
    ("wire", "forward_bytes_per_step"): 125,
    ("wire", "bits_per_element"): 2.0,
    ("wire", "entropy_bits_per_element"): 1.25,
    ("wire", "firing_rate"): 0.375,
    ("config", "link"): "count:3",
}


def changed(changes):
    result = copy.deepcopy(RESULT)
    for (*sections, key), value in changes.items():
        place = result
        for section in sections:
            place = place[section]
        place[key] = value
    return result


def make_run(root, name, changes=None, logs=None, spikes=None):
    path = root / name
    path.mkdir()
    (path / "result.json").write_text(json.dumps(changed(changes or {})))
    if logs is not None:
        (path / "metrics.jsonl").write_text("".join(json.dumps(log) + "\n" for log in logs))
    if spikes is not None:
        np.savez(path / "spikes.npz", **spikes)
    return path


def logs(steps=40):
    return [
        {
            "step": s,
            "loss_bits": 2 + 5 / (s + 1),
            "entropy_bits_per_element": 1.5,
            "firing_rate": 0.25,
            "threshold_mean": [1, 2],
        }
        | ({"heldout_bits": 2 + 6 / (s + 1)} if s % 10 == 9 else {})
        for s in range(steps)
    ]


def some_spikes():
    text = np.frombuffer(b"def f(x):\n\treturn x\xc3\xa9\0", np.uint8)
    values = np.random.default_rng(0).integers(-1, 2, size=(2, len(text), 16)).astype(np.int8)
    return {"text": text, "spikes": values}


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path, "dense", logs=logs()),
        make_run(tmp_path, "spiking", SPIKING, logs=logs(), spikes=some_spikes()),
    ]


VOID = {"meta", "link", "circle", "line", "rect", "polygon", "polyline", "image", "br"}


class Page(HTMLParser):
    """All that a browser would see: attributes, words, cells by line of the table, and tags left open."""

    def __init__(self, html):
        super().__init__()
        self.seen, self.open, self.words, self.lines = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.lines.append([])

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)
        if "tr" in self.open and self.open[-1] in ("td", "th"):
            self.lines[-1].append(data)


def page(runs, tmp_path):
    write_report(runs, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def printed(runs):
    console = Console(width=120, file=io.StringIO())
    console.print(table(runs))
    return console.file.getvalue()


def test_the_table_relates_to_the_densest_run(runs, tmp_path):
    lines = [line for line in page(runs, tmp_path).lines if len(line) > 1]
    assert lines == [
        ["bf16", "count:3"],
        ["bits per byte", "2.000", "2.100"],
        ["against bf16", "–", "+5.0 %"],  # 2.1 / 2.0
        ["predictions measured", "4,096", "4,096"],
        ["bits per element", "16", "2"],
        ["against bf16", "–", "1/8"],  # 2 / 16
        ["entropy, bits per element", "12", "1.25"],
        ["firing rate", "–", "37.5 %"],
        ["forward, bytes per step", "1,000", "125"],
        ["against bf16", "–", "1/8"],  # 125 / 1000
        ["backward, bytes per step", "3,000", "3,000"],
        ["against bf16", "–", "1×"],
        ["both, bytes per step", "4,000", "3,125"],
        ["against bf16", "–", "0.781×"],  # 3125 / 4000 = 0.78125
        ["energy per step", "1–2 µJ", "1–2 µJ"],
        ["latency per step", "3 ms", "3 ms"],
        ["energy per step", "unknown", "unknown"],
        ["latency per step", "1–2.5 s", "1–2.5 s"],
        ["trained in", "1 min 35 s", "1 min 35 s"],
    ]


def test_terminal_and_page_have_the_same_lines(runs, tmp_path):
    shown = [line.split("  ") for line in printed(runs).splitlines()]
    shown = [[cell.strip() for cell in line if cell.strip()] for line in shown]
    for line in page(runs, tmp_path).lines:
        assert line in shown


def test_notes_say_why_and_against_what(runs, tmp_path):
    for words in (printed(runs), " ".join(page(runs, tmp_path).words)):
        assert words.count("far, energy: nobody measured it") == 1
        assert words.count("far, latency: by hearsay") == 1
        assert "gzip -9 of the held-out text: 1.937 bits per byte" in words


def test_baselines_of_different_texts_are_kept_apart(tmp_path):
    paths = [make_run(tmp_path, "a"), make_run(tmp_path, "b", {("baselines", "gzip_bits_per_byte"): 2.5})]
    words = page(paths, tmp_path).words
    assert "gzip -9 of the text held out from bf16 (a): 1.937 bits per byte" in words
    assert "gzip -9 of the text held out from bf16 (b): 2.500 bits per byte" in words
    assert "order-0 entropy of the held-out text: 4.675 bits per byte" in words


def test_the_headline_has_the_numbers(runs, tmp_path):
    words = "".join(page(runs, tmp_path).words)
    assert (
        "count:3 sends 2 bits per element forward from chip to chip, 1/8 of the 16 that bf16 sends, "
        "and reaches 2.100 bits per byte on held-out stdlib, +5.0 % against 2.000." in words
    )
    assert "Forward and backward together, count:3 moves 0.781 times the bytes of bf16." in words


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
    assert "bf16 sends 16 bits per element forward from chip to chip, and reaches 2.000 bits per byte" in words
    assert "against" not in words.replace("against bits per element", "")


def test_the_page_asks_nothing_of_the_network(runs, tmp_path):
    html = page(runs, tmp_path)
    assert html.open == []
    assert "script" not in {tag for tag, _ in html.seen}
    links = [attrs[key] for _, attrs in html.seen for key in ("href", "src", "srcset", "action") if key in attrs]
    assert len(links) >= 3  # the empty icon and two rasters
    assert all(link.startswith("data:") for link in links)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "://" not in text
    assert "@import" not in text
    assert "url(" not in text
    policies = [attrs["content"] for tag, attrs in html.seen if "http-equiv" in attrs]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_page_reads_well_on_phones_and_aloud(runs, tmp_path):
    html = page(runs, tmp_path)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in html.seen
    pictures = [attrs for tag, attrs in html.seen if tag == "svg"]
    figures = [attrs["aria-label"] for attrs in pictures if attrs.get("role") == "img"]
    assert len(figures) == 7  # trade-off, bytes, loss, entropy, firing rate, thresholds, raster
    assert "bits per byte against bits per element. bf16: 16 bits, 2.000; count:3: 2 bits, 2.100" in figures
    assert all(attrs.get("role") == "img" or attrs["aria-hidden"] == "true" for attrs in pictures)


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
    path = make_run(
        root, "r", {("config", "link"): f"<b>{link}", ("versions", "jax"): f"'\"&<script>{version}"}, logs()
    )
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
    assert "Side by side" in words
    assert "bare" in words  # called by its folder, for want of a link
    for section in ("While it trained", "Spikes of real text", "Effort"):
        assert section not in words


def test_runs_of_one_link_are_told_apart(tmp_path):
    paths = [make_run(tmp_path, name) for name in ("a", "b")]
    paths.append(make_run(tmp_path, "c", {("config", "grad_link"): "int8"}))
    assert page([*paths, paths[0]], tmp_path).lines[0] == ["bf16 (a)", "bf16 (b)", "bf16 (c)"]
    assert page([paths[0], paths[2]], tmp_path).lines[0] == ["bf16 / None", "bf16 / int8"]


def test_commands_survive_a_shell(tmp_path):
    path = make_run(tmp_path, "a run", {("config", "data"): "my text.txt", ("config", "remat"): True})
    told = make_run(tmp_path, "told", {("command",): "snap-jax demo"})
    commands = "".join(page([path, told], tmp_path).words).split("Make it again")[1]
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


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_png_keeps_every_pixel(height, width, data):
    palette = data.draw(st.lists(st.tuples(*[st.integers(0, 255)] * 4), min_size=1, max_size=256))
    flat = data.draw(st.lists(st.integers(0, len(palette) - 1), min_size=height * width, max_size=height * width))
    pixels = np.array(flat, np.uint8).reshape(height, width)
    file = base64.b64decode(data_uri(pixels, palette).removeprefix("data:image/png;base64,"))
    read = np.round(imread(io.BytesIO(file), format="png") * 255).astype(int)
    if read.shape[-1] == 3:  # a reader may drop an opacity that is full everywhere
        read = np.concatenate([read, np.full((height, width, 1), 255)], axis=-1)
    assert np.array_equal(read, np.array(palette)[pixels])


def test_the_raster_shows_each_spike_once(tmp_path):
    spikes = some_spikes()
    html = page([make_run(tmp_path, "run", spikes=spikes)], tmp_path)
    images = [attrs["href"] for tag, attrs in html.seen if tag == "image"]
    for uri, values in zip(images, spikes["spikes"], strict=True):
        pixels = imread(io.BytesIO(base64.b64decode(uri.split(",")[1])), format="png")
        drawn = pixels[:, ::5]  # a column is four pixels and a gap
        red, blue, opacity = drawn[..., 0], drawn[..., 2], drawn[..., 3]
        assert np.array_equal((opacity > 0) & (red > blue), values.T > 0)
        assert np.array_equal((opacity > 0) & (blue > red), values.T < 0)
        assert not pixels[:, 4::5, 3].any()


def test_the_raster_writes_the_text_below(tmp_path):
    html = page([make_run(tmp_path, "run", spikes=some_spikes())], tmp_path)
    below = "".join(word for word in html.words if len(word) == 1)
    assert "def·f(x):⏎⇥return·x▯▯▯" * 2 in below


BAD_RESULTS = [
    ({("quality", "value"): "low"}, "quality.value is 'low', not a number"),
    ({("quality", "value"): True}, "quality.value is True, not a number"),
    ({("quality", "metric"): None}, "quality.metric is None, not a string"),
    ({("quality",): None}, "quality.metric is missing, not a string"),
    ({("wire",): []}, r"wire is \[\], not an object"),
    ({("wire", "forward_bytes_per_step"): -1}, "wire.forward_bytes_per_step is -1, not a count"),
    ({("wire", "by_boundary"): {"a": 1}}, "wire.by_boundary is .*, not a list"),
    ({("wire", "by_boundary"): [{"path": 3}]}, r"wire.by_boundary\[0\].path is 3, not a string"),
    (
        {("cost", "ring", "energy_j_per_step"): 3.0},
        r"cost.ring.energy_j_per_step is 3.0, not a pair \[low, high\]",
    ),
    (
        {("cost", "ring", "latency_s_per_step"): [1, "x"]},
        "cost.ring.latency_s_per_step.high is 'x', not a number",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD_RESULTS)
def test_a_malformed_result_is_named(tmp_path, changes, message):
    path = make_run(tmp_path, "run", changes)
    for report in (table, lambda runs: write_report(runs, tmp_path / "r.html")):
        with pytest.raises(UsageError, match=rf"run/result\.json: {message}: run the training again"):
            report([path])
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result.json", b"{", "run/result.json is not JSON"),
        ("result.json", b"[1]", "run/result.json holds list, not an object"),
        ("result.json", b"\xff\xfe", "cannot read .*run/result.json"),
        ("metrics.jsonl", b'{"step": 1}\n{"step"', "run/metrics.jsonl, line 2, is not JSON"),
        ("metrics.jsonl", b'{"loss_bits": 1}', "run/metrics.jsonl: line 1.step is missing, not a number"),
        (
            "metrics.jsonl",
            b'{"step": 1, "threshold_mean": [1, "x"]}',
            r"line 1.threshold_mean.\[1\] is 'x', not a number",
        ),
        ("spikes.npz", b"PK torn", "cannot read .*run/spikes.npz"),
        ("spikes.npz", b"", "cannot read .*run/spikes.npz"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, file, content, message):
    path = make_run(tmp_path, "run")
    (path / file).write_bytes(content)
    with pytest.raises(UsageError, match=message) as error:
        table([path])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"text": np.zeros(3, np.uint8)},
        {"text": np.zeros(3, np.uint8), "spikes": np.zeros((1, 4, 2), np.int8)},
        {"text": np.zeros(3, np.uint8), "spikes": np.zeros((3, 2), np.int8)},
        {"text": np.zeros(3, np.uint8), "spikes": np.zeros((1, 3, 2), np.float32)},
        {"text": np.zeros(3, np.int32), "spikes": np.zeros((1, 3, 2), np.int8)},
    ],
)
def test_spikes_of_another_shape_are_refused(tmp_path, arrays):
    with pytest.raises(UsageError, match=r"run/spikes\.npz"):
        table([make_run(tmp_path, "run", spikes=arrays)])


def test_no_run_directory_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere is not a run directory, it has no .*: give the --out"):
        table([Path("nowhere")])
    with pytest.raises(UsageError, match="report of no runs"):
        table([])


def test_an_unwritable_page_is_named_and_nothing_is_left(runs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"out=.*/report.*: give a writable path"):
        write_report(runs, tmp_path / "file" / "report.html")
    with pytest.raises(UsageError, match=r"is a directory: name a file in it, such as .*dense/report\.html"):
        write_report(runs, tmp_path / "dense")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "file", "spiking"]


def test_the_page_goes_into_a_new_directory_whole(runs, tmp_path):
    write_report(runs, tmp_path / "new" / "deep" / "report.html")
    assert [path.name for path in (tmp_path / "new" / "deep").iterdir()] == ["report.html"]
