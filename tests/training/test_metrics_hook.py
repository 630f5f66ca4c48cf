"""`on_metrics`, `log_every` and `eval_every`."""

import json

import pytest

from snap_jax import training
from snap_jax.errors import UsageError
from snap_jax.training.config import LanguageConfig

SMALL = {"layers": 2, "devices": 2, "width": 8, "heads": 2, "seq_len": 16, "batch": 2, "microbatches": 2, "steps": 6}


def test_every_logged_step_is_told_and_evaluations_are_logged_whenever_they_come(tmp_path):
    """Logged every 4 steps, evaluated every 3, and at the end: steps 3, 4 and 6."""
    (tmp_path / "text").write_bytes(bytes(range(32, 127)) * 40)
    config = LanguageConfig(data=str(tmp_path / "text"), log_every=4, eval_every=3, heldout_bytes=64, **SMALL)
    told = []
    training.train(config, tmp_path / "run", on_metrics=told.append)
    assert [(line["step"], "heldout_bits" in line) for line in told] == [(3, True), (4, False), (6, True)]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == told


@pytest.mark.parametrize("name", ["log_every", "eval_every"])
def test_no_steps_between_them_are_refused(name):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} 0: use 1 or more"):
        LanguageConfig(**{name: 0})
