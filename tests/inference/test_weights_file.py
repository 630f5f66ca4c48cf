"""Weights of a run as a safetensors file, and back."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from snap_jax import cli, training
from snap_jax.errors import UsageError
from snap_jax.inference.weights_file import export_weights, import_weights
from snap_jax.training.config import LanguageConfig, read_settings


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    (root / "text").write_bytes(bytes(range(32, 127)) * 40)
    config = LanguageConfig(
        data=str(root / "text"), layers=2, devices=2, width=16, heads=2, seq_len=32, batch=2, microbatches=2, steps=2
    )
    training.train(config, root / "run")
    return config, root / "run"


def test_a_run_that_was_exported_and_imported_is_the_same(trained, tmp_path, capsys):
    config, run = trained
    file, back = tmp_path / "model.safetensors", tmp_path / "back"
    cli.main(["export", str(run), str(file)])
    cli.main(["import", str(file), str(back)])
    assert capsys.readouterr().out.count(" numbers.") == 2
    with safe_open(file, "np") as opened:
        assert read_settings(json.loads(opened.metadata()["snap_jax"])) == config
        names = set(opened.keys())
    assert {name.split(".")[0] for name in names} == {"model", "boundaries"}
    export_weights(back, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_what_does_not_fit_is_refused(trained, tmp_path):
    run = trained[1]
    with pytest.raises(UsageError, match=r"import: .* is not empty: give another directory"):
        import_weights(tmp_path / "a", run)
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(UsageError, match=r"import: cannot read .*junk .*: give a file that `snap-jax export` wrote"):
        import_weights(tmp_path / "junk", tmp_path / "new")
    save_file({"model.x": np.zeros(3, np.float32)}, tmp_path / "other", metadata={"snap_jax": "[1]"})
    with pytest.raises(UsageError, match="other holds no settings of a run"):
        import_weights(tmp_path / "other", tmp_path / "new")
    export_weights(run, tmp_path / "m")
    with safe_open(tmp_path / "m", "np") as opened:
        arrays, metadata = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
    name = min(arrays)
    save_file(arrays | {name: arrays[name][None]}, tmp_path / "shape", metadata=metadata)
    with pytest.raises(UsageError, match=rf"tensor {name} is float32\[1, .*, not float32"):
        import_weights(tmp_path / "shape", tmp_path / "new")
    del arrays[name]
    save_file(arrays, tmp_path / "less", metadata=metadata)
    with pytest.raises(UsageError, match=f"tensor {name} is in only one of file and model"):
        import_weights(tmp_path / "less", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match=r"export: .* exists and is not overwritten: delete it"):
        export_weights(run, tmp_path)
