"""The command line: help, one-line errors with exit code 2, and nothing left behind."""

import json
import logging
import re
import subprocess
import sys
import types

import jax
import pytest

import snap_jax as snap
from snap_jax import cli
from snap_jax.cli.train_command import is_shown
from snap_jax.codecs.link_spec import NAMES, as_codec
from snap_jax.errors import UsageError
from snap_jax.parallel.mesh import auto_mesh, emulate_devices

SMALL = "--layers 2 --devices 2 --width 16 --heads 2 --seq-len 32 --batch 2 --microbatches 2 --steps 2"


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(bytes(range(32, 127)) * 40)
    return str(path)


def failing(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out.strip() == ""
    message = shown.err.strip()
    assert message.startswith("snap-jax: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data /no/such/text", "neither a dataset"),
        ("--link spikes", "link 'spikes' is not known"),
        ("--link snap_jax.Count", "link 'snap_jax.Count': missing .*'limit': use an instance, SIGN = Count"),
        ("--link tenary", r"did you mean ternary\?"),
        ("--link ternary+zip", "wire 'zip' is not known: use"),
        ("--link count:3+ran", r"wire 'ran' is not known \(did you mean rans\?\): use"),
        ("--link int8:chanel", r"link 'int8:chanel' is not known \(did you mean int8:channel\?\): use"),
        ("--link fp32+bitplanes", "fp32 has no wire"),
        ("--grad-link nope", "link 'nope' is not known"),
        ("--learning-rate 0", "--learning-rate 0.0: use a number above 0, such as 0.008"),
        ("--learning-rate -1", "--learning-rate -1.0: use a number above 0"),
        ("--learning-rate nan", "--learning-rate nan: use a number above 0"),
        ("--learning-rate inf", "--learning-rate inf: use a number above 0"),
        ("--devices 3", "--devices 3: 3 pipeline stages do not divide --layers 4"),
        ("--devices 100 --layers 100", "100 devices cannot be emulated"),
        ("--data enwik8", "enwik8"),
        ("--out /proc/nowhere/run --data stdlib --steps 1", "cannot write to /proc/nowhere/run"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert re.search(message, failing(["train", "language", *arguments.split()], capsys))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", ["0", "-1"])
def test_a_demo_of_no_steps_is_refused(steps, capsys, tmp_path):
    message = failing(["demo", "--out", str(tmp_path / "demo"), "--steps", steps], capsys)
    assert f"demo: --steps {steps}: use 1 or more" in message
    assert list(tmp_path.iterdir()) == []


def test_empty_and_short_data(tmp_path, capsys):
    empty, short = tmp_path / "empty", tmp_path / "short"
    empty.write_bytes(b"")
    short.write_bytes(b"too short for a window")
    assert "no text" in failing(["train", "language", "--data", str(empty)], capsys)
    assert "use a longer text" in failing(["train", "language", "--data", str(short)], capsys)


def test_train_writes_the_run_and_its_page(data, tmp_path, capsys):
    out = tmp_path / "run"
    cli.main(
        [
            "train",
            "language",
            "--data",
            data,
            *SMALL.split(),
            "--link",
            "ternary+bitplanes",
            "--prune-below",
            "0.0",
            "--out",
            str(out),
        ]
    )
    result = json.loads((out / "result.json").read_text())
    assert result["config"]["link"] == "ternary+bitplanes"
    assert result["pruned"]["identical"]
    assert (out / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    shown = capsys.readouterr().out
    assert "bits per element" in shown
    assert "channels on the wire" in shown
    cli.main(["report", str(out), str(out), "--out", str(tmp_path / "two.html")])
    assert (tmp_path / "two.html").exists()
    cli.main(["cost", str(out), "--system", "ucie-chain"])
    assert "over stage" in capsys.readouterr().out


def run(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout


def test_help_names_every_command_and_version_is_the_package_s():
    text = run("-m", "snap_jax", "--help")
    for command in (
        "demo",
        "train language",
        "train vision",
        "report",
        "cost",
        "export",
        "import",
        "bench",
        "--version",
    ):
        assert f"  {command} " in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert run("-m", "snap_jax", "--version") == f"snap-jax {snap.__version__}\n"


def test_help_loads_neither_jax_nor_what_trains():
    slow = ("jax", "flax", "orbax", "matplotlib", "tensorboardX", "pydantic", "snap_jax.training")
    loaded = f"import sys; from snap_jax.cli import main; main(['--help']); print(set({slow!r}) & set(sys.modules))"
    assert run("-c", loaded).splitlines()[-1] == "set()"


def test_what_checks_files_is_loaded_where_a_file_is_read():
    loads = "import sys, snap_jax, snap_jax.cost; from snap_jax.training import config; snap_jax.Traffic"
    assert run("-c", f"{loads}; print('pydantic' in sys.modules)").strip() == "False"


@pytest.mark.parametrize("task", ["language", "vision"])
def test_help_of_every_flag_is_a_sentence(task, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", task, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    options = re.findall(r" --([a-z][a-z-]*)[^(]*?([A-Z`][^()]*(?:\([^()]*\)[^()]*)*?)\((?:default|required)", text)
    assert len(options) >= 25
    for name, about in options:
        assert about.strip().endswith("."), (name, about)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "demi",
            r"'demi' is no command of `snap-jax` \(did you mean demo\?\): "
            "use demo, train, eval, generate, launch, report, cost, export, import, bench; or",
        ),
        (
            "trian",
            r"'trian' is no command of `snap-jax` \(did you mean train\?\): use demo, train, eval, generate",
        ),
        ("version", r"'version' is no command of `snap-jax` \(did you mean --version\?\)"),
        ("train langage", r"'langage' is no command of `snap-jax train` \(did you mean language\?\)"),
    ],
)
def test_an_unknown_command_is_one_line(words, message, capsys):
    assert re.search(message, failing(words.split(), capsys))


def test_a_module_that_does_not_import_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken_codes.py").write_text("SIGN = 1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"link 'broken_codes.SIGN': division by zero: use MODULE.NAME of an import"):
        as_codec("broken_codes.SIGN")


def test_every_link_of_the_help_parses():
    for name in NAMES.split(", ")[1:]:
        for wire in ("", "+packed", "+radix"):
            codec = as_codec(name + wire)
            assert codec is not None
            assert codec.payload_bytes((16,)) > 0
    assert as_codec("fp32") is None


def test_links_that_carry_numbers():
    """A tenth of the elements: 1 + 3 + 4 bits and 1/8 a bucket with addresses, 1 + 0.4 bits as a bitmap."""
    encoding = lambda spec: as_codec(spec).encoding
    assert encoding("int3:absmax") == snap.Int(3)
    assert encoding("int4:channel") == snap.Int(4, block="channel")
    assert encoding("int2:block32") == snap.Int(2, block=32)
    assert encoding("latency:8").time_steps == encoding("phase:8").time_steps == 8
    assert as_codec("topk:0.1") == snap.Codec(snap.TopK(0.1, 4), snap.Events(0.1))
    assert as_codec("topk:0.5") == snap.Codec(snap.TopK(0.5, 4), snap.Bitmap(0.5))
    assert as_codec("topk:0.1:2") == snap.Codec(snap.TopK(0.1, 2), snap.Events(0.1))
    assert as_codec("topk:0.1+bitmap").wire == snap.Bitmap(0.1)
    assert as_codec("topk:0.1+ladder").wire == snap.Ladder()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("int4:blok32", r"link 'int4:blok32' is not known \(did you mean int4:block32\?\): use fp32, bf16"),
        ("latency", r"did you mean latency:8\?"),
        ("phase:9", r"link 'phase:9' is not known"),
        ("topk:x", r"did you mean topk:0.1\?"),
        ("topk:0", r"TopK: fraction=0.0"),
        ("int4:block0", r"link 'int4:block0' is not known \(did you mean int4:block32"),
        ("int9:absmax", r"Int: bits=9"),
        ("count:²", r"link 'count:²' is not known"),
        ("count:3:dead²", r"link 'count:3:dead²' is not known"),
        ("int²", r"link 'int²' is not known"),
        ("int4:block²", r"link 'int4:block²' is not known"),
        ("topk:²", r"link 'topk:²' is not known"),
        ("rate:²", r"link 'rate:²' is not known"),
        ("snap_jax.Count", r"link 'snap_jax.Count': missing .*'limit': use an instance, SIGN = Count\("),
        ("snap_jax.encodings.Encoding", r"link 'snap_jax.encodings.Encoding': .* abstract class .*: use an instance"),
        ("snap_jax.Rans", r"link 'snap_jax.Rans' is a class: use an instance of Encoding"),
        ("count:3+snap_jax.wires.Wire", r"link 'snap_jax.wires.Wire': .* abstract class .*: use an instance"),
        ("tests.support.no_such.SIGN", r"link 'tests.support.no_such.SIGN': .*: use MODULE.NAME of an importable"),
    ],
)
def test_links_that_mean_nothing(spec, message):
    with pytest.raises(UsageError, match=message):
        as_codec(spec)


def test_emulation_after_the_start_needs_enough_devices():
    emulate_devices(4)  # eight are there
    with pytest.raises(UsageError, match="JAX runs with 8 devices, 16 were asked for"):
        emulate_devices(16)
    with pytest.raises(UsageError, match=r"needs 16 devices, 8 are there: call snap_jax.emulate_devices\(16\)"):
        auto_mesh({"stage": 16})


def test_an_accelerator_host_with_fewer_devices_is_not_told_to_emulate(monkeypatch):
    gpu = types.SimpleNamespace(platform="gpu")
    monkeypatch.setattr(jax, "devices", lambda: [gpu, gpu])
    message = r"needs 4 devices, 2 are there: use at most 2 devices, or emulate them on the CPU with JAX_PLATFORMS=cpu"
    with pytest.raises(UsageError, match=message):
        auto_mesh({"stage": 4})


def test_training_on_an_accelerator_with_fewer_devices_names_the_flag(data, monkeypatch, capsys):
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(platform="gpu")])
    message = failing(["train", "language", "--data", data, *SMALL.split(), "--dry-run"], capsys)
    assert (
        "--devices 2: there are 1 (gpu): use --devices 1, or emulate them on the CPU with JAX_PLATFORMS=cpu" in message
    )


def test_warnings_of_libraries_are_shown_but_for_tracebacks_of_what_ends_the_run():
    record = lambda level, error: logging.LogRecord("absl", level, "x.py", 1, "text", None, error)
    error = (OSError, OSError("disk full"), None)
    assert is_shown(record(logging.WARNING, None))
    assert is_shown(record(logging.WARNING, error))
    assert is_shown(record(logging.ERROR, None))
    assert not is_shown(record(logging.ERROR, error))
    at_every_save = "[process=0] Skipping merge of OCDBT checkpoints: none in %s"
    assert not is_shown(logging.LogRecord("absl", logging.WARNING, "x.py", 1, at_every_save, ("a",), None))


def test_escapes_in_a_path_are_shown_and_not_obeyed(capsys, tmp_path):
    message = failing(["report", str(tmp_path / "a\x1b[31m[x]")], capsys)
    assert r"a\x1b[31m[x] is not a run directory" in message
