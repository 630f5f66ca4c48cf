"""`Meter` against bytes sent here, and the errors of `interface_bytes`."""

import socket
from pathlib import Path

import pytest

from snap_jax.errors import UsageError
from snap_jax.traffic import interface
from snap_jax.traffic.interface import Meter, interface_bytes

COUNTERS = """\
Inter-|   Receive                            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier ...
    lo:     123       4    0    0    0     0          0     0      456       4    0    0    0     0    0    0
  eth0: 7890123      40    1    2    3     4          5     6 99999999      44    0    0    0     0    0    0
veth1:1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0
"""


@pytest.fixture
def counters(tmp_path, monkeypatch):
    file = tmp_path / "dev"
    file.write_text(COUNTERS)
    monkeypatch.setattr(interface, "_COUNTERS", file)
    return file


@pytest.mark.parametrize(("name", "rx", "tx"), [("lo", 123, 456), ("eth0", 7890123, 99999999), ("veth1", 1, 3)])
def test_reads_the_two_columns_of_bytes(counters, name, rx, tx):
    assert interface_bytes(name) == {"rx": rx, "tx": tx}


def test_meter_takes_the_difference(counters):
    with Meter("lo") as metered:
        counters.write_text(COUNTERS.replace(" 123 ", " 1123 ").replace(" 456 ", " 2456 "))
    assert (metered.rx_bytes, metered.tx_bytes) == (1000, 2000)


def test_meter_knows_nothing_before_exit(counters):
    with Meter("lo") as metered:
        assert (metered.rx_bytes, metered.tx_bytes) == (None, None)


def test_unknown_interface_raises(counters):
    with pytest.raises(UsageError, match=r"no interface 'lo0': use one of \['eth0', 'lo', 'veth1'\]"):
        interface_bytes("lo0")


def test_without_linux_counters_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(interface, "_COUNTERS", tmp_path / "none")
    with pytest.raises(UsageError, match=r"interface_bytes: cannot read .*none on '.*compiled_traffic"):
        interface_bytes()


@pytest.mark.skipif(not Path("/proc/net/dev").exists(), reason="the counters are Linux's")
def test_bytes_sent_over_loopback_are_seen_on_both_sides():
    sent = 1 << 20
    receiver = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(receiver.getsockname())
    accepted, _ = receiver.accept()
    with receiver, sender, accepted, Meter("lo") as metered:
        received, piece = 0, sent // 64
        while received < sent:
            sender.sendall(b"s" * piece)
            received += len(accepted.recv(piece, socket.MSG_WAITALL))
    assert received == sent
    assert metered.rx_bytes >= sent
    assert metered.tx_bytes >= sent
