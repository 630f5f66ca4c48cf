"""The commands `snap-jax eval` and `snap-jax generate`: read a run, use its model, print a table or JSON."""

import codecs
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from snap_jax.errors import UsageError
from snap_jax.parallel import processes
from snap_jax.training.atomic_io import to_json

if TYPE_CHECKING:
    from snap_jax.inference.generation import Written

Run = Annotated[Path, tyro.conf.Positional]


def evaluate(
    run: Run,
    data: str | None = None,
    split: Literal["heldout", "train"] = "heldout",
    batches: int | None = None,
    checkpoint: int | None = None,
    devices: int | None = None,
    link: str | None = None,
    repeat: int = 0,
    json: bool = False,
) -> None:
    """Evaluate a trained run: the numbers of its final evaluation, on the same data or on other data.

    Args:
      run: The run directory.
      data: Other data, named as for training. The default is the data of the run.
      split: Evaluate held-out data, or training data.
      batches: Number of batches (32 windows of text or 128 images) to evaluate. The default is as much as training did.
      checkpoint: The step whose checkpoint to use. The default is the final weights.
      devices: 1 computes the whole model on one device. The default is as many as in training.
      link: What to send instead, such as int8:channel, or dense for float32.
      repeat: How often to run the model on the same data once more, for its time without compilation.
      json: Print one JSON object instead of a table.
    """
    from snap_jax.inference import held_out, trained_run

    with processes.ended_on_failure():
        processes.join_processes()
        loaded = trained_run.load(run, checkpoint=checkpoint, devices=devices, link=link)
        held = held_out.evaluate(loaded, data=data, split=split, batches=batches, repeat=repeat)
        if json:
            show_json(held_out.as_json(loaded, held, split, data))
        else:
            show_table(str(run), held_out.table_rows(loaded, held, split, data))


def show_json(found: dict) -> None:
    """Print one JSON object, from the first process."""
    if processes.is_first():
        print(to_json(found), flush=True)


def show_table(title: str, rows: list[tuple[str, str]]) -> None:
    """Print names and numbers, from the first process; control characters are shown as spaces."""
    if not processes.is_first():
        return
    made = Table(box=box.SIMPLE, pad_edge=False, show_header=True)
    made.add_column("")
    made.add_column(_plain(title), justify="right", overflow="fold")
    for name, number in rows:
        made.add_row(_plain(name), _plain(number))
    Console().print(made)


def _plain(words: str) -> Text:
    return Text("".join(sign if sign.isprintable() else " " for sign in words))


def write(
    run: Run,
    prompt: str | None = None,
    prompt_file: Path | None = None,
    tokens: int = 128,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    link: str | None = None,
    json: bool = False,
) -> None:
    """Write text with a trained language run, divided over its devices.

    Args:
      run: The run directory.
      prompt: Text to go on from.
      prompt_file: A file with one prompt per line, which are written at once.
      tokens: Number of bytes to write.
      temperature: Logits are divided by it; 0 takes the most probable byte.
      top_k: Only so many of the most probable bytes. The default is all.
      seed: Seed of the choices.
      link: What to send instead, such as int8, or dense for float32.
      json: Print one JSON object instead of the text.
    """
    from snap_jax.inference import generation, trained_run

    with processes.ended_on_failure():
        processes.join_processes()
        prompts = _prompts(prompt, prompt_file)
        loaded = trained_run.load(run, link=link)
        generation.check(loaded, prompts, tokens)
        shown = ShownText(prompts[0]) if len(prompts) == 1 and not json and processes.is_first() else None
        sampling = generation.Sampling(temperature, top_k, seed)
        on_token = None if shown is None else lambda new: shown.add(bytes(new))
        written = generation.generate(loaded, prompts, tokens=tokens, sampling=sampling, on_token=on_token)
        if json:
            texts = [text.decode("utf-8", "replace") for text in written.texts]
            speed = {"tokens_per_second": written.tokens_per_second, "run": str(run), "link": loaded.link}
            show_json(written._asdict() | {"texts": texts} | speed)
            return
        if shown is not None:
            shown.end()
        show_table(str(run), _speed(written, loaded.link))


def _prompts(prompt: str | None, file: Path | None) -> list[bytes]:
    if (prompt is None) == (file is None):
        raise UsageError("generate: give either --prompt TEXT or --prompt-file FILE")
    if prompt is not None:
        return [prompt.encode("utf-8", "surrogateescape")]
    assert file is not None
    if file.exists() and not file.is_file():
        raise UsageError(f"--prompt-file {file}: it is no regular file: give a file with one prompt per line")
    try:
        return [line for line in file.read_bytes().split(b"\n") if line]
    except OSError as error:
        raise UsageError(f"--prompt-file {file}: {error.strerror}: give a file with one prompt per line") from error


def _speed(written: "Written", link: str) -> list[tuple[str, str]]:
    sent, dense = written.bytes_per_token, written.dense_bytes_per_token
    rate = written.tokens_per_second
    return [
        ("link", link),
        ("texts", f"{len(written.texts):,}"),
        ("bytes of text per second", "" if rate is None else f"{rate:.1f}"),
        ("seconds to the first", f"{written.first_token_seconds:.3f}"),
        ("bytes between stages, per byte of text", f"{sent:,.0f}"),
        ("the same as float32", f"{dense:,.0f}" + (f" ({dense / sent:.1f}x)" if sent else "")),
    ]


class ShownText:
    r"""Prints bytes as text as they come: control characters are escaped, invalid UTF-8 is replaced.

    >>> shown = ShownText(b"")
    >>> for part in (b"a", bytes([27]), b"b", bytes([10])):
    ...     shown.add(part)
    a\x1bb
    """

    def __init__(self, prompt: bytes):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.add(prompt)

    def add(self, new: bytes) -> None:
        """Print what is complete."""
        self._print(self._decoder.decode(new))

    def end(self) -> None:
        """Print what is left, and end the line."""
        self._print(self._decoder.decode(b"", final=True) + "\n")

    def _print(self, text: str) -> None:
        print("".join(_visible(sign) for sign in text), end="", flush=True)


def _visible(sign: str) -> str:
    return sign if sign.isprintable() or sign in "\n\t" else sign.encode("unicode_escape").decode()
