"""Windows and batches: each byte once in evaluation, the same batch for the same step in training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.data.text_loader import batch, windows
from snap_jax.errors import UsageError


@settings(deadline=None)
@given(st.integers(2, 300), st.integers(1, 40))
def test_every_byte_is_predicted_once(size, length):
    text = (np.arange(size) % 251).astype(np.uint8)
    if size <= length:
        with pytest.raises(
            UsageError, match=f"length={length} needs a text of at least {length + 1} bytes.*has {size}"
        ):
            windows(text, length)
        return
    cut = windows(text, length)
    n = (size - 1) // length
    assert cut.shape == (n, length + 1)
    assert cut.dtype == np.uint8
    assert cut[:, 1:].tobytes() == text[1 : 1 + n * length].tobytes()  # the predicted ones, in order
    assert cut[:, :-1].tobytes() == text[: n * length].tobytes()  # what they are predicted from


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 50))
def test_a_batch_is_windows_of_the_text_and_a_function_of_seed_and_step(seed, step, n, window):
    text = np.arange(200, dtype=np.uint8)
    drawn = batch(text, step=step, seed=seed, batch=n, seq_len=window)
    assert drawn.shape == (n, window + 1)
    assert drawn.dtype == np.uint8
    assert (np.diff(drawn.astype(int)) == 1).all()
    assert np.array_equal(drawn, batch(text, step=step, seed=seed, batch=n, seq_len=window))


def test_seed_and_step_both_matter():
    text = np.arange(256, dtype=np.uint8)
    first = [batch(text, step=i, seed=s, batch=8, seq_len=4).tobytes() for i in range(20) for s in range(20)]
    assert len(set(first)) == 400


def test_offsets_reach_both_ends_and_are_uniform():
    text = np.arange(11, dtype=np.uint8)  # windows of 7 + 1 bytes start at 0, 1, 2 or 3
    starts = batch(text, step=0, seed=0, batch=4000, seq_len=7)[:, 0]
    counts = np.bincount(starts)
    assert len(counts) == 4
    assert (abs(counts - 1000) < 5 * np.sqrt(1000)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"seq_len": 10},
            "seq_len=10 needs a text of at least 11 bytes, and this one has 10: .* seq_len of at most 9",
        ),
        ({"seq_len": 0}, "seq_len=0: give a length of at least 1"),
        ({"batch": 0}, "batch=0: give a batch of at least 1"),
        ({"seed": -1}, "seed=-1: give a whole number from 0 to 4294967295"),
        ({"step": 2**32}, "step=4294967296: give"),
    ],
)
def test_bad_requests_name_the_value(change, message):
    good = {"step": 0, "seed": 0, "batch": 2, "seq_len": 3}
    with pytest.raises(UsageError, match=message):
        batch(np.arange(10, dtype=np.uint8), **(good | change))


def test_the_longest_window_fits():
    text = np.arange(10, dtype=np.uint8)
    assert batch(text, step=0, seed=0, batch=1, seq_len=9).tolist() == [list(range(10))]
    assert windows(text, 9).tolist() == [list(range(10))]
