"""Rules: which modules of a model get which part in what crosses between devices."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from snap_jax.boundary.transforms import TransformMaker
from snap_jax.codecs.codec import Codec
from snap_jax.errors import UsageError

Role = Literal["boundary", "column", "row", "divide", "all_gather", "all_to_all", "gradients"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What modules at a path do with what crosses between devices.

    Roles:
      boundary: the output leaves the device. On one device the codec quantizes it; `split_stages` sends it.
      column: a layer whose outputs the devices of `axis` share. The cotangent of its input is summed over them.
      row: a layer whose inputs they share. Partial results leave by a coded `psum`; a bias is added once, after it.
      divide: `attributes` such as a number of heads are those of one device while the module runs over `axis`.
      all_gather: the output is concatenated along its last axis.
      all_to_all: experts, called with `[experts, capacity, features]`, of which each device has some: inputs are
        exchanged before the module, and outputs after it.
      gradients: gradients of the parameters below are averaged over `axis`, see `average_gradients`.

    Attributes:
      path: of modules, e.g. `"layers.*.mlp.down"`: `*` is within one name, `**` any number of names.
      role: one of those above.
      codec: how what leaves is sent, e.g. `"count:3"`; None sends floats.
      axis: mesh axis; every role but `boundary` needs one.
      grad_codec: how cotangents are sent; None sends floats.
      output: of a module that returns a tuple or a dict, the place or key of what is coded; None for every array of
        floats.
      split: parameter of the module -> the dimension along which it is divided. Known for `nnx.Linear`,
        `nnx.LinearGeneral`, `nnx.Conv` and layers with a `kernel` of two dimensions.
      attributes: names of integers, or tuples that begin with one, for the role `divide`.
      features: size of the last axis of the output, where neither the layer says it nor a sample was given.
      transform: what is learned around the codec, for the role `boundary`.

    Raises:
      UsageError: for a role that is not known, and for one that lacks an axis or attributes.

    >>> Rule("layers.*.mlp.down", "row", "count:3")
    Traceback (most recent call last):
    snap_jax.errors.UsageError: Rule 'layers.*.mlp.down': role 'row' needs a mesh axis: give it axis=
    """

    path: str
    role: str
    codec: Codec | str | None = None
    axis: str | None = dataclasses.field(default=None, kw_only=True)
    grad_codec: Codec | str | None = dataclasses.field(default=None, kw_only=True)
    output: int | str | None = dataclasses.field(default=None, kw_only=True)
    split: Mapping[str, int] | None = dataclasses.field(default=None, kw_only=True)
    attributes: Sequence[str] = dataclasses.field(default=(), kw_only=True)
    features: int | None = dataclasses.field(default=None, kw_only=True)
    transform: TransformMaker | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        if self.role not in get_args(Role):
            raise UsageError(f"{self.where}: role {self.role!r}: use one of {', '.join(get_args(Role))}")
        if self.axis is None and self.role != "boundary":
            raise UsageError(f"{self.where}: role {self.role!r} needs a mesh axis: give it axis=")
        if self.role == "divide" and not self.attributes:
            raise UsageError(f"{self.where}: role 'divide' needs attributes=, such as ('num_heads',)")

    @property
    def where(self) -> str:
        """Name this rule in an error."""
        return f"Rule {self.path!r}"
