"""The options of `train`: groups in the help, and settings from a file that flags win over."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from snap_jax.cli.config_file import read_config
from snap_jax.cli.option_groups import parse
from snap_jax.errors import UsageError
from snap_jax.training.config import LanguageConfig, VisionConfig, written_settings


def parsed(*words, kind=LanguageConfig):
    return parse(kind, words, "About.", Path("runs/a"))


@pytest.mark.parametrize("kind", [LanguageConfig, VisionConfig])
def test_every_setting_is_in_one_group_and_without_flags_has_its_default(kind, capsys):
    options, config = parsed(kind=kind)
    assert (config, options.out) == (kind(), Path("runs/a"))
    with pytest.raises(SystemExit):
        parsed("--help", kind=kind)
    shown = capsys.readouterr().out
    groups = ["run", "data", "model", "devices", "links", "budget", "training"]
    assert re.findall(r"(\w+) options ", shown) == groups
    for field in dataclasses.fields(kind):
        assert len(re.findall(rf"^\W*--{field.name.replace('_', '-')} [A-Z{{]", shown, re.M)) == 1
    assert max(map(len, shown.splitlines())) <= 80


def test_a_file_gives_defaults_and_flags_win(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text('width = 64\nseq-len = 32\nlearning_rate = 1\nlink = "int8"\nheldout_bytes = "None"\n')
    options, config = parsed("--config", str(file), "--link", "None", "--width=32")
    assert config == LanguageConfig(width=32, seq_len=32, learning_rate=1.0, heldout_bytes=None)
    assert options.config == file
    assert parsed(f"--config={file}")[1].width == 64


def test_settings_of_a_file_are_checked_together_with_the_flags(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text("devices = 3")
    with pytest.raises(UsageError, match="--devices 3: 3 pipeline stages do not divide --layers 4"):
        parsed("--config", str(file))
    assert parsed("--config", str(file), "--layers", "6")[1].devices == 3


def test_an_earlier_run_gives_its_settings_without_those_of_other_versions(tmp_path):
    before, file = VisionConfig(width=16, noise=0.5, save_every=7), tmp_path / "run.json"
    file.write_text(json.dumps({"config": written_settings(before) | {"of": "another version"}, "data": "x"}))
    assert parsed("--config", str(file), kind=VisionConfig)[1] == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "widht = 3", r"widht is no setting of `train language` \(did you mean width\?\): see --help"),
        ("a.toml", 'width = "3"', "width is '3', not a whole number: see --help"),
        ("a.toml", "width = true", "width is True, not a whole number"),
        ("a.toml", "width = 1e400", "width is inf, not a whole number"),
        ("a.toml", "learning_rate = 1979-05-27", "learning_rate is '1979-05-27', not a number"),
        ("a.toml", 'mode = "dens"', "mode is 'dens': input should be 'dense', 'hybrid' or 'spiking'"),
        ("a.toml", "width = ", "is not TOML .*end of document.*: use a TOML file of settings"),
        ("a.toml", "width = " + 5000 * "9", "is not TOML .*4300 digits"),
        ("a.toml", 'task = "vision"', "task is 'vision', not 'language': use `snap-jax train vision`"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "holds list, not an object"),
        ("a.json", "{}", "has no object config, as the run.json of a run has: use a TOML file of settings"),
        ("a.json", '{"config": {"width": NaN}}', "width is nan, not a whole number"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_setting(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=f"--config .*{name}:? {message}"):
        read_config(tmp_path / name, LanguageConfig)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "no.toml", Path("/dev/zero")):
        with pytest.raises(UsageError, match=f"cannot read {path}.*: use a TOML file of settings such as width = 64"):
            read_config(path, LanguageConfig)


def test_a_config_without_a_value_is_told(capsys):
    with pytest.raises(SystemExit):
        parsed("--config")
    assert "--config" in capsys.readouterr().err
