"""Data sets of TFDS: tiny ones in their format, read without TensorFlow; and what is said when they are not there."""

import io
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from snap_jax.data import image_loader
from snap_jax.data.indexed_records import Records
from snap_jax.data.tfds import middle
from snap_jax.errors import UsageError


def picture(i, height, width, channels):
    """Every pixel is `i`, written without loss."""
    file = io.BytesIO()
    array = np.full((height, width, channels), i, np.uint8)
    Image.fromarray(array.squeeze(-1) if channels == 1 else array).save(file, "PNG")
    file.seek(0)
    return file


def prepare(folder, name, heldout, shape, *, version="3.0.2", file_format="array_record"):
    """Nine training images, and four held-out ones, of a data set of that name, by TFDS itself."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
    pytest.importorskip("array_record", reason="needs the extra `data`")

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            kind = {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(num_classes=10)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(kind))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(range(9)), heldout: self._generate_examples(range(20, 24))}

        def _generate_examples(self, numbers):
            for i in numbers:
                size = (shape[0] or 40 + i, shape[1] or 60, shape[2])
                yield i, {"image": picture(i, *size), "label": i % 10}

    Tiny.name = name
    Tiny(data_dir=folder, file_format=file_format).download_and_prepare()
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, "cifar10", "test", (32, 32, 3))
    prepare(folder, "fashion_mnist", "test", (28, 28, 1))
    prepare(folder, "imagenet2012", "validation", (None, None, 3))
    return folder


def check(data, shape):
    """Every pixel of an image is its number, its label the last digit of that: none lost, none swapped."""
    assert data.train_images.shape == (9, *shape)
    assert data.heldout_images.shape == (4, *shape)
    assert sorted(data.train_images[:][:, 0, 0, 0]) == list(range(9))
    assert sorted(data.heldout_images[:][:, 0, 0, 0]) == list(range(20, 24))
    for pixels, labels in (
        image_loader.batch(data, step=3, seed=0, batch=5),
        (data.heldout_images[:], data.heldout_labels[:]),
    ):
        assert pixels.shape[1:] == shape
        assert (pixels == pixels[:, :1, :1, :1]).all()
        assert (pixels[:, 0, 0, 0] % 10 == labels).all()
        assert (pixels.dtype, labels.dtype) == (np.uint8, np.int32)
    assert data.classes == 10


@pytest.mark.parametrize(("name", "shape"), [("cifar10", (32, 32, 3)), ("fashion_mnist", (28, 28, 1))])
def test_a_prepared_data_set_is_read_without_tensorflow(prepared, tmp_path, monkeypatch, name, shape):
    (tmp_path / "tensorflow.py").write_text("raise AssertionError('this must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    data = image_loader.load(name, data_dir=prepared)
    check(data, shape)
    assert isinstance(data.train_images, np.ndarray)
    assert "tensorflow" not in sys.modules
    assert data.notes[0].startswith(f"held out the 4 images of the split test; {name}/3.0.2")


def test_imagenet_stays_on_disk_and_is_cut_to_size(prepared):
    data = image_loader.load("imagenet2012", data_dir=prepared, imagenet_size=16)
    assert isinstance(data.train_images, Records)
    check(data, (16, 16, 3))
    mean, _ = data.statistics
    np.testing.assert_allclose(mean, np.full(3, np.mean(range(9))))


def test_the_folder_of_the_environment_is_the_default(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert len(image_loader.load("cifar10").train_images) == 9


def test_the_newest_version_is_read(tmp_path):
    for version in ("3.0.2", "3.0.10"):
        prepare(tmp_path, "cifar10", "test", (32, 32, 3), version=version)
    assert "cifar10/3.0.10" in image_loader.load("cifar10", data_dir=tmp_path).notes[0]


def test_the_middle_is_what_is_cut():
    """Of 64 rows and 32 columns, 28 x 28 in the middle: rows 18 to 46, columns 2 to 30."""
    image = np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8)
    np.testing.assert_array_equal(middle(image, 28), image[18:46, 2:30])
    assert (middle(np.full((64, 32, 3), 200, np.uint8), 7) == 200).all()


@pytest.mark.parametrize("name", ["cifar10", "imagenet2012"])
def test_a_data_set_that_is_not_there_says_how_to_prepare_it(tmp_path, name):
    pytest.importorskip("tensorflow_datasets")
    command = f"with TensorFlow installed, `tfds build {name} --file_format=array_record --data_dir={tmp_path}`"
    with pytest.raises(UsageError, match=f"--data '{name}': nothing prepared in {tmp_path}/{name}: .*{command}"):
        image_loader.load(name, data_dir=tmp_path)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UsageError, match=r"--data cifar100 needs the module tensorflow_datasets, .*'snap-jax\[data\]'"):
        image_loader.load("cifar100")


def test_torn_data_sets_are_named(prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "torn") / "cifar10" / "3.0.2"
    (shards,) = folder.glob("*train*")
    shards.write_bytes(shards.read_bytes()[:200])
    with pytest.raises(UsageError, match=r"cannot read record \d+ .*: prepare the data set again") as error:
        image_loader.load("cifar10", data_dir=tmp_path / "torn")
    assert "\n" not in str(error.value)
    shards.unlink()
    with pytest.raises(UsageError, match=r"cannot read record 0 .*No such file"):
        image_loader.load("cifar10", data_dir=tmp_path / "torn")
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UsageError, match=rf"--data 'cifar10': cannot read {folder} .*JSON.*: prepare it once"):
        image_loader.load("cifar10", data_dir=tmp_path / "torn")


def test_another_format_or_split_says_which_is_wanted(tmp_path):
    prepare(tmp_path, "cifar10", "validation", (32, 32, 3))
    with pytest.raises(UsageError, match=r"no random access to split 'test' in .*--file_format=array_record"):
        image_loader.load("cifar10", data_dir=tmp_path)
    info = tmp_path / "cifar10" / "3.0.2" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UsageError, match=r"no random access to split 'train' in .*--file_format=array_record"):
        image_loader.load("cifar10", data_dir=tmp_path)


def test_records_read_what_is_asked_for_and_nothing_else():
    seen = []
    records = Records(range(100), lambda i: seen.append(i) or (i, 2 * i), (2,), np.dtype("int32"))
    assert records.shape == (100, 2)
    assert records[np.array([7, 7, 3])].tolist() == [[7, 14], [7, 14], [3, 6]]
    assert records[90::5].tolist() == [[90, 180], [95, 190]]
    assert records[:0].shape == (0, 2)
    assert seen == [7, 7, 3, 90, 95]
