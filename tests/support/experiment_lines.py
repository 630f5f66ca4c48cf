"""Lines as experiments write them, with made-up results."""

import json
from pathlib import Path

from snap_jax.training.config import Settings, written_settings


def line(config: Settings, bits: float, sent: float, **more) -> dict:
    """The line of a run of so many held-out bits, that sends `sent` bits per element in each direction."""
    names = ("value", "bits_per_image") if config.task == "vision" else ("value",)
    wire = {"bits_per_element": sent, "max_bits_per_element": sent}
    wire |= {"forward_bytes_per_step": 10, "backward_bytes_per_step": 10}
    quality = dict.fromkeys(names, bits)
    return {"config": written_settings(config), "quality": quality, "wire": wire, "context_bits": 0.0} | more


def written(file: Path, lines: list[dict]) -> Path:
    """The file that holds these lines."""
    file.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return file
