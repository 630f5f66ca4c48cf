"""Invariants 4 and 6 between two processes: what was claimed is what the kernel counts; values agree."""

import json
import socket
import subprocess
import sys

import pytest

HUNG_SECONDS = 240  # nothing is measured by it: it only ends processes that wait for each other


def gathered(*specs):
    """What both processes report of four all-gathers of 2^18 elements each, with each codec."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start = [sys.executable, "-m", "tests.support.two_processes"]
    workers = [
        subprocess.Popen([*start, number, port, *specs], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in ("0", "1")
    ]
    try:
        printed = [worker.communicate(timeout=HUNG_SECONDS) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], printed
    return [json.loads(line) for out, _ in printed for line in out.splitlines()[-len(specs) :]]


@pytest.mark.skipif(sys.platform != "linux", reason="the counters are those of Linux")
def test_claimed_bytes_cross():
    """Protocol and chatter add at most 2 % and 20 kB; where a rung is chosen, each device sends one byte more."""
    both = gathered("ternary", "count:3+rans")
    assert len(both) == 4
    for seen in both:
        assert seen["same"]
        assert seen["least"] <= seen["taken"] + 2 * 4 <= seen["most"] + 2 * 4
        assert seen["taken"] <= seen["crossed"] <= 1.02 * seen["taken"] + 20_000
