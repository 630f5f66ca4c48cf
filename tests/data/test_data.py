"""Texts: what is read, in which order, how it is divided, and what is said when it cannot be."""

import functools
import hashlib
import os
import random
import socket
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snap_jax.data import text_loader, text_tree
from snap_jax.data.enwik8 import read_enwik8
from snap_jax.data.mapped import mapped
from snap_jax.data.python_stdlib import load_stdlib
from snap_jax.data.text_tree import divide
from snap_jax.errors import UsageError


@pytest.fixture(scope="module")
def stdlib():
    return text_loader.load("stdlib")


def write(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_stdlib_heldout_text_is_as_hard_as_documented(stdlib):
    assert 4.5 < text_loader.order0_bits(stdlib.heldout) < 4.75
    assert 1.85 < text_loader.gzip_bits(stdlib.heldout) < 2.0
    # Alike: a gap between training and held-out text is the model's, not the split's.
    assert abs(text_loader.gzip_bits(stdlib.heldout) - text_loader.gzip_bits(stdlib.train)) < 0.05


def test_stdlib_holds_out_a_twentieth_or_so(stdlib):
    assert 300_000 < stdlib.heldout.size < 800_000
    assert 0.04 < stdlib.heldout.size / (stdlib.train.size + stdlib.heldout.size) < 0.10


def test_stdlib_reads_the_same_twice(stdlib):
    again = text_loader.load("stdlib")
    assert np.array_equal(again.train, stdlib.train)
    assert np.array_equal(again.heldout, stdlib.heldout)


def test_stdlib_of_a_made_up_library(tmp_path):
    kept = {f"m{i:03}.py": f"# module {i}\n".encode() for i in range(150)} | {"json/decoder.py": b"# decoder\n"}
    dropped = [
        "test/test_os.py",
        "json/tests/a.py",
        "site-packages/numpy.py",
        "idlelib/run.py",
        "encodings/cp1.py",
    ]
    dropped += ["_sysconfigdata__linux.py", "config-3.11/a.py", "LICENSE.txt", "__pycache__/os.py"]
    corpus = load_stdlib(write(tmp_path, kept | dict.fromkeys(dropped, b"never\n")))

    def held(path):
        return hashlib.sha256(b"stdlib/" + path.encode()).digest() < (2**256 // 10).to_bytes(32, "big")

    assert corpus.train.tobytes() == b"".join(kept[p] for p in sorted(kept) if not held(p))
    assert corpus.heldout.tobytes() == b"".join(kept[p] for p in sorted(kept) if held(p))


def test_stdlib_without_sources_says_so(tmp_path):
    write(tmp_path, {"os.pyc": b"\0"})
    with pytest.raises(UsageError, match=rf"{tmp_path} holds 0 source files.*give a path to some text"):
        load_stdlib(tmp_path)
    with pytest.raises(UsageError, match=r"python311\.zip holds 0 source files"):
        load_stdlib(tmp_path / "python311.zip")


def test_unreadable_files_are_left_out_and_reported(tmp_path):
    write(tmp_path, {f"{i}.txt": b"word " * 10 for i in range(30)})
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "gone")
    notes = text_loader.load(str(tmp_path)).notes
    assert notes[1:] == ("left out 1 unreadable file: dangling.txt",)


def test_a_file_holds_out_its_last_tenth(tmp_path):
    data = random.Random(0).randbytes(1003).replace(b"\0", b"a")
    (tmp_path / "a.txt").write_bytes(data)
    corpus = text_loader.load(str(tmp_path / "a.txt"))
    assert corpus.train.tobytes() == data[:903]  # int(1003 * 0.1) = 100 are held out
    assert corpus.heldout.tobytes() == data[903:]
    assert (corpus.test, corpus.notes) == (None, ("held out the last 10% of the text",))


def test_a_directory_is_text_without_binaries_and_hidden_files(tmp_path):
    write(
        tmp_path,
        {
            "b.txt": b"B" * 50,
            "a/c.md": b"C" * 50,
            "photo.jpg": b"\xff\xd8\0",
            ".git/x": b"X" * 50,
            ".y": b"Y",
        },
    )
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "socket"))
        corpus = text_loader.load(str(tmp_path))
    assert corpus.train.tobytes() + corpus.heldout.tobytes() == b"C" * 50 + b"B" * 50
    assert "left out 1 binary file: photo.jpg" in corpus.notes


