"""`--dry-run` shows what a run takes and leaves nothing behind."""

import re

import pytest

from snap_jax import cli

SMALL = "--layers 2 --devices 2 --width 16 --heads 2 --seq-len 32 --batch 2 --microbatches 2 --steps 2"


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(bytes(range(32, 127)) * 40)
    return str(path)


def test_a_dry_run_shows_bytes_and_price_and_writes_nothing(data, tmp_path, capsys, monkeypatch):
    """Two microbatches and one idle slot of a row with 32 x 16 float32 numbers cross one boundary, each way."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    words = ["train", "language", "--data", data, *SMALL.split(), "--link", "fp32", "--out", str(tmp_path / "run")]
    cli.main([*words, "--dry-run", "--system", "ucie-chain"])
    shown = capsys.readouterr().out
    nbytes = 3 * 32 * 16 * 4
    assert re.search(rf"stage 0 to stage 1 +{nbytes:,} +{nbytes:,} ", shown)
    assert re.search(rf"elements that cross forward per step +{3 * 32 * 16:,} ", shown)
    assert "ucie-chain" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert sorted(tmp_path.rglob("*")) == before


def test_a_system_needs_a_dry_run(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "language", "--system", "ucie-chain"])
    assert "--system ucie-chain without --dry-run: add --dry-run" in capsys.readouterr().err
