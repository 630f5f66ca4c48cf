"""A directory is used only if it is empty or a run's, and only files that a run wrote are deleted there."""

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from snap_jax.errors import UsageError
from snap_jax.training import checkpoint_files, fingerprints, metrics, more_steps, run_dir, run_files
from snap_jax.training.config import LanguageConfig

CONFIG = LanguageConfig(steps=100)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def claimed(out, overwrite=False, config=CONFIG):
    return run_dir.claim(out, config, "data", overwrite)


@pytest.fixture
def run(tmp_path):
    """Two checkpoints: one whole, one cut short; and what Orbax was writing."""
    out = tmp_path / "run"
    claimed(out)
    for path in ("10/default/d/a", "20/default/d/a", "30.orbax-checkpoint-tmp-7/default/d/a"):
        (out / "checkpoints" / path).parent.mkdir(parents=True)
        (out / "checkpoints" / path).write_text("arrays")
    (out / "checkpoints" / "10" / "_CHECKPOINT_METADATA").write_text("{}")
    checkpoint_files.write_manifest(out / "checkpoints" / "10", {"seconds": 1.0})
    for name in ("result.json", "result-step-7.json", "metrics.jsonl.partial", "events.out.tfevents.1.host.snap-jax"):
        (out / name).write_text("{}")
    return out


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name",
    ["checkpoints/mine", "checkpoints/10/mine", "report.html", "metrics.jsonl", "traffic.json", "spikes.npz",
     "result.json", "events.out.tfevents.1", "thesis.tex", ".hidden", "src/main.py"],
)  # fmt: skip
def test_a_directory_of_others_is_refused_and_kept(name, overwrite, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{tmp_path} holds {name.split('/')[0]}.*, but no run.json .*another --out"):
        claimed(tmp_path, overwrite)
    assert files(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("text", ["{}", '{"my": "own"}', "[]", '{"config": {}, "data": "", "versions": {}}', "{"])
def test_a_run_json_of_another_program_is_no_run(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"cannot read .*run.json \(.*\): choose another --out"):
        claimed(tmp_path, overwrite=True)
    assert (tmp_path / "run.json").read_text() == text


def test_overwrite_deletes_a_run_and_nothing_beside_it(run):
    (run / "notes.txt").write_text("mine")
    (run / "events.out.tfevents.2").write_text("mine")
    claimed(run, overwrite=True, config=LanguageConfig(steps=7))
    assert files(run) == ["events.out.tfevents.2", "notes.txt", "run.json"]
    assert run_dir.record(run).config["steps"] == 7


@pytest.mark.parametrize("name", ["checkpoints/mine.pt", "checkpoints/10/mine", "checkpoints/20/mine", "checkpoints/7"])
def test_what_others_put_between_checkpoints_is_not_deleted(run, name):
    (run / name).write_text("mine")
    before = files(run)
    with pytest.raises(UsageError, match=rf"holds {name}, which no run wrote: move it away, or choose another --out"):
        claimed(run, overwrite=True)
    assert files(run) == before


def test_a_link_is_not_followed_out_of_the_directory(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (run / "checkpoints" / "40").symlink_to(tmp_path / "mine")
    (run / "report.html").symlink_to(tmp_path / "mine" / "file")
    with pytest.raises(UsageError, match="holds checkpoints/40, which no run wrote"):
        claimed(run, overwrite=True)
    (run / "checkpoints" / "40").unlink()
    claimed(run, overwrite=True)
    assert files(run) == ["run.json"]
    assert files(tmp_path / "mine") == ["file"]


def test_names_from_a_directory_cannot_move_the_cursor(tmp_path):
    (tmp_path / "\x1b[2J").write_text("")
    with pytest.raises(UsageError, match=r"holds \?\[2J, but no run.json"):
        claimed(tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [("gs://bucket/run", "mounted file system, not to gs://"), ("s3://bucket/run", "not to s3://")],
)
def test_an_object_store_is_no_directory(place, message):
    with pytest.raises(UsageError, match=message):
        run_dir.check_place(Path(place))


def test_a_name_that_is_not_utf8_is_refused():
    with pytest.raises(UsageError, match=r"--out 'runs/.udcff': the name is not UTF-8, .* rename the"):
        run_dir.check_place(Path(os.fsdecode(b"runs/\xff")))


def test_a_working_directory_that_was_deleted_is_said_to_be(tmp_path, monkeypatch):
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the working directory was deleted: go to another one"):
        run_dir.check_place(Path("run"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2**64}, "--seed 18446744073709551616: use 4294967294 or less"),
        ({"seed": -1}, "--seed -1: use 0 or more"),
        ({"steps": 10**20}, "--steps 100000000000000000000: use 2147483647 or less"),
        ({"layers": 10**20}, "--layers 100000000000000000000: use 2147483647 or less"),
        ({"accumulate": 10**20, "steps": 10}, "--accumulate 100000000000000000000: use 429496729 or less"),
    ],
)
def test_numbers_that_a_run_cannot_count_to_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        LanguageConfig(**changes)


def test_a_run_that_is_there_is_replaced_only_when_told_to(run):
    with pytest.raises(UsageError, match="holds a finished run: choose another --out, or pass --overwrite"):
        claimed(run)
    (run / "result.json").unlink()
    with pytest.raises(UsageError, match="holds a stopped run: continue it with --resume, or replace it with"):
        claimed(run)


def test_runs_of_other_versions_are_read_or_refused_by_name(tmp_path):
    """An older one lacks fields, which have their defaults; a newer one has some that nobody here knows."""
    record = dataclasses.asdict(claimed(tmp_path))
    older = {name: value for name, value in record.items() if name not in ("origin", "notes", "resumed_at")}
    older["config"] = {name: value for name, value in record["config"].items() if name != "keep"}
    (tmp_path / "run.json").write_text(json.dumps(older))
    read = run_dir.record(tmp_path)
    assert (read.origin, read.notes, read.resumed_at) == ("", (), ())
    run_dir.check_config(tmp_path, read, CONFIG)
    for newer in (record | {"sky": 1}, record | {"config": record["config"] | {"sky": 1}}):
        newer["versions"] = record["versions"] | {"snap-jax": "9.0"}
        (tmp_path / "run.json").write_text(json.dumps(newer))
        with pytest.raises(
            UsageError,
            match=rf"^{tmp_path}/run.json was written by snap-jax 9.0, and has sky, which this",
        ):
            run_dir.record(tmp_path)


_HOSTILE = (None, [], {}, 1e400, -1, "\x1b[2J", [[1]], {"a": {}}, True)


@pytest.mark.parametrize("value", _HOSTILE, ids=str)
def test_damaged_files_of_a_run_are_one_line(run, value):
    """Each field of each file takes each value; it is read as a record or a result, or one line says what is wrong."""
    record, result = json.loads((run / "run.json").read_text()), {"training": {"steps": 10}}
    manifest = json.loads((run / "checkpoints/10/manifest.json").read_text())
    for name in record:
        (run / "run.json").write_text(json.dumps(record | {name: value}))
        with contextlib.suppress(UsageError):
            run_dir.check_config(run, run_dir.record(run), CONFIG)
    for found in (value, result | {"training": value}, {"training": {"steps": value}}):
        (run / "result.json").write_text(json.dumps(found))
        with contextlib.suppress(UsageError):
            assert isinstance(run_dir.finished(run)["training"]["steps"], int)
    for found in (value, *(manifest | {name: value} for name in manifest), {"facts": {"seconds": value}, "files": {}}):
        (run / "checkpoints/10/manifest.json").write_text(json.dumps(found))
        with contextlib.suppress(UsageError):
            checkpoint_files.last_good(run / "checkpoints")
            checkpoint_files.best(run / "checkpoints")
    for line in (value, {"step": value, "seconds": 1}, {"step": 1, "seconds": value}):
        (run / "metrics.jsonl").write_text(f'{{"step": 10, "seconds": 1}}\n{json.dumps(line)}\n')
        assert metrics.lines(run / "metrics.jsonl")[0]["step"] == 10


def test_metrics_of_an_older_version_become_valid_json(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "seconds": 1.0, "loss_bits": NaN}\n')
    with metrics.Metrics(tmp_path, 10, 1.0):
        pass
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert line == {"step": 10, "seconds": 1.0, "loss_bits": None}


def test_weights_to_start_from_may_be_moved_if_they_were_compared(tmp_path):
    there, here = (dataclasses.replace(CONFIG, init_from=name) for name in ("a", "b"))
    record = run_dir.claim(tmp_path, there, "data", False, origin="weights")
    run_dir.check_config(tmp_path, record, here)
    run_dir.check_sources(tmp_path, record, here, "data", "weights")
    run_dir.check_sources(tmp_path, record, here, "data", "")  # not read: the checkpoint has them
    with pytest.raises(
        UsageError, match=r"--init-from b does not hold what --init-from a held when the run .* began: give"
    ):
        run_dir.check_sources(tmp_path, record, here, "data", "others")
    for then, now in (("weights", CONFIG), ("", here)):  # none any more; of an older version, which did not compare
        with pytest.raises(UsageError, match=r"has --init-from a, the command line --init-from (None|b): give"):
            run_dir.check_config(tmp_path, dataclasses.replace(record, origin=then), now)


@pytest.mark.parametrize(
    ("done", "then", "now", "goes_on"),
    [
        ({"steps": 100}, {}, {"steps": 100}, False),
        ({"steps": 100}, {}, {"steps": 101}, True),
        ({"steps": 100}, {"patience": 2}, {"patience": 9}, False),
        ({"steps": 30, "stopped_early": True}, {"patience": 2}, {"patience": 2}, False),
        ({"steps": 30, "stopped_early": True}, {"patience": 2}, {"patience": 3}, True),
        ({"steps": 30, "stopped_early": True}, {"patience": 2}, {}, True),
    ],
)
def test_which_finished_runs_are_trained_on(done, then, now, goes_on, tmp_path):
    then = {"steps": 100, "patience": None} | then
    assert more_steps.goes_on(tmp_path, done, then, LanguageConfig(**{"steps": 100} | now)) is goes_on


def test_more_steps_that_could_not_be_trained_are_refused(tmp_path):
    done, then = {"steps": 30, "stopped_early": True}, {"steps": 100, "patience": 2}
    with pytest.raises(UsageError, match=r"patience ended the run .* after step 30: give a larger --patience than 2"):
        more_steps.goes_on(tmp_path, done, then, LanguageConfig(steps=200, patience=2))
    budget = {"budget": 1.0, "init_from": "a", "anneal": 0.5, "link": "count:31+rans"}
    then, longer = {"steps": 100}, LanguageConfig(steps=200, **budget)
    assert more_steps.changes(then, LanguageConfig(steps=100, **budget), 80) == []
    assert len(more_steps.changes(then, longer, 100)) == 1  # half of 200: the target has fallen
    with pytest.raises(UsageError, match=r"--steps 200 --anneal 0.5: the target .* rise again .* at most --steps 160,"):
        more_steps.changes(then, longer, 80)


def test_a_large_text_is_compared_by_its_size_and_its_parts(tmp_path):
    data = np.arange(10_000, dtype=np.uint16).view(np.uint8)

    def digest(array):
        found = hashlib.sha256()
        fingerprints.update(found, array, whole=4096, part=64)
        return found.digest()

    changed = data.copy()
    changed[-1] ^= 1
    assert digest(data) == digest(data.copy())
    assert len({digest(data), digest(changed), digest(data[:-1]), digest(data[:4096])}) == 4


def test_no_file_of_a_run_is_missing_from_the_list(run):
    """Everything in a directory that a run wrote is deleted with it: what `others` names would stay."""
    assert run_files.others(run) == []
    assert run_files.others(run / "nowhere") == []
