"""Between two processes, the bytes claimed are those that the kernel counts, and the values agree (invariants 4, 6)."""

import json
import socket
import subprocess
import sys

import pytest


def gathered(spec):
    """What both processes report of four all-gathers of 2^20 elements each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start = [sys.executable, "-m", "tests.support.two_processes"]
    workers = [
        subprocess.Popen([*start, number, port, spec], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in ("0", "1")
    ]
    printed = [worker.communicate(timeout=240) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    return [json.loads(out.splitlines()[-1]) for out, _ in printed]


@pytest.mark.skipif(sys.platform != "linux", reason="the counters are those of Linux")
@pytest.mark.parametrize("spec", ["ternary", "count:3+rans"])
def test_claimed_bytes_cross(spec):
    """Protocol and chatter add at most 2 % and 100 kB; where a rung is chosen, each device sends one byte more."""
    for seen in gathered(spec):
        assert seen["same"]
        assert seen["least"] <= seen["taken"] + 2 * 4 <= seen["most"] + 2 * 4
        assert seen["taken"] <= seen["crossed"] <= 1.02 * seen["taken"] + 100_000
