"""Run every benchmark, or those named: `python -m benchmarks [NAME...]`, names as in `ALL`."""

import importlib.util
import subprocess
import sys

ALL = (
    "pipeline_speed",
    "codec_speed",
    "entropy_coding",
    "wire_sizes",
    "telemetry_overhead",
    "layout_bytes",
    "scaling_bytes",
    "image_training_speed",
)

for name in sys.argv[1:] or ALL:
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        sys.exit(f"benchmarks: {name!r} is not known: use {', '.join(ALL)}")
    # Each has a process of its own, since each sets its own number of devices.
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