@settings(deadline=None)
@given(st.dictionaries(st.text("abc/é", min_size=1, max_size=6), st.binary(max_size=40), min_size=1, max_size=60))
def test_dividing_neither_loses_nor_repeats_a_byte(files):
    total = b"".join(files.values())
    if len(total) < 10:
        with pytest.raises(UsageError, match=f"'d' has {len(total)} bytes: give a longer text"):
            divide("d", files)
        return
    corpus = divide("d", files)
    assert corpus.heldout.size >= 1
    assert corpus.train.size >= 0.75 * len(total)
    assert sorted(corpus.train.tobytes() + corpus.heldout.tobytes()) == sorted(total)
    assert corpus.train.dtype == corpus.heldout.dtype == np.uint8


def test_a_new_file_moves_no_other_file():
    files = {f"{i}.txt": f"<{i}>".encode() for i in range(300)}
    before, after = divide("d", files), divide("d", files | {"new.txt": b"<new>"})
    assert before.heldout.size > 0
    assert set(before.heldout.tobytes().split(b">")) <= set(after.heldout.tobytes().split(b">"))
    assert set(before.train.tobytes().split(b">")) <= set(after.train.tobytes().split(b">"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "enwik9",
            "--data 'enwik9' is neither a dataset .stdlib, enwik8. nor an .* path: did you mean 'enwik8'?",
        ),
        ("std_lib", "did you mean 'stdlib'?"),
        ("nowhere/a.txt", "--data 'nowhere/a.txt' is neither .* give one of these names or a path to text"),
        ("", "--data '' is neither"),
        ("x" * 5000, "nor an existing path"),
        ("/dev/null", "neither a regular file nor a directory"),
        ("empty.txt", "--data 'empty.txt' holds no text: it is empty: give plain text"),
        ("empty", "--data 'empty' holds no text: it is empty: give plain text"),
        ("a.zip", "--data 'a.zip' holds no text: the file is binary: give plain text files"),
        ("binaries", "--data 'binaries' holds no text: left out 1 binary file: b: give plain text"),
        ("short.txt", "--data 'short.txt' has 9 bytes: give a longer text"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(
        write(tmp_path, {"empty.txt": b"", "a.zip": b"PK\0", "binaries/b": b"\0", "short.txt": b"123456789"})
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message) as error:
        text_loader.load(name)
    assert "\n" not in str(error.value)


def test_enwik8_is_divided_90_5_5(tmp_path):
    data = bytes(range(200)) * 5
    (tmp_path / "enwik8").write_bytes(data)
    corpus = read_enwik8([tmp_path / "no", tmp_path], size=1000, sha256=hashlib.sha256(data).hexdigest())
    assert corpus.train.tobytes() == data[:900]
    assert corpus.heldout.tobytes() == data[900:950]
    assert corpus.test is not None
    assert corpus.test.tobytes() == data[950:]


def test_a_link_to_a_file_of_the_directory_is_read_once(tmp_path):
    """Else its text could be trained on and held out."""
    write(tmp_path, {"a.txt": b"one text\n" * 99, "b.txt": b"another\n" * 99})
    (tmp_path / "c.txt").symlink_to(tmp_path / "a.txt")
    os.link(tmp_path / "b.txt", tmp_path / "d.txt")
    corpus = text_loader.load(str(tmp_path))
    assert len(corpus.train) + len(corpus.heldout) == 99 * (9 + 8)
    assert "left out 2 repeated files: c.txt, d.txt" in corpus.notes


def test_enwik8_is_read_from_its_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("enwik8", b"wiki" * 25)
    right = hashlib.sha256(b"wiki" * 25).hexdigest()
    assert read_enwik8([tmp_path], size=100, sha256=right).train.tobytes() == (b"wiki" * 25)[:90]


def test_enwik8_absent_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snap_jax.data.enwik8.CACHE", tmp_path / "cache")
    with pytest.raises(UsageError) as error:
        text_loader.load("enwik8", data_dir=tmp_path / "mine")
    for part in (
        "enwik8.zip",
        str(tmp_path / "mine"),
        str(tmp_path / "cache"),
        "http://mattmahoney.net/dc/enwik8.zip",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("enwik8", b"x" * 99, "enwik8 has 99 bytes, not 100: download http"),
        ("enwik8", b"x" * 101, "enwik8 has more than 100 bytes, not 100: download http"),
        ("enwik8.zip", b"PK, but torn", "cannot read .*enwik8.zip"),
        ("enwik8", b"x" * 100, "enwik8 has the SHA-256 .*, not 0123: download http"),
    ],
)
def test_a_torn_enwik8_is_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        read_enwik8([tmp_path], size=100, sha256="0123")


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w") as archive:
        archive.writestr("README", b"hello")
    with pytest.raises(UsageError, match=r"cannot read .*enwik8\.zip .*enwik8"):
        read_enwik8([tmp_path], size=100, sha256="0123")


@pytest.mark.parametrize(
    ("method", "message"),
    [(zipfile.ZIP_DEFLATED, "has more than 100 bytes, not 100: download"),
     (zipfile.ZIP_BZIP2, "another method than deflate"), (zipfile.ZIP_LZMA, "another method than deflate")],
)  # fmt: skip
def test_a_zip_that_unpacks_to_more_is_not_unpacked(tmp_path, method, message):
    """Of 64 MiB that lie in some kilobytes, what there should be and one byte are unpacked."""
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w", method) as archive:
        archive.writestr("enwik8", bytes(2**26))
    tracemalloc.start()
    with pytest.raises(UsageError, match=rf"enwik8\.zip .*{message}"):
        read_enwik8([tmp_path], size=100, sha256="0123")
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@pytest.mark.parametrize(("at", "byte"), [(6, 1), (8, 99)])
def test_a_zip_that_is_locked_or_packed_by_an_unknown_method_is_refused(tmp_path, at, byte):
    """Bit 0 of the flags says that it is encrypted, the next word is the method; each stands twice."""
    path = tmp_path / "enwik8.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("enwik8", bytes(100))
    data = bytearray(path.read_bytes())
    data[at] = data[data.index(b"PK\1\2") + at + 2] = byte
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"cannot read .*enwik8\.zip .*download"):
        read_enwik8([tmp_path], size=100, sha256="0123")


