"""Run directories that the tests of the report share."""

import copy
import json

import numpy as np

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
            "energy_note": "not measured",
            "latency_s_per_step": [1.0, 2.5],
            "latency_note": "secondary source",
        },
    },
    "config": {"data": "stdlib", "link": "bf16", "steps": 30, "resume": False, "budget": None},
    "versions": {"jax": "0.10.2"},
    "seconds": 95.0,
    "baselines": {"order0_bits_per_byte": 4.675, "gzip_bits_per_byte": 1.937},
}
ORDER = {"kind": "gpipe", "devices": 2, "microbatches": 3, "forward_s": 1e-6, "backward_s": 2e-6, "unit": "H100 SXM"}
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
    rng, shape = np.random.default_rng(0), (2, len(text), 16)
    values = rng.choice([-1, 1], shape) * (rng.random(shape) < 0.4)  # most are zero
    return {"text": text, "spikes": values.astype(np.int8)}


def image_spikes(steps=2, rows=3, columns=4, channels=16, scale=2):
    """Spikes of an image in three colors, twice as fine as the array that crosses."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (scale * rows, scale * columns, 3), np.uint8)
    shape = (2, steps, rows, columns, channels)
    values = rng.integers(-3, 4, shape) * (rng.random(shape) < 0.4)  # most are zero
    return {"image": image, "label": np.int32(7), "spikes": values.astype(np.int16)}


def two_runs(tmp_path):
    return [
        make_run(tmp_path, "dense", logs=logs()),
        make_run(tmp_path, "spiking", SPIKING, logs=logs(), spikes=some_spikes()),
    ]
