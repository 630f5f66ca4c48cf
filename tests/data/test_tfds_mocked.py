"""Data sets of TFDS as TFDS itself mocks them: the features of its own classes, and records that it makes up.

`tfds.testing.mock_data` puts one folder in place of every other, and `builder_from_directory` takes that one for the
data set's own: so it is given the data set's folder, not the one that holds them all. Left to itself it serves
images; labels alone it cannot serve without TensorFlow, since whoever passes `decoders` gets records that TensorFlow
encoded. So records come from its generator through `as_data_source_fn`; one test has it serve images by itself.
"""

import sys

import numpy as np
import pytest

from snap_jax.data import image_loader
from snap_jax.data.tfds import HELDOUT, middle

tfds = pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
pytest.importorskip("array_record", reason="needs the extra `data`")

COUNT = 5  # records of each split


def described(name, folder):
    """What TFDS knows of a data set before it is prepared, written where a prepared one would have it."""
    builder = tfds.builder(name, data_dir=folder)
    splits = [
        tfds.core.SplitInfo(name=split, shard_lengths=[COUNT], num_bytes=0, filename_template=None)
        for split in ("train", HELDOUT[name])
    ]
    builder.info.set_splits(tfds.core.SplitDict(splits))
    builder.data_path.mkdir(parents=True)
    builder.info.write_to_directory(builder.data_path)
    return builder.data_path


def records(builder, split, decoders=None):
    """Made up by TFDS, others for each split."""
    generator = tfds.testing.mocking.RandomFakeGenerator(builder.info.features, COUNT, seed=100 * (split == "train"))
    return [generator[i] for i in range(COUNT)]


def images(name, made):
    """As they are loaded: those of ImageNet cut to size."""
    return [middle(one["image"], 16) if name == "imagenet2012" else one["image"] for one in made]


def mocked(folder, **how):
    return tfds.testing.mock_data(COUNT, policy=tfds.testing.MockPolicy.USE_FILES, data_dir=str(folder), **how)


@pytest.fixture
def no_tensorflow(tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text("raise AssertionError('this must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert "tensorflow" not in sys.modules


@pytest.mark.usefixtures("no_tensorflow")
@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("cifar10", (32, 32, 3), 10),
        ("cifar100", (32, 32, 3), 100),
        ("fashion_mnist", (28, 28, 1), 10),
        ("imagenet2012", (16, 16, 3), 1000),
    ],
)
def test_what_is_loaded_is_what_tfds_made_up(tmp_path, name, shape, classes):
    folder, asked = described(name, tmp_path), []

    def source(builder, split, decoders=None):
        asked.append((split, set(decoders or ())))
        return records(builder, split)

    with mocked(folder, as_data_source_fn=source):
        data = image_loader.load(name, data_dir=tmp_path, imagenet_size=16)
        builder = tfds.builder_from_directory(folder)
        # Pictures are asked for decoded, labels without decoding the images beside them.
        assert asked == [(split, decoded) for split in ("train", HELDOUT[name]) for decoded in (set(), {"image"})]
        for split, pixels, labels in (
            ("train", data.train_images, data.train_labels),
            (HELDOUT[name], data.heldout_images, data.heldout_labels),
        ):
            made = records(builder, split)
            np.testing.assert_array_equal(pixels[:], np.stack(images(name, made)))
            assert labels[:].tolist() == [int(one["label"]) for one in made]
        pixels, _ = image_loader.batch(data, step=0, seed=0, batch=COUNT)  # an epoch: each once, in some order
        made = images(name, records(builder, "train"))
        assert sorted(map(np.ndarray.tobytes, pixels)) == sorted(map(np.ndarray.tobytes, made))
    assert pixels.shape == (COUNT, *shape)
    assert (data.classes, data.notes[0]) == (
        classes,
        f"held out the {COUNT} images of the split {HELDOUT[name]}; {name}/{folder.name}",
    )


@pytest.mark.usefixtures("no_tensorflow")
def test_pictures_are_read_where_tfds_mocks_the_files_below(tmp_path):
    """Nothing of ours stands in, and no label is asked for; the mock makes up one set for all splits."""
    folder = described("imagenet2012", tmp_path)
    with mocked(folder):
        data = image_loader.load("imagenet2012", data_dir=tmp_path, imagenet_size=16)
        features = tfds.builder_from_directory(folder).info.features
        made = tfds.testing.mocking.RandomFakeGenerator(features, COUNT)
        expected = np.stack(images("imagenet2012", [made[i] for i in range(COUNT)]))
        np.testing.assert_array_equal(data.train_images[:], expected)
        np.testing.assert_array_equal(data.heldout_images[np.array([3, 1])], expected[[3, 1]])
    assert data.train_images.shape == (COUNT, 16, 16, 3)
