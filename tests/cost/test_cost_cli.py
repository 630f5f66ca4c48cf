"""Systems from files and by name, and the command `snap-jax cost`; mistakes are named."""

import csv
import io
import json

import pytest
from rich.console import Console

import snap_jax.cost.toml_systems
from snap_jax.cost import (
    Chain,
    Coding,
    CostError,
    FullyConnected,
    Graph,
    Mesh,
    PipelineOrder,
    Range,
    Ring,
    Switch,
    Torus,
    Workload,
    links,
    load,
    named,
    price,
)
from snap_jax.cost import cli as cost_cli
from snap_jax.cost.cli import run
from snap_jax.cost.memory import MEMORIES
from snap_jax.cost.nodes import UNITS
from snap_jax.cost.system import NAMED, axis_sizes
from snap_jax.traffic.transfer import Traffic, Transfer

TRAFFIC = Traffic((Transfer("all_gather", ("device",), 4, "uint8", 64_000),))
EXAMPLE = snap_jax.cost.toml_systems.__doc__.split("\n\n", 1)[1]


def system(text, tmp_path):
    path = tmp_path / "system.toml"
    path.write_text(text)
    return load(path)


def test_the_example_at_the_top_of_the_module_is_a_system(tmp_path):
    found = system(EXAMPLE, tmp_path)
    mine = links.Link(
        "mine", "PHY and controller", "our lab, 2025", Range(0.4, 0.5), Range(64.0, 64.0), Range(2.0, 2.0)
    )
    assert found.axes == {"device": Ring(4, mine)}
    assert (found.name, found.algorithm) == ("four chips", "default")
    assert found.compute.tera_ops_per_s == Range(80.0, 100.0)
    assert found.coding == Coding(Range(25.0, 25.0), Range(3.0, 3.0), "measured on this machine")
    assert found.memory == MEMORIES["HBM2"]
    # 4 x 3 shards of 64 kB at 0.4 to 0.5 pJ/bit.
    assert list(price(TRAFFIC, found).energy_j) == pytest.approx([12 * 64e3 * 8 * p * 1e-12 for p in (0.4, 0.5)])


@pytest.mark.parametrize(
    ("axis", "topology"),
    [
        ('topology = "Chain"\nchips = 3', Chain(3, links.PCIE5)),
        ('topology = "Ring"\nchips = 3', Ring(3, links.PCIE5)),
        ('topology = "Ring"\nchips = 3\nbidirectional = true', Ring(3, links.PCIE5, bidirectional=True)),
        ('topology = "Switch"\nchips = 3', Switch(3, links.PCIE5)),
        ('topology = "FullyConnected"\nchips = 3', FullyConnected(3, links.PCIE5)),
        ('topology = "Mesh"\nshape = [2, 3]', Mesh((2, 3), links.PCIE5)),
        ('topology = "Torus"\nshape = [4, 4]', Torus((4, 4), links.PCIE5)),
        ('topology = "Graph"\nchips = 3\njoins = [[0, 1], [1, 2]]', Graph(3, ((0, 1), (1, 2)), links.PCIE5)),
    ],
)
def test_every_topology_can_be_written(axis, topology, tmp_path):
    assert system(f'[axes.x]\nlink = "PCIE5"\n{axis}', tmp_path).axes == {"x": topology}


