"""enwik8: the first 10^8 bytes of the English Wikipedia of March 2006, split 90/5/5 as usual."""

import hashlib
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from snap_jax.data.corpus import Corpus, Text, as_text
from snap_jax.errors import UsageError

ADDRESS = "http://mattmahoney.net/dc/enwik8.zip"
SIZE = 100_000_000
SHA256 = "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
CACHE = Path(os.path.expanduser("~"), ".cache", "snap_jax")


def load_enwik8(data_dir: Path | None = None) -> Corpus:
    """Read `enwik8` or `enwik8.zip` from `data_dir`, the working directory or ~/.cache/snap_jax.

    The first 90 MB are for training, the next 5 MB are `heldout`, the last 5 MB are `test`.

    Raises:
      UsageError: there is no copy (the message says what to put where), or it is not the complete file.
    """
    return read_enwik8([*([data_dir] if data_dir else []), Path(), CACHE], SIZE, SHA256)


def read_enwik8(folders: list[Path], size: int, sha256: str) -> Corpus:
    """Read the first copy found in `folders`, in their order; it must have `size` bytes and that SHA-256."""
    path = _find(folders)
    text = _read(path, size)
    found = hashlib.sha256(text.data).hexdigest()
    if found != sha256:
        raise UsageError(f"--data 'enwik8': {path} has the SHA-256 {found}, not {sha256}: download {ADDRESS} again")
    valid, test = size * 90 // 100, size * 95 // 100
    notes = (f"held out {test - valid:,} bytes after the first {valid:,}; the last {size - test:,} are for testing",)
    return Corpus("enwik8", text[:valid], text[valid:test], text[test:], notes)


def _find(folders: list[Path]) -> Path:
    for folder in folders:
        for name in ("enwik8", "enwik8.zip"):
            if (folder / name).is_file():
                return folder / name
    looked = ", ".join(str(folder.absolute()) for folder in folders)
    raise UsageError(f"--data 'enwik8': no file enwik8 or enwik8.zip in {looked}: download {ADDRESS} into one of these")


def _read(path: Path, size: int) -> Text:
    try:
        text = as_text(_unzip(path, size)) if path.suffix == ".zip" else np.asarray(np.memmap(path, np.uint8, "r"))
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"--data 'enwik8': cannot read {path} ({error}): download {ADDRESS} again") from error
    if len(text) != size:
        raise UsageError(f"--data 'enwik8': {path} has {_length(text, size)}, not {size:,}: download {ADDRESS} again")
    return text


def _length(text: Text, size: int) -> str:
    return f"more than {size:,} bytes" if len(text) > size else f"{len(text):,} bytes"


def _unzip(path: Path, size: int) -> bytes:
    """At most one byte more than there should be is unpacked; other methods than deflate have no such bound."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("enwik8").compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is packed by another method than deflate")
        with archive.open("enwik8") as file:
            return file.read(size + 1)
