"""What each of two processes reads and holds: its own rows of a batch, and its own part of the state."""

import json
import sys

import numpy as np
import pytest

from snap_jax import training
from snap_jax.data import image_loader, text_loader
from snap_jax.parallel.launch import launch
from tests.support import process_shards
from tests.support.process_shards import LANGUAGE, LAYOUT


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(np.random.default_rng(0).integers(1, 256, 2000, np.uint8).tobytes())
    return path


@pytest.fixture(scope="module")
def each(text):
    """What both processes print; the first has both stages of the first replica."""
    lines = []
    command = [sys.executable, "-m", "tests.support.process_shards", str(text)]
    assert launch(command, 2, devices_per_process=2, say=lines.append) == 0, lines
    return [json.loads(line[4:]) for n in range(2) for line in lines if line.startswith(f"[{n}] {{")]


def test_together_they_read_the_batch_of_a_single_process(text, each):
    """Half of the windows each, and no byte beside them."""
    rows = text_loader.batch(
        text_loader.load(str(text)).train, step=3, seed=0, batch=LAYOUT["batch"], seq_len=LANGUAGE.seq_len
    )
    whole = rows.reshape(2, 4, -1)[..., :-1]
    for process, found in enumerate(each):
        assert found["bytes_read"] == rows.size // 2
        ((first, tokens),) = found["tokens"]
        assert first == 2 * process
        np.testing.assert_array_equal(tokens, whole[:, first : first + 2])


def test_first_parameters_are_those_of_a_single_process(each):
    """Each process makes only what its devices hold, with the same bits; together they hold all."""
    for name, config in process_shards.LAYOUTS.items():
        whole = process_shards.digests(training.prepare(config).params)
        parts = [found["made"][name] for found in each]
        assert parts[0] | parts[1] == whole
        assert 0 < len(parts[0]) < len(whole)


def test_each_image_is_read_by_one_process(each):
    """Only records that its replica trains on."""
    _, drawn = image_loader.batch(process_shards.pictures([]), step=0, seed=0, batch=LAYOUT["batch"])
    for process, found in enumerate(each):
        mine = drawn.reshape(2, 4)[:, 2 * process : 2 * process + 2]
        assert found["pictures_read"] == mine.ravel().tolist()
        assert found["labels"] == [[2 * process, mine.tolist()]]