RING = '[axes.x]\ntopology = "Ring"\nchips = 4\nlink = "PCIE5"\n'
LINK = '[links.mine]\nboundary = "b"\nsource = "s"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no \[axes.NAME\]"),
        ("axes = 3", "axes is 3, not an object"),
        ("not toml", "is not TOML"),
        (f"{RING}color = 1", "axes.x.color is not known"),
        (f"tempo = 1\n{RING}", "tempo is not known"),
        (f'algorithm = "magic"\n{RING}', "algorithm is 'magic', not one of default"),
        (RING.replace("PCIE5", "PCIE9"), "axes.x.link is 'PCIE9', not one of UCIE_STANDARD"),
        (RING.replace("Ring", "Moebius"), "axes.x.topology is 'Moebius': want one of Chain, Ring"),
        (RING.replace("chips = 4", ""), "axes.x.chips is missing: a Ring has it"),
        (f"{RING}shape = [2]", "axes.x.shape is not known: a Ring has chips, bidirectional"),
        (RING.replace("chips = 4", 'chips = "four"'), "axes.x.chips is 'four', not a whole number"),
        (RING.replace("chips = 4", "chips = true"), "axes.x.chips is True, not a whole number"),
        (RING.replace("chips = 4", "chips = 100000"), "axes.x.chips is 100000: input should be less than or equal to"),
        ('[axes.x]\ntopology = "Mesh"\nlink = "PCIE5"\nshape = 4', "axes.x.shape is 4, not a list"),
        ('[axes.x]\ntopology = "Mesh"\nlink = "PCIE5"\nshape = [999, 999]', "axes.x.shape has 998,001 chips, more"),
        (f'{RING}bidirectional = "yes"', "axes.x.bidirectional is 'yes', not true or false"),
        ("[links.mine]\nsource = 's'\n" + RING, "links.mine.boundary is missing"),
        (f"{LINK}pj_per_bit = 'low'\n{RING}", r"links.mine.pj_per_bit is 'low': want a number, or \[low, high\]"),
        (f"{LINK}pj_per_bit = [1, 2, 3]\n{RING}", r"links.mine.pj_per_bit is \[1, 2, 3\]: want a number"),
        (f"{LINK}gbyte_per_s = true\n{RING}", "links.mine.gbyte_per_s is True: want a number"),
        (f"{LINK}gbyte_per_s = [1, true]\n{RING}", "want a number"),
        (f"{LINK}gbyte_per_s = 0\n{RING}", r"links.mine.gbyte_per_s\[0\] is 0: input should be greater than 0"),
        (f"{LINK}latency_ns = 1{'0' * 400}\n{RING}", r"links.mine.latency_ns\[0\] is "),
        (
            '[axes.x]\ntopology = "Graph"\nlink = "PCIE5"\nchips = 2\njoins = [[0]]',
            r"axes.x.joins\[0\]\[1\] is missing",
        ),
        (f"{LINK}pj_per_bit = [2, 1]\n{RING}", r"links.mine.pj_per_bit is \[2, 1\]: want low <= high"),
        (f"{LINK}watts = 1\n{RING}", "links.mine.watts is not known"),
        (f'{RING}[compute]\nunit = "ABACUS"', "compute.unit is 'ABACUS', not one of HOROWITZ_45NM"),
        (f'memory = "CORE"\n{RING}', "memory is 'CORE', not one of SRAM_45NM"),
        (f'{RING}[coding]\nencode_gbyte_per_s = 1\nsource = "s"', "coding.decode_gbyte_per_s is missing"),
    ],
)
def test_a_mistake_in_a_file_is_named(text, message, tmp_path):
    with pytest.raises(CostError, match=rf"system\.toml:? .*{message}"):
        system(text, tmp_path)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(CostError, match=r"cannot read nowhere\.toml"):
        load("nowhere.toml")


@pytest.mark.parametrize("name", NAMED)
def test_named_systems_take_their_sizes_from_the_traffic(name):
    found = named(name, TRAFFIC)
    assert {axis: topology.size for axis, topology in found.axes.items()} == {"device": 4}
    assert price(TRAFFIC, found).wire_bytes > 0


def test_axis_sizes():
    both = Transfer("psum", ("pod", "device"), 8, "uint8", 1)
    assert axis_sizes(Traffic((both, *TRAFFIC))) == {"device": 4, "pod": 2}
    with pytest.raises(CostError, match=r"sizes of axes \['pod', 'device'\] cannot be told"):
        axis_sizes(Traffic((both,)))
    with pytest.raises(CostError, match="others say"):
        axis_sizes(Traffic((*TRAFFIC, Transfer("psum", ("device",), 2, "uint8", 1))))


def printed(*arguments, **options):
    console = Console(width=120, file=io.StringIO())
    run(*arguments, console=console, **options)
    return console.file.getvalue()


def test_run_prices_a_traffic_file_or_the_directory_that_holds_it(tmp_path):
    (tmp_path / "traffic.json").write_text(TRAFFIC.to_json())
    (tmp_path / "mine.toml").write_text(RING.replace("axes.x", "axes.device"))
    by_file = printed(str(tmp_path / "traffic.json"), "ucie-ring")
    assert "Cost of one run on ucie-ring" in by_file
    assert printed(str(tmp_path), "ucie-ring") == by_file
    assert "PCIe 5 x16" in printed(str(tmp_path), str(tmp_path / "mine.toml"))


def test_run_lists_every_link_with_its_source_and_every_system():
    text = printed(None, None, True)
    flat = " ".join(text.split())
    for name, link in links.PRESETS.items():
        assert name in text
        assert " ".join(link.source.split()) in flat
    assert all(name in text for name in NAMED)


