"""Pictures: what is read, how it is divided, what one step sees, and what is said of torn files."""

import gzip
import struct
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.data import image_loader
from snap_jax.data.idx import read_idx
from snap_jax.data.image_loader import Images
from snap_jax.errors import UsageError


@pytest.fixture(scope="module")
def digits():
    return image_loader.load("digits")


def toy(count=10, classes=3):
    """Images whose every pixel is their place."""
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 1))
    labels = np.arange(count, dtype=np.int32) % classes
    return Images("toy", pixels, labels, pixels[:2], labels[:2], classes)


def test_digits_are_those_of_scikit_learn(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    whole = np.concatenate([digits.train_images, digits.heldout_images])[..., 0]
    expected = np.round(bunch.images * 255 / 16).astype(np.uint8)  # 16 levels of ink -> a byte
    assert sorted(i.tobytes() for i in whole) == sorted(i.tobytes() for i in expected)
    of = {pixels.tobytes(): label for pixels, label in zip(expected, bunch.target, strict=True)}
    for pixels, label in zip(digits.heldout_images, digits.heldout_labels, strict=True):
        assert of[pixels.tobytes()] == label


def test_a_fifth_of_every_class_of_digits_is_held_out(digits):
    train, heldout = np.bincount(digits.train_labels), np.bincount(digits.heldout_labels)
    assert len(train) == len(heldout) == digits.classes == 10
    assert heldout.tolist() == [round(n / 5) for n in train + heldout]
    assert not {i.tobytes() for i in digits.train_images} & {i.tobytes() for i in digits.heldout_images}


def test_digits_are_the_same_every_time(digits):
    again = image_loader.load("digits")
    assert np.array_equal(again.heldout_images, digits.heldout_images)
    assert np.array_equal(again.train_labels, digits.train_labels)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_every_epoch_shows_each_image_once(count, size, seed):
    data, epochs = toy(count), 3
    steps = -(-epochs * count // size)
    seen = np.concatenate(
        [image_loader.batch(data, step=i, seed=seed, batch=size)[0][:, 0, 0, 0] for i in range(steps)]
    )
    for epoch in seen[: epochs * count].reshape(epochs, count):
        assert sorted(epoch) == list(range(count))


def test_a_batch_is_a_function_of_seed_and_step_and_keeps_labels_with_images():
    data = toy(100, classes=7)
    drawn = {}
    for seed in range(5):
        for step in range(5):
            pixels, labels = image_loader.batch(data, step=step, seed=seed, batch=10)
            assert (pixels[:, 0, 0, 0] % 7 == labels).all()
            assert (pixels.dtype, labels.dtype) == (np.uint8, np.int32)
            assert np.array_equal(pixels, image_loader.batch(data, step=step, seed=seed, batch=10)[0])
            drawn[pixels.tobytes()] = (seed, step)
    assert len(drawn) == 25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch=0: give a batch of at least 1"),
        ({"seed": -1}, "seed=-1: give a whole number from 0 to 4294967295"),
        ({"step": 2**32}, "step=4294967296: give"),
    ],
)
def test_bad_requests_name_the_value(change, message):
    with pytest.raises(UsageError, match=message):
        image_loader.batch(toy(), **({"step": 0, "seed": 0, "batch": 2} | change))


def test_normalise_by_hand():
    """Channel 0 is 0 or 200: mean 100, standard deviation 100. Channel 1 is always 7, and 9 is then 2 above it."""
    pixels = np.array([[0, 7], [200, 7]], np.uint8).reshape(2, 1, 1, 2)
    labels = np.zeros(2, np.int32)
    data = Images("two", pixels, labels, pixels, labels, 1)
    new = np.array([[[[50, 9]]]], np.uint8)
    for x in (new, jnp.asarray(new)):
        y = image_loader.normalise(data, x)
        assert y.dtype == np.float32
        assert type(y) is type(x) or isinstance(y, type(x))
        np.testing.assert_allclose(y, [[[[-0.5, 2]]]], rtol=1e-6)


def test_statistics_are_of_training_images_alone(digits):
    mean, scale = digits.statistics
    np.testing.assert_allclose(mean, [digits.train_images.astype(float).mean()], rtol=1e-6)
    np.testing.assert_allclose(scale, [digits.train_images.astype(float).std()], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": np.zeros(3, np.int32)}, "--data 'toy': 10 train images, 3 labels: give as many"),
        ({"heldout_images": np.zeros((0, 2, 2, 1), np.uint8)}, "0 heldout images, 2 labels"),
        (
            {"heldout_images": np.zeros((2, 3, 2, 1), np.uint8)},
            r"train images are \(2, 2, 1\), heldout ones \(3, 2, 1\)",
        ),
        (
            {"train_labels": np.full(10, 3, np.int32)},
            r"train labels from 3 to 3, classes=3: labels must be in \[0, 3\)",
        ),
        ({"heldout_labels": np.full(2, -1, np.int32)}, "heldout labels from -1 to -1"),
    ],
)
def test_images_that_do_not_fit_are_refused(change, message):
    good = vars(toy())
    with pytest.raises(UsageError, match=message):
        Images(**(good | change))


