"""Networks of the link lab, for which root is needed: `make linklab` runs these tests, `make test` does not."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.linklab import cli, namespaces

LAB = Path(cli.__file__).parent / "lab"
LACKS = os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("ip", "tc", "unshare", "sysctl"))
pytestmark = [pytest.mark.linklab, pytest.mark.skipif(LACKS, reason="needs root, ip and tc")]

# Host 0 listens under its own name; all others send it a number of bytes. Each prints what its links counted.
TRAFFIC = """
import os, socket
host, hosts = int(os.environ["JAX_PROCESS_ID"]), int(os.environ["JAX_NUM_PROCESSES"])
count = 1_000_000
if host == 0:
    server = socket.create_server((socket.gethostname(), 999), backlog=hosts)
    senders = [server.accept()[0] for _ in range(1, hosts)]
    for one in senders:
        got = 0
        while block := one.recv(65536):
            got += len(block)
        assert got == count, got
    for one in senders:  # only now: a host may pass on what another one sends
        one.close()
else:
    first = socket.gethostname().rpartition("h")[0] + "h0"
    for _ in range(200):
        try:
            one = socket.create_connection((first, 999))
            break
        except ConnectionRefusedError:
            __import__("time").sleep(0.05)
    with one:
        one.sendall(bytes(count))
        one.shutdown(socket.SHUT_WR)
        one.recv(1)
lines = [line.split() for line in open("/proc/net/dev").readlines()[2:]]
print("received", sum(int(line[1]) for line in lines if line[0] != "lo:"))
"""


def _names():
    return {name for place in ("/run/netns", "/etc/netns") for name in os.listdir(place)}


def _left():
    """Namespaces of labs that have ended; others may run meanwhile."""
    return namespaces.stale(_names())


def _words(hosts, code, rate="50mbit", topology="bridge"):
    options = ["--hosts", str(hosts), "--rate", rate, "--topology", topology]
    return [sys.executable, str(LAB), *options, "--", sys.executable, "-c", code]


def _lab(*args, **kwargs):
    done = subprocess.run(_words(*args, **kwargs), capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout.splitlines(), done.stderr


@contextlib.contextmanager
def _started(*args):
    with subprocess.Popen(_words(*args), stdout=subprocess.DEVNULL) as lab:
        try:
            yield lab
        finally:
            lab.terminate()


@pytest.mark.parametrize("topology", ["bridge", "ring"])
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_reach_each_other_by_name_over_the_limited_links(hosts, topology):
    """In a ring of four, two of the three senders are neighbors; the third sends through one of them."""
    code, lines, error = _lab(hosts, TRAFFIC, topology=topology)
    assert code == 0, (lines, error)
    received = {line.partition("] ")[0]: int(line.rpartition(" ")[2]) for line in lines}
    assert received["[0"] >= (hosts - 1) * 1_000_000
    assert received["[0"] <= 1.06 * (hosts - 1) * 1_000_000 + 20_000
    passed_on = hosts == 4 and topology == "ring"
    assert sum(n > 1_000_000 for host, n in received.items() if host != "[0") == passed_on
    assert _left() == []


def test_links_are_limited_until_a_program_lifts_it():
    """Each end has a token bucket of the rate; unlimited, none."""
    code = """
import os, subprocess
from benchmarks.linklab import namespaces
here = namespaces.parse(os.environ[namespaces.VARIABLE])
def show():
    for name, device in here.devices():
        print(subprocess.run(["tc", "-n", name, "qdisc", "show", "dev", device], capture_output=True, text=True).stdout)
show()
namespaces.set_rate(here, "unlimited")
show()
"""
    code, lines, error = _lab(1, code)
    assert code == 0, error
    assert [("tbf" in line, "rate 50Mbit" in line) for line in lines if "qdisc" in line] == [(True, True)] * 2 + [
        (False, False)
    ] * 2


def test_the_first_failure_ends_all():
    failing = "import os, sys, time; sys.exit(7) if os.environ['JAX_PROCESS_ID'] == '1' else time.sleep(3600)"
    code, lines, _ = _lab(2, failing)
    assert (code, lines) == (7, ["snap-jax: process 1 ended with exit code 7: the others are ended too"])
    assert _left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_it_is_stopped(number, tmp_path):
    with _started(2, _WAIT.format(str(tmp_path))) as lab:
        _until(lambda: len(os.listdir(tmp_path)) == 2)
        lab.send_signal(number)
        assert lab.wait(timeout=60) != 0
    assert _left() == []
    assert not any(_runs(int(name)) for name in os.listdir(tmp_path))


def test_what_a_killed_lab_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    """Its processes ignore SIGTERM, as programs do that save their state. A lab that runs keeps its namespaces."""
    stubborn, running = tmp_path / "stubborn", tmp_path / "running"
    stubborn.mkdir()
    running.mkdir()
    ignore = "import signal; signal.signal(15, signal.SIG_IGN)\n"
    subprocess.run(["ip", "netns", "add", "not-linklab"], check=True)
    try:
        with _started(1, _WAIT.format(str(running))) as other:
            _until(lambda: len(os.listdir(running)) == 1)
            kept = {name for name in _names() if f"-{other.pid}-" in name}
            assert len(kept) == 2
            with _started(2, ignore + _WAIT.format(str(stubborn))) as lab:
                _until(lambda: len(os.listdir(stubborn)) == 2)
                lab.kill()
            assert len([name for name in _left() if f"-{lab.pid}-" in name]) == 3
            assert all(_runs(int(name)) for name in os.listdir(stubborn))
            assert _lab(1, "print(1)")[:2] == (0, ["[0] 1"])
            assert _left() == []
            assert _names() >= kept | {"not-linklab"}
            _until(lambda: not any(_runs(int(name)) for name in os.listdir(stubborn)))
    finally:
        subprocess.run(["ip", "netns", "delete", "not-linklab"], check=True)
    assert _left() == []


_WAIT = "import os, time; open({!r} + '/' + str(os.getpid()), 'w').close(); time.sleep(3600)"


def _until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
