"""Runs every benchmark, or those named: `python -m benchmarks [NAME...]`, names as in `ALL`."""

import importlib.util
import subprocess
import sys

ALL = ("pipeline", "codecs", "wires", "telemetry", "layouts", "vision")

for name in sys.argv[1:] or ALL:
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        sys.exit(f"benchmarks: {name!r} is not known: use {', '.join(ALL)}")
    # Each in a process of its own: it sets up its own number of devices.
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
