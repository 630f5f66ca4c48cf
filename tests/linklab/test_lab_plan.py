"""The parts of the link lab that touch nothing: rates, commands, and which namespaces are stale."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.linklab import cli, namespaces, plan, rates
from snap_jax.errors import UsageError

LAB = Path(cli.__file__).parent / "lab"


@pytest.mark.parametrize("module", [rates, plan, namespaces])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("rate", ["200", "0mbit", "-1gbit", "fast", "1tbit", ""])
def test_a_rate_that_is_none(rate):
    with pytest.raises(UsageError, match=rf"lab: --rate '{rate}': use a number with kbit, mbit or gbit"):
        rates.bits_per_second(rate)


def test_both_ends_of_each_link_are_limited():
    """Four hosts have four links to a switch; three in a ring have three, two have one."""
    for topology, hosts, links in (("bridge", 4, 4), ("ring", 3, 3), ("ring", 2, 1), ("bridge", 1, 1)):
        commands = plan.limit(plan.Network("lab", hosts, topology), "1gbit")
        assert len({(words[2], words[6]) for words in commands}) == 2 * links
        assert all("1000000000bit" in words for words in commands)


@pytest.mark.parametrize("hosts", [2, 3, 4, 5])
def test_a_ring_sends_the_short_way_around(hosts):
    """Follow the routes from each host to each other one: as many steps as the shorter way has."""
    network = plan.Network("lab", hosts, "ring")
    routes = {}
    for words in plan.build(network, "unlimited"):
        if "route" in words:
            here = int(words[2].removeprefix("lab-h"))
            there, device = int(words[5].partition("/")[0].rpartition(".")[2]) - 1, words[words.index("dev") + 1]
            routes[here, there] = (here + (1 if device == "right" else -1)) % hosts
    for here in range(hosts):
        for there in set(range(hosts)) - {here}:
            at, steps = here, 0
            while at != there:
                at, steps = routes[at, there], steps + 1
            assert steps == min((there - here) % hosts, (here - there) % hosts)


def test_namespaces_of_others_are_not_stale_and_never_removed():
    names = [
        "vpn",
        "linklab",
        "linklab-1-2",
        "linklab-1-2-h",
        "linklab-x-2-h0",
        "my-linklab-1-2-h0",
        "linklab-1-2-h0/..",
    ]
    assert namespaces.stale(names, lambda process: None) == []
    for name in names:
        with pytest.raises(UsageError, match="will not remove"):
            namespaces._remove([name])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--hosts 0 --rate 1gbit -- true", "lab: --hosts 0: use 1 to 64"),
        ("--hosts 2 --rate 1gbit", "lab: no command: give it after --"),
        ("--hosts 2 --rate 1gbit -- no-such-program", "lab: 'no-such-program' is no program"),
        ("--hosts 2 --rate slow -- true", "lab: --rate 'slow': use a number"),
    ],
)
def test_mistakes_take_one_line(words, error, capsys, monkeypatch):
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    assert cli.main(words.split()) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(error)
    assert printed.count("\n") == 1


def test_without_rights_or_tools_it_says_so(monkeypatch):
    monkeypatch.setattr(namespaces.shutil, "which", lambda tool: None if tool == "tc" else tool)
    with pytest.raises(UsageError, match="lab: no tc on the PATH: install iproute2"):
        namespaces.require_rights()
    monkeypatch.setattr(namespaces.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="lab: only root can make network namespaces"):
        namespaces.require_rights()


def test_the_program_starts_from_any_folder(tmp_path):
    done = subprocess.run([sys.executable, LAB, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: lab --hosts H --rate RATE")


def test_a_program_of_the_lab_outside_of_it_is_one_line():
    words = [sys.executable, "-m", "benchmarks.linklab.collective_speed", "ppermute"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "start this program in the lab: benchmarks/linklab/lab --hosts 4 --rate 1gbit -- COMMAND\n"
