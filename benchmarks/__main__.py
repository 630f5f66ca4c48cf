"""Run the quick benchmarks, or those named, and print what changed: `python -m benchmarks [NAME...]`."""

import importlib.util
import subprocess
import sys

from benchmarks import results

QUICK = (
    "compile_time",
    "codec_speed",
    "entropy_coding",
    "wire_sizes",
    "scaling_bytes",
    "unequal_parts",
    "pipeline_speed",
    "telemetry_overhead",
)
LONG = ("layout_bytes", "image_training_speed", "accelerator")  # minutes each


def main(names: list[str]) -> None:
    before = results.load()
    for name in names or QUICK:
        if importlib.util.find_spec(f"benchmarks.{name}") is None:
            sys.exit(f"benchmarks: {name!r} is not known: use {', '.join(QUICK + LONG)}")
        # Each has a process of its own, since each sets its own number of devices.
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
    changed = results.changes(before, results.load()[len(before) :])
    print("\n".join(["Changed beyond the quartiles since the last run here:", *changed] if changed else ["No change."]))


if __name__ == "__main__":
    main(sys.argv[1:])
