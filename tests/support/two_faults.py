"""One of two processes that train, of which the second has a fault: `python -m tests.support.two_faults FAULT OUT`.

`codec`: it sends another one.
"""

import dataclasses
import sys
from pathlib import Path

import snap_jax as snap
from snap_jax import training
from snap_jax.parallel import processes
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


def main(fault: str, out: str) -> None:
    config = CONFIG
    with processes.ended_on_failure():
        snap.join_processes()
        if fault == "codec" and not processes.is_first():
            config = dataclasses.replace(CONFIG, link="count:3")
        training.train(config, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
