"""The settings that experiments share: a text task and two image tasks, and what is sent between devices.

Each device holds one block of the model. Every run of a seed starts from the same dense model, which has trained for a
quarter of the run's own steps. Data, optimizer and evaluation are the same for all.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snap_jax.training.config import LanguageConfig, Settings, VisionConfig
from snap_jax.training.distillation import as_dense

DENSE_RUNS = Path("runs/dense")
TEXT = LanguageConfig(
    mode="dense", width=64, steps=480, learning_rate=6e-3, microbatches=1, heldout_bytes=2**15, context_tokens=0
)
DIGITS = VisionConfig(mode="dense", steps=400, microbatches=1)
NOISY = dataclasses.replace(DIGITS, noise=0.5)
TASKS: dict[str, Settings] = {"text": TEXT, "noisy": NOISY, "digits": DIGITS}
BUDGETS = (0.5, 1.0, 1.5, 2.0, 3.0)
RANKS = {  # share of the width, by budget
    "language": {0.5: 10 / 64, 1.0: 20 / 64, 1.5: 28 / 64, 2.0: 36 / 64, 3.0: 56 / 64},
    "vision": {0.5: 4 / 32, 1.0: 8 / 32, 1.5: 12 / 32, 2.0: 16 / 32, 3.0: 24 / 32},
}


def quick(base: Settings) -> Settings:
    """Return the same task at a size that trains in seconds: two devices, eight steps."""
    small: dict[str, Any] = {"devices": 2, "layers": 2, "batch": 2, "steps": 8, "save_every": 8}  # few payload sizes
    if isinstance(base, LanguageConfig):
        small |= {"width": 32, "heads": 2, "seq_len": 16, "heldout_bytes": 512}
    else:
        small |= {"width": 8, "heldout_images": 16}
    return dataclasses.replace(base, **small)


def started(config: Settings) -> Settings:
    """Return the settings with the dense run to start from."""
    return dataclasses.replace(config, init_from=str(folder(start(config))))


def start(config: Settings) -> Settings:
    """Return the dense run that a run starts from: a quarter as many steps of the same size and seed."""
    return dataclasses.replace(plain(config), init_from=None, steps=max(1, config.steps // 4))


def dense(config: Settings) -> Settings:
    """Return the dense run of the same size, steps and seed, from the same start."""
    return started(plain(config))


def plain(config: Settings) -> Settings:
    """Return the settings without what only a boundary has, in a pipeline with one microbatch."""
    config = dataclasses.replace(as_dense(config), microbatches=1, layout=Settings.layout)
    return dataclasses.replace(config, context_tokens=0) if isinstance(config, LanguageConfig) else config


def folder(config: Settings) -> Path:
    """Return the run directory of a dense run.

    >>> folder(dense(TEXT)).as_posix()
    'runs/dense/language-stdlib-4x64-480-steps-seed-0-continued'
    """
    noise = f"-noise-{config.noise}" if isinstance(config, VisionConfig) and config.noise else ""
    size = f"{config.layers}x{config.width}-{config.steps}-steps-seed-{config.seed}"
    size += "-continued" if config.init_from else ""
    return DENSE_RUNS / f"{config.task}-{Path(config.data).stem}{noise}-{size}"


def coded(base: Settings, link: str, rank: int | None = None, **changes: Any) -> Settings:
    """Return the settings with a link, and with a learned transform to so many numbers."""
    return dataclasses.replace(
        started(base), **{"mode": "hybrid", "link": link, "grad_link": "fp32", "rank": rank} | changes
    )


def spikes(base: Settings, bits: float, **changes: Any) -> Settings:
    """Return our method: spike counts trained to a budget of bits per element; for text with prediction and groups."""
    most, extra = 31, {}
    if isinstance(base, LanguageConfig):
        most, extra = 15 if bits < 3 else 31, {"context_tokens": 4, "token_groups": 8}
    rank = ranked(base, RANKS[base.task][bits])
    options = {"link": f"count:{most}+rans", "budget": bits, "rank": rank} | extra | changes
    return coded(base, **options)


def ranked(base: Settings, share: float) -> int:
    """Return how many numbers are this share of the width.

    >>> ranked(TEXT, 20 / 64), ranked(DIGITS, 0.25)
    (20, 8)
    """
    return max(1, round(share * base.width))


def bottlenecks(base: Settings, bits: float, sizes: Sequence[int] = (4, 3, 2, 6), **changes: Any) -> list[Settings]:
    """Return the baselines of a fixed size: integers of 4, 3, 2 or 6 bits in a low-rank transform, `bits` in all."""
    ranks = [(size, int(bits * base.width / size)) for size in sizes]
    return [coded(base, f"int{size}", rank, **changes) for size, rank in ranks if 1 <= rank <= base.width]


def coded_integers(base: Settings, bits: float, **changes: Any) -> Settings:
    """Return the closest baseline: entropy-coded int4 with the same transform, token groups and budget as spikes."""
    return spikes(base, bits, **{"link": "int4+rans"} | changes)


def distilled(config: Settings, weight: float = 0.5) -> Settings:
    """Return the settings with the dense run of the same steps as teacher."""
    return dataclasses.replace(config, distill=weight, teacher=str(folder(dense(config))))
