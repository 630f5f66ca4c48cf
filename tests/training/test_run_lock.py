"""Two processes never write to one run; files are complete, on the disk, and valid JSON."""

import contextlib
import json
import math
import os
import subprocess
import sys

import pytest

from snap_jax.errors import UsageError
from snap_jax.training import atomic_io, run_lock
from snap_jax.training.run_lock import NAME, locked

_HOLD = """
import sys, time
from pathlib import Path
from snap_jax.training.run_lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(3600)
"""


def test_a_run_in_use_is_refused_and_its_process_named(tmp_path):
    with (
        contextlib.ExitStack() as stack,
        locked(tmp_path),
        pytest.raises(UsageError, match=f"{tmp_path} is in use: process {os.getpid()} on .*--out"),
    ):
        stack.enter_context(locked(tmp_path))


def test_a_killed_process_leaves_no_lock_that_counts(tmp_path):
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(UsageError, match=f"process {holder.pid} on"), locked(tmp_path):
            pass
        holder.kill()
    assert (tmp_path / NAME).exists()
    with locked(tmp_path):
        pass
    assert not (tmp_path / NAME).exists()


def test_directories_that_stay_empty_are_not_left(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "runs" / "a"):
        1 / 0  # noqa: B018 - the mistake of a user, found after the lock was taken
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a" / "result.json").write_text("{}")
    assert [path.name for path in (tmp_path / "runs" / "a").iterdir()] == ["result.json"]


def test_a_lock_never_follows_a_link_out_of_the_directory(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).symlink_to(tmp_path / "mine")
    refused = pytest.raises(UsageError, match=r"cannot write to .*run \(Too many levels of symbolic links\)")
    with refused, locked(tmp_path / "run"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_place_where_nothing_can_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(UsageError, match=r"cannot write to .*file/run \(Not a directory\): choose another --out")
    with refused, locked(tmp_path / "file" / "run"):
        pass
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "loop"):
        with (
            pytest.raises(UsageError, match=f"{name} is no directory: move it away, or choose"),
            locked(tmp_path / name),
        ):
            pass


@pytest.mark.parametrize("shared", [True, False])
def test_all_processes_see_the_directory(tmp_path, monkeypatch, shared):
    """A checkpoint of which another host keeps its part to itself could not be restored."""
    monkeypatch.setattr(run_lock, "_SEEN_SECONDS", 0.0)
    monkeypatch.setattr(run_lock, "count", lambda: 2)
    monkeypatch.setattr(run_lock, "from_each", lambda same: [True, same])
    monkeypatch.setattr(run_lock, "on_first", lambda action: action())
    if not shared:
        monkeypatch.setattr(run_lock, "_read", lambda path: "")  # of the second process
    refused = pytest.raises(
        UsageError, match="run: process 1 does not see what process 0 writes there: use a directory"
    )
    with contextlib.nullcontext() if shared else refused, locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_the_directory_is_synced_after_the_file_got_its_name(tmp_path, monkeypatch):
    """Else a power cut may leave the file without its name."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((os.readlink(f"/proc/self/fd/{file}"), done.exists())))
    done = tmp_path / "result.json"
    atomic_io.write_atomically(done, "{}")
    assert synced == [(f"{done}.partial", False), (str(tmp_path), True)]


def test_numbers_that_json_does_not_know_become_null():
    found = json.loads(atomic_io.to_json({"a": math.nan, "b": [1.0, (math.inf, "NaN")]}), parse_constant=pytest.fail)
    assert found == {"a": None, "b": [1.0, [None, "NaN"]]}
