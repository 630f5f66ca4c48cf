"""LearnedTransform: only what the receiver cannot work out by itself needs to cross.

Law: `restore(prepare(x))` is `x` as long as nothing is lost in between and both ends are as they were made: a change to
an orthonormal basis and back. Both ends then learn apart, each on its own chip; nothing of them crosses.

Sender:   `z = (x - mean) A - P(context)`, `A` `[features, dims]`.
Receiver: `y = (z' + P'(context)) B + mean'`, `B` `[dims, features]`, where `z'` is what arrived.

The whole stream goes through basis and mean, and a step of these moves everything behind them; so they learn at a pace
of their own, slower than the layers (`ScaledParam`).

`context` is what both sides hold anyway, or what is sent to both and counted: token ids for a language model.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from snap_jax.boundary.token_groups import Order
from snap_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class LearnedTransform:
    """What is learned around a codec.

    Attributes:
      rank: numbers sent for each vector of features.
      context_tokens: how many of the latest tokens predict what is sent; 0 predicts nothing and needs no context.
      vocabulary: how many tokens there are.
      hidden: width of the predictor.
      token_groups: parts of a tensor whose tokens are alike, each with thresholds and tables of its own (`ordering`); 1
        leaves the order as it is and needs no context.
      lr_multiplier: how far an optimizer whose steps are of one size (Adam) moves basis and mean, in its steps. The
      default
        was measured: `experiments.ablations`, `experiments.scaling`.

    Raises:
      UsageError: for dims or segments below 1, negative taps, a pace that is not positive.
    """

    rank: int
    context_tokens: int = 0
    vocabulary: int = 256
    hidden: int = 128
    token_groups: int = 1
    lr_multiplier: float = 0.25

    def __post_init__(self):
        if self.rank < 1 or self.context_tokens < 0 or self.token_groups < 1 or not self.lr_multiplier > 0:
            raise UsageError(
                f"LearnedTransform: rank={self.rank}, context_tokens={self.context_tokens}, "
                f"token_groups={self.token_groups}, lr_multiplier={self.lr_multiplier}: "
                "use rank and token_groups of 1 or more, context_tokens >= 0, and lr_multiplier above 0"
            )


class ScaledParam(nnx.Module):
    """An array that is learned as `value / pace`: a step of the optimizer changes it by `lr_multiplier` times as much.

    >>> mean = ScaledParam(jnp.zeros(2), lr_multiplier=0.25)
    >>> mean.learned[...] = mean.learned[...] + 0.5
    >>> mean.value.tolist()
    [0.125, 0.125]
    """

    def __init__(self, value: Float[Array, "..."], lr_multiplier: float):
        self.lr_multiplier = lr_multiplier
        self.learned = nnx.Param(value / lr_multiplier)

    @property
    def value(self) -> Float[Array, "..."]:
        """As it is applied."""
        return self.lr_multiplier * self.learned[...]

    def set(self, value: Float[Array, "..."]) -> None:
        """Puts another in its place."""
        self.learned[...] = value / self.lr_multiplier


class Predictor(nnx.Module):
    """`P(tokens) = relu(sum_j E_j[token_{t-j}] + b) W`: the latest `context_tokens` tokens, one look-up each.

    W starts at zero.

    >>> Predictor(LearnedTransform(rank=3, context_tokens=2), rngs=nnx.Rngs(0))(jnp.zeros((1, 5), jnp.int32)).shape
    (1, 5, 3)
    """

    def __init__(self, size: LearnedTransform, *, rngs: nnx.Rngs):
        table = (size.context_tokens, size.vocabulary, size.hidden)
        self.embeddings = nnx.Param(jax.random.normal(rngs.params(), table) / size.context_tokens**0.5)
        self.bias = nnx.Param(jnp.zeros(size.hidden))
        self.output = nnx.Param(jnp.zeros((size.hidden, size.rank)))

    def __call__(self, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time dims"]:
        """What is to be expected at each token."""
        tables = self.embeddings[...]
        held = sum(tables[lag][_delayed(tokens, lag)] for lag in range(len(tables)))
        return jax.nn.relu(held + self.bias[...]) @ self.output[...]


def _delayed(tokens: Int[Array, "batch time"], lag: int) -> Int[Array, "batch time"]:
    return jnp.pad(tokens, ((0, 0), (lag, 0)))[:, : tokens.shape[1]]


class Sender(nnx.Module):
    """`z = (x - mean) A - P(context)`."""

    def __init__(self, features: int, size: LearnedTransform, *, rngs: nnx.Rngs):
        self.mean = ScaledParam(jnp.zeros(features), size.lr_multiplier)
        self.basis = ScaledParam(orthonormal(features, size.rank), size.lr_multiplier)
        if size.context_tokens:
            self.predictor = Predictor(size, rngs=rngs)
        self.order = Order(size.token_groups, size.vocabulary) if size.token_groups > 1 else None
        self.predicts = size.context_tokens > 0

    def arrange(self, z: Float[Array, "... dims"], context: Array | None = None) -> Float[Array, "... wide"]:
        """What is to be sent, in the order in which it crosses."""
        return z if self.order is None else self.order.arrange(z, _needed(context))

    def undo(self, rows: Num[Array, "... wide"], context: Array | None = None) -> Num[Array, "... dims"]:
        """What was arranged, in the order of the tokens."""
        return rows if self.order is None else self.order.undo(rows, _needed(context))

    def __call__(self, x: Float[Array, "... features"], context: Array | None = None) -> Float[Array, "... dims"]:
        """What is to be sent of `x`."""
        z = (x - self.mean.value) @ self.basis.value
        return z - self.predictor(_needed(context)) if self.predicts else z


class Receiver(nnx.Module):
    """`y = (z + P(context)) B + mean`."""

    def __init__(self, features: int, size: LearnedTransform, *, rngs: nnx.Rngs):
        self.mean = ScaledParam(jnp.zeros(features), size.lr_multiplier)
        self.basis = ScaledParam(orthonormal(features, size.rank).T, size.lr_multiplier)
        if size.context_tokens:
            self.predictor = Predictor(size, rngs=rngs)
        self.order = Order(size.token_groups, size.vocabulary) if size.token_groups > 1 else None
        self.predicts = size.context_tokens > 0

    def undo(self, rows: Float[Array, "... wide"], context: Array | None = None) -> Float[Array, "... dims"]:
        """What arrived, in the order of the tokens."""
        return rows if self.order is None else self.order.undo(rows, _needed(context))

    def __call__(self, z: Float[Array, "... dims"], context: Array | None = None) -> Float[Array, "... features"]:
        """What stands for the tensor of which `z` arrived."""
        z = z + self.predictor(_needed(context)) if self.predicts else z
        return z @ self.basis.value + self.mean.value


def orthonormal(features: int, rank: int) -> Float[Array, "features dims"]:
    """Orthonormal columns: the identity where `dims == features`, else the slowest cosines (DCT-II).

    >>> basis = orthonormal(8, 3)
    >>> bool(jnp.allclose(basis.T @ basis, jnp.eye(3), atol=1e-6))
    True

    Raises:
      UsageError: for more columns than rows.
    """
    if rank > features:
        raise UsageError(f"orthonormal: rank={rank} of {features} features: use at most as many")
    if rank == features:
        return jnp.eye(features)
    place, wave = jnp.arange(features)[:, None] + 0.5, jnp.arange(rank)
    waves = jnp.cos(jnp.pi * place * wave / features) * (2 / features) ** 0.5
    return waves.at[:, 0].multiply(0.5**0.5)


def _needed(context: Array | None) -> Array:
    if context is None:
        raise UsageError(
            "Boundary: predictor and order were given no context: pass context=tokens, "
            "or use context_tokens=0, token_groups=1"
        )
    return context
