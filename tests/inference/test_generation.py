"""`snap-jax generate`: what it writes, how it is shown, and mistakes."""

import json
import re

import jax.numpy as jnp
import pytest

from snap_jax import cli
from snap_jax.inference import Sampling, generate, load
from snap_jax.inference.cli import ShownText
from snap_jax.training.config import LanguageConfig
from tests.support.training_jobs import save_untrained, write_text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A transformer over two stages that nobody trained."""
    folder = tmp_path_factory.mktemp("runs")
    sizes = {"devices": 2, "layers": 2, "width": 8, "heads": 2, "seq_len": 24}
    config = LanguageConfig(data=write_text(folder), model="transformer", link="count:2", **sizes)
    save_untrained(config, folder / "run", moved=0.3)
    return folder / "run"


def test_a_text_does_not_depend_on_the_others_of_a_batch(run):
    """Prompts of 2 and 5 bytes: the shorter one is written while the longer one is read. 8 elements of 3 bits cross."""
    loaded, sampling = load(run), Sampling(temperature=0.7, top_k=20, seed=3)
    both = generate(loaded, [b"li", b"line "], tokens=4, sampling=sampling)
    assert [len(text) for text in both.texts] == [7, 4]
    seen = []
    alone = generate(loaded, [b"line "], tokens=4, sampling=sampling, on_token=seen.extend)
    assert alone.texts == both.texts[1:]
    assert bytes(seen) == alone.texts[0]
    assert len(alone.step_seconds) == 3
    assert alone.bytes_per_token < alone.dense_bytes_per_token == 8 * 4


def test_the_most_probable_or_some_of_them():
    """top_k=1 leaves one choice, whatever the temperature."""
    logits = jnp.array([[0.0, 3.0, 2.0], [5.0, 1.0, 4.0]])
    for sampling in (Sampling(temperature=0.0), Sampling(temperature=9.0, top_k=1)):
        assert sampling.choose(logits, jnp.int32(7)).tolist() == [1, 0]
    drawn = {tuple(Sampling(temperature=50.0).choose(logits, jnp.int32(i)).tolist()) for i in range(20)}
    assert len(drawn) > 2


def test_bytes_are_shown_as_text_without_terminal_escapes(capsys):
    """A sign of two bytes comes in two parts, 0xff is no UTF-8, and ESC would color the terminal."""
    shown = ShownText("é".encode()[:1])
    for part in ("é".encode()[1:], b"\xff", b"\x1b[31m", b"a\n"):
        shown.add(part)
    shown.end()
    assert capsys.readouterr().out == "é�\\x1b[31ma\n\n"


def test_the_command_writes_text_or_json(run, capsys, tmp_path):
    cli.main(["generate", str(run), "--prompt", "line", "--tokens", "3", "--temperature", "0"])
    shown = capsys.readouterr().out
    assert shown.startswith("line")
    assert "bytes between stages, per byte of text" in shown
    (tmp_path / "prompts").write_text("line 1\nli\n")
    cli.main(["generate", str(run), "--prompt-file", str(tmp_path / "prompts"), "--tokens", "3", "--json"])
    assert len(json.loads(capsys.readouterr().out)["texts"]) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prompt", ""], "--prompt: it is empty: give some text"),
        ([], "give either --prompt TEXT or --prompt-file FILE"),
        (["--prompt-file", "/dev/zero"], "--prompt-file /dev/zero: it is no regular file: give a file"),
        (["--prompt-file", "/no/such"], "--prompt-file /no/such: No such file or directory: give a file"),
        (["--prompt", "abc", "--tokens", "0"], "--tokens 0: use 1 or more"),
        (["--prompt", "abc", "--tokens", "22"], "--prompt of 3 bytes and --tokens 22: .* trained on 24 positions"),
        (["--prompt", "abc", "--tokens", "2", "--top-k", "0"], "--top-k 0: use 1 or more"),
        (["--prompt", "abc", "--tokens", "2", "--temperature", "-1"], r"--temperature -1.0: use 0 or more"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["generate", str(run), *flags])
    said = capsys.readouterr().err.strip()
    assert (stop.value.code, said.count("\n")) == (2, 0)
    assert re.search(message, said)