# IDX files.

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array):
    """The file of an array of bytes, written from the description of the format."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder, *, packed=False, dotted=False, **changes):
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.integers(0, 256, shape, dtype=np.uint8)
    arrays = [draw(6, 5, 4), np.array([0, 1, 2, 3, 0, 1], np.uint8), draw(2, 5, 4), np.array([4, 0], np.uint8)]
    folder.mkdir(exist_ok=True)
    for name, array in zip(NAMES, arrays, strict=True):
        data = changes.get(name.replace("-", "_"), idx(array))
        if data is None:
            continue
        name = name.replace("-idx", ".idx") if dotted else name
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return arrays


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_files_are_read_packed_or_not(tmp_path, packed, dotted):
    train, labels, heldout, answers = write(tmp_path, packed=packed, dotted=dotted)
    data = image_loader.load(str(tmp_path))
    assert np.array_equal(data.train_images, train[..., None])
    assert np.array_equal(data.train_labels, labels)
    assert np.array_equal(data.heldout_images, heldout[..., None])
    assert np.array_equal(data.heldout_labels, answers)
    assert (data.classes, data.train_labels.dtype, data.name) == (5, np.int32, str(tmp_path))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train_images_idx3_ubyte", None, "no file train-images-idx3-ubyte or train-images-idx3-ubyte.gz in .*: put"),
        ("t10k_labels_idx1_ubyte", b"", "t10k-labels-idx1-ubyte is cut short: 0 bytes, not even a header of 8"),
        (
            "train_images_idx3_ubyte",
            idx(np.zeros((6, 5, 4), np.uint8))[:-1],
            r"train-images-idx3-ubyte is cut short: 119 bytes, not 120, for shape \(6, 5, 4\): download it again",
        ),
        ("train_labels_idx1_ubyte", idx(np.zeros(6, np.uint8)) + b"\0", "is too long: more than 6 bytes for shape"),
        ("train_labels_idx1_ubyte", idx(np.zeros((6, 1, 1), np.uint8)), "starts with 0x00000803, not 0x00000801"),
        ("t10k_images_idx3_ubyte", b"<!DOCTYPE html><html>", "starts with 0x3c21444f, not 0x00000803: give an IDX3"),
        (
            "train_labels_idx1_ubyte",
            idx(np.zeros(5, np.uint8)),
            "train-images has 6 images but train-labels has 5 labels: download both again",
        ),
        ("t10k_images_idx3_ubyte", idx(np.zeros((2, 4, 4), np.uint8)), "train images are .*: use one size"),
        ("train_images_idx3_ubyte", idx(np.zeros((0, 5, 4), np.uint8)), "has 0 images but"),
        (
            "train_images_idx3_ubyte",
            idx(np.zeros((6, 0, 4), np.uint8)),
            r"train images are \(0, 4, 1\): give images of",
        ),
        ("train_labels_idx1_ubyte", b"\0\0\x08\x01\xff\xff\xff\xff", "cut short: 0 bytes, not 4,294,967,295, for"),
    ],
)
def test_torn_idx_files_are_named(tmp_path, name, data, message):
    write(tmp_path, **{name: data})
    with pytest.raises(UsageError, match=message) as error:
        image_loader.load(str(tmp_path))
    assert f"--data {str(tmp_path)!r}: " in str(error.value)
    assert "\n" not in str(error.value)


def test_a_gz_that_unpacks_to_more_is_not_unpacked(tmp_path):
    """64 MiB of zeros lie in 64 KiB, behind a header of one image of 4 x 4."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 1, 4, 4) + bytes(2**26)))
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"bomb.gz is too long: more than 16 bytes for shape \(1, 4, 4\): download"):
        read_idx(path, dimensions=3)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@pytest.mark.parametrize("keep", [20, -4, 0])
def test_a_torn_gz_is_named(tmp_path, keep):
    write(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte\.gz.*download it again"):
        image_loader.load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "--data 'digit' is neither a dataset .*digits.* nor an existing path: did you mean 'digits'?"),
        ("", "--data '' is neither"),
        ("nowhere/mnist", "give one of these names or a directory of IDX files"),
        ("/dev/null", "--data '/dev/null' is not a directory: give the one that holds the IDX files"),
    ],
)
def test_what_is_no_data_set_is_named(name, message):
    with pytest.raises(UsageError, match=message):
        image_loader.load(name)
