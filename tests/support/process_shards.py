"""One of two processes that prepare a run: `python -m tests.support.process_shards TEXT`.

Prints as JSON what it read of the data for one batch, and what it holds of the batch and of the state.
"""

import dataclasses
import hashlib
import json
import sys

import jax
import numpy as np

import snap_jax as snap
from snap_jax import training
from snap_jax.data.image_dataset import Images
from snap_jax.data.indexed_records import Records
from snap_jax.training.config import LanguageConfig, VisionConfig
from snap_jax.training.optimizer import optimizer
from snap_jax.training.train_step import start
from snap_jax.training.vision import VisionJob

LAYOUT = {"devices": 4, "layout": "data:2+pipeline:2", "batch": 8, "microbatches": 2}
LANGUAGE = LanguageConfig(**LAYOUT, layers=2, width=8, heads=2, seq_len=16)
PICTURES = 20
LAYOUTS = {
    "tensor": dataclasses.replace(LANGUAGE, layout="tensor:4", width=16, heads=4),
    "pipeline": dataclasses.replace(LANGUAGE, layout="pipeline:4", layers=4),
    "convolutions": VisionConfig(devices=4, layout="pipeline:4", width=8, batch=8, model="resnet18"),
}


class Counted(np.ndarray):
    """A text that counts the bytes that are read of it."""

    read = 0

    def __getitem__(self, places):
        found = np.asarray(self)[places]
        Counted.read += found.size
        return found


def pictures(read: list[int]) -> Images:
    """Pictures whose pixels are their number, which are listed in `read` when they are."""

    def pixels(place: int) -> np.ndarray:
        read.append(place)
        return np.full((2, 2, 1), place, np.uint8)

    records = Records(range(PICTURES), pixels, (2, 2, 1), np.dtype("uint8"))
    labels = np.arange(PICTURES, dtype=np.int32)
    return Images("pictures", records, labels, np.zeros((1, 2, 2, 1), np.uint8), labels[:1], PICTURES)


def main(text: str) -> None:
    snap.join_processes()
    job = training.prepare(dataclasses.replace(LANGUAGE, data=text))
    counted = dataclasses.replace(job.corpus, train=job.corpus.train.view(Counted))
    tokens = dataclasses.replace(job, corpus=counted).batch(3).inputs
    made = {name: digests(training.prepare(config).params) for name, config in LAYOUTS.items()}
    found = {"made": made, "bytes_read": Counted.read, "tokens": _parts(tokens)} | _images(job)
    print(json.dumps(found | _held(start(job, LANGUAGE, job.optimizer(optimizer(LANGUAGE, job.decayed))))))


def _images(job) -> dict:
    read: list[int] = []
    images = pictures(read)
    assert images.statistics
    read.clear()
    fields = {field.name: getattr(job, field.name) for field in dataclasses.fields(job) if field.name != "heldout"}
    del fields["corpus"]
    labels = VisionJob(**fields | {"config": VisionConfig(**LAYOUT), "images": images}).batch(0).labels
    return {"pictures_read": read, "labels": _parts(labels)}


def _parts(array: jax.Array) -> list:
    """The rows here, once each: `[first column, rows]`."""
    parts = {shard.index[1].start: np.asarray(shard.data).tolist() for shard in array.addressable_shards}
    return sorted(parts.items())


def digests(tree) -> dict[str, str]:
    """What each device here holds of the parameters: a hash by number of the parameter and place in it."""
    return {
        f"{number} {shard.index}": hashlib.sha256(np.asarray(shard.data).tobytes()).hexdigest()
        for number, leaf in enumerate(jax.tree.leaves(tree))
        for shard in leaf.addressable_shards
    }


def _held(tree) -> dict:
    leaves = jax.tree.leaves(tree)
    held = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards)
    return {"bytes_held": held, "bytes_on_all": sum(leaf.nbytes for leaf in leaves)}


if __name__ == "__main__":
    main(*sys.argv[1:])