def test_order0_of_a_biased_coin():
    # One byte in four is "b": H = 1/4 log2 4 + 3/4 log2(4/3).
    assert text_loader.order0_bits(b"aaab" * 100) == pytest.approx(0.25 * 2 + 0.75 * np.log2(4 / 3), rel=1e-12)
    assert text_loader.order0_bits(np.frombuffer(b"aaaa", np.uint8)) == 0


def test_gzip_keeps_noise_at_eight_bits():
    noise = random.Random(0).randbytes(100_000)
    assert 8 < text_loader.gzip_bits(noise) < 8.01
    assert text_loader.gzip_bits(np.frombuffer(noise, np.uint8)) == text_loader.gzip_bits(noise)


@pytest.mark.parametrize("measure", [text_loader.order0_bits, text_loader.gzip_bits])
def test_no_text_has_no_bits_per_byte(measure):
    with pytest.raises(UsageError, match=f"{measure.__name__}: the text is empty"):
        measure(b"")


def test_a_large_directory_is_mapped_not_held(tmp_path, monkeypatch):
    """20 files of 100 kB: five of them are in memory at most, and what is read is what they hold."""
    size, files = 100_000, {f"{n}.txt": bytes([65 + n]) * 100_000 for n in range(20)}
    write(tmp_path, files)
    monkeypatch.setattr(text_tree, "mapped", functools.partial(mapped, large=1000))
    tracemalloc.start()
    try:
        corpus = text_loader.load(str(tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * size
    text = b"".join(files[name] for name in sorted(files))
    assert sorted(corpus.train.tobytes() + corpus.heldout.tobytes()) == sorted(text)
