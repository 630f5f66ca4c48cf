"""LearnedTransform: the usual chain, basis and mean, prediction, token groups, from one line."""

import dataclasses

from flax import nnx

from snap_jax.boundary.transforms.base import Transform, TransformChain
from snap_jax.boundary.transforms.basis import Basis
from snap_jax.boundary.transforms.prediction import Prediction
from snap_jax.boundary.transforms.token_groups import TokenGroups
from snap_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class LearnedTransform:
    """What is learned around a codec: `Basis`, then `Prediction` and `TokenGroups` if asked for.

    Attributes:
      rank: numbers sent per vector of features.
      context_tokens: how many of the latest tokens predict what is sent; 0 predicts nothing and needs no context.
      vocabulary: how many different tokens there are.
      hidden: width of the predictor.
      token_groups: groups of similar tokens, each with thresholds and frequency tables of its own; 1 leaves the order
        as it is and needs no context.
      lr_multiplier: how far an optimizer whose steps have one size (Adam) moves basis and mean, in its steps. The
        default was measured: `experiments.ablations`, `experiments.scaling`.

    Raises:
      UsageError: for a rank or token groups below 1, negative context tokens, or a multiplier that is not positive.

    >>> made = LearnedTransform(rank=3, context_tokens=1, token_groups=2)(8, rngs=nnx.Rngs(0))
    >>> [type(link).__name__ for link in made.links], made.channels, made.share
    (['Basis', 'Prediction', 'TokenGroups'], 6, 0.375)
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

    def __call__(self, features: int, *, rngs: nnx.Rngs) -> TransformChain:
        """Return the chain for vectors of so many features."""
        links: list[Transform] = [Basis(features, self.rank, self.lr_multiplier)]
        if self.context_tokens:
            links.append(Prediction(self.rank, self.context_tokens, self.vocabulary, self.hidden, rngs=rngs))
        if self.token_groups > 1:
            links.append(TokenGroups(self.rank, self.token_groups, self.vocabulary))
        return TransformChain(features, links)