def test_names_and_figures_are_whole_in_80_columns():
    console = Console(width=80, file=io.StringIO())
    run(None, None, True, console=console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for name in (*links.PRESETS, *UNITS, *NAMED):
        assert any(line.startswith(f" {name} ") for line in lines), name
    assert any(line.split() == ["PCIE4", "1.93", "–", "6", "31.5077", "256", "+", "24", "B"] for line in lines)


def test_boundaries_gradients_and_bookkeeping_have_rows_of_their_own():
    """Three gathers of 1000 bytes to 3 others each: 12,000 bytes per device group, whatever they are for."""
    of = lambda path, way="forward": Transfer("all_gather", ("device",), 4, "uint8", 1000, path=path, direction=way)
    traffic = Traffic((of("boundary"), of("boundary", "backward"), of("gradients/mean"), of("bookkeeping")))
    report = price(traffic, named("ucie-ring", traffic))
    rows = dict(report.subtotals())
    assert list(rows) == ["forward", "backward", "gradients", "bookkeeping", "total"]
    assert len({rows[name].wire_bytes for name in rows if name != "total"}) == 1
    assert rows["total"].wire_bytes == 4 * rows["bookkeeping"].wire_bytes
    assert list(json.loads(report.to_json())["by_part"]) == ["forward", "backward", "gradients", "bookkeeping"]


@pytest.mark.parametrize(
    ("source", "system", "message"),
    [
        (None, "ucie-ring", "want RUN_DIR or TRAFFIC.json"),
        ("x", None, "and --system NAME or FILE.toml"),
        ("nowhere.json", "ucie-ring", r"cannot read nowhere\.json \(No such file"),
    ],
)
def test_run_says_what_is_missing(source, system, message):
    with pytest.raises(CostError, match=message):
        run(source, system)


def test_an_unknown_system_is_named_with_those_there_are(tmp_path):
    (tmp_path / "traffic.json").write_text(TRAFFIC.to_json())
    with pytest.raises(CostError, match="system 'abacus' is not known; want one of ucie-ring"):
        run(str(tmp_path), "abacus")


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "traffic.json").write_text("[1, 2]")
    with pytest.raises(
        CostError, match=r"cost: .*traffic\.json holds list, not an object: give a file that Traffic\.to_json"
    ):
        run(str(tmp_path), "ucie-ring")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("abacus", "width", ["1"], None), "--system abacus is not known; want one of ucie-ring"),
        (("ucie-ring", "width", ["1"], "abacus"), "--unit abacus is not known; want one of HOROWITZ_45NM"),
        (("ucie-ring", "weight", ["1"], None), "--vary weight is not known; want one of .*width"),
    ],
)
def test_a_sweep_of_what_is_not_known_names_the_flag(arguments, message):
    with pytest.raises(CostError, match=message):
        cost_cli.show_sweep(*arguments, Workload())


def test_json_and_csv_hold_the_numbers_of_the_table(tmp_path):
    (tmp_path / "traffic.json").write_text(TRAFFIC.to_json())
    tree = json.loads(printed(str(tmp_path), "ucie-ring", False, form="json"))
    rows = list(csv.DictReader(io.StringIO(printed(str(tmp_path), "ucie-ring", False, form="csv"))))
    assert rows[-1]["transfer"] == "total"
    # 4 x 3 crossings of 64 kB in flits of 64 + 4 bytes.
    assert float(rows[0]["wire_bytes"]) == tree["wire_bytes"] == 12 * 68_000
    assert float(rows[-1]["j_high"]) == tree["energy_j"][1]


def test_a_waterfall_is_written(tmp_path):
    (tmp_path / "traffic.json").write_text(TRAFFIC.to_json())
    printed(str(tmp_path), "ucie-ring", False, waterfall=tmp_path / "cost.svg")
    assert "<svg" in (tmp_path / "cost.svg").read_text()
    with pytest.raises(CostError, match=r"--waterfall .*cost.txt: name a file that ends in .svg, .png, .pdf"):
        printed(str(tmp_path), "ucie-ring", False, waterfall=tmp_path / "cost.txt")


PIPELINE = Traffic((Transfer("ppermute", ("stage",), 2, "float32", 64_000_000, pairs=1, perm=((0, 1),)),))


@pytest.mark.parametrize("ending", [".svg", ".json"])
def test_a_timeline_is_written(ending, tmp_path):
    (tmp_path / "traffic.json").write_text(PIPELINE.to_json())
    console, out = Console(width=200, file=io.StringIO()), tmp_path / f"step{ending}"
    schedule = PipelineOrder("gpipe", 2, 1, 1e-3, 0.0)
    cost_cli.draw_timeline(str(tmp_path), "ucie-chain", schedule, out, console)
    # 1 ms, 68 MB at 64 GB/s and 1 ns, 1 ms.
    assert "3.06 ms a step" in console.file.getvalue()
    assert out.read_text().startswith({".svg": "<svg", ".json": '{"traceEvents"'}[ending])


def test_a_chart_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "traffic.json").write_text(PIPELINE.to_json())
    (tmp_path / "a.json").mkdir()
    with pytest.raises(CostError, match=r"cannot write .*a.json \(Is a directory\): give a path that can be written"):
        cost_cli.draw_timeline(str(tmp_path), "ucie-chain", PipelineOrder("gpipe", 2, 1, 1.0, 0.0), tmp_path / "a.json")


def test_a_timeline_of_another_kind_is_refused(tmp_path):
    with pytest.raises(CostError, match=r"--out .*\.png; want a name that ends in \.svg or \.json"):
        cost_cli.draw_timeline("x", "ucie-chain", PipelineOrder("gpipe", 2, 1, 1.0, 0.0), tmp_path / "a.png")


def test_a_sweep_from_the_command_line():
    console = Console(width=140, file=io.StringIO())
    cost_cli.show_sweep("ucie-ring", "width", ["64", "256"], "JOUPPI_7NM", Workload(), console)
    assert "Jouppi 7 nm" in console.file.getvalue()
    assert [cost_cli._typed(text) for text in ("3", "0.5", "1e3", "tensor")] == [3, 0.5, 1000.0, "tensor"]
