"""One of two processes that train, of which the second has a fault: `python -m tests.support.two_faults FAULT OUT`.

`killed`: by SIGKILL after 15 steps, while the first one waits for it in a collective. `codec`: it sends another one.
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import snap_jax as snap
from snap_jax import training
from snap_jax.parallel import processes
from snap_jax.training import language
from snap_jax.training.config import LanguageConfig

CONFIG = LanguageConfig(
    devices=2,
    layers=2,
    width=8,
    heads=2,
    seq_len=16,
    batch=4,
    microbatches=2,
    steps=20,
    save_every=10,
    heldout_bytes=512,
)
LOST_AFTER = 10


def _killed_at(step: int):
    batch = language.LanguageJob.batch

    def read(job: language.LanguageJob, index: int):
        if index == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(job, index)

    return read


def main(fault: str, out: str) -> None:
    config = CONFIG
    with processes.ended_on_failure():
        snap.join_processes(LOST_AFTER)
        if not processes.is_first():
            if fault == "codec":
                config = dataclasses.replace(CONFIG, link="count:3")
            else:
                language.LanguageJob.batch = _killed_at(15)
        training.train(config, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
