"""The commands `snap-jax eval` and `snap-jax generate`: read a run, use its model, print a table or JSON."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from snap_jax.parallel import processes
from snap_jax.training.atomic_io import to_json

Run = Annotated[Path, tyro.conf.Positional]


def evaluate(
    run: Run,
    data: str | None = None,
    split: Literal["heldout", "train"] = "heldout",
    batches: int | None = None,
    checkpoint: int | None = None,
    devices: int | None = None,
    link: str | None = None,
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
      json: Print one JSON object instead of a table.
    """
    from snap_jax.inference import held_out, trained_run

    with processes.ended_on_failure():
        processes.join_processes()
        loaded = trained_run.load(run, checkpoint=checkpoint, devices=devices, link=link)
        held = held_out.evaluate(loaded, data=data, split=split, batches=batches)
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
