"""What a file of `Traffic.to_json` must hold: right types, bounded sizes, and numbers that fit together."""

from typing import Annotated, Any, Literal

from snap_jax.input_files.checked import (
    MOST_ITEMS,
    Checked,
    Field,
    Text,
    Whole,
    check,
    model_validator,
    parse_json,
)

_ADVICE = "give a file that Traffic.to_json or a training run wrote"
_MOST_DEVICES = 2**16  # of a group; more than any machine has, and few enough to price one by one

Device = Annotated[int, Field(ge=0, lt=_MOST_DEVICES)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]


class TransferRow(Checked):
    """A `Transfer`."""

    op: Literal["all_gather", "psum", "pmax", "pmin", "psum_scatter", "all_to_all", "pbroadcast", "ppermute"]
    axes: Annotated[tuple[Text, ...], Field(max_length=64)]
    group_size: Annotated[int, Field(ge=1, le=_MOST_DEVICES)]
    dtype: Text
    bytes: Whole
    times: Positive = 1
    path: Text = ""
    direction: Literal["forward", "backward"] = "forward"
    shape: Annotated[tuple[Whole, ...], Field(max_length=64)] = ()
    groups: Annotated[int, Field(ge=1, le=_MOST_DEVICES)] = 1
    pairs: Annotated[int, Field(ge=0, le=_MOST_DEVICES)] = 0
    perm: Annotated[tuple[tuple[Device, Device], ...], Field(max_length=_MOST_DEVICES)] = ()

    @model_validator(mode="after")
    def _fits(self) -> "TransferRow":
        if self.perm and len(self.perm) != self.pairs:
            raise ValueError(f"perm has {len(self.perm)} pairs, and pairs is {self.pairs}")
        if max((max(pair) for pair in self.perm), default=0) >= self.group_size:
            raise ValueError(f"perm names a device that a group of {self.group_size} has not")
        return self


class TrafficRows(Checked):
    """A `Traffic`."""

    transfers: Annotated[tuple[TransferRow, ...], Field(max_length=MOST_ITEMS)]
    choices: Annotated[tuple["ChoiceRow", ...], Field(max_length=MOST_ITEMS)]


class ChoiceRow(Checked):
    """A `Choice`."""

    path: Text
    branches: Annotated[tuple[TrafficRows, ...], Field(min_length=1, max_length=1024)]
    counted: Whole

    @model_validator(mode="after")
    def _fits(self) -> "ChoiceRow":
        if self.counted >= len(self.branches):
            raise ValueError(f"counted is {self.counted}, and there are {len(self.branches)} branches")
        return self


def read(text: str, where: str) -> dict[str, Any]:
    """Return the fields of a `Traffic` in a JSON text; `where` is the file, for messages.

    Raises:
      UsageError: names the file, the path of the first field that is wrong, and what it holds.
    """
    return check(TrafficRows, parse_json(text, where, _ADVICE), where, _ADVICE).model_dump()
