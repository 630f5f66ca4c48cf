"""What a `Config` puts between two dies: the codec, what is learned around it, and what makes it send less.

Law: without a budget there is nothing around the codec and nothing presses.
"""

from snap_jax.budget import Budget
from snap_jax.codecs import Codec
from snap_jax.config import Settings
from snap_jax.errors import UsageError
from snap_jax.innovation import Innovation
from snap_jax.specs import parse_link


def codec_of(config: Settings) -> Codec | None:
    """What leaves a chip forward; `None` for floats."""
    return parse_link(config.sent_link)


def around_of(config: Settings, features: int) -> Innovation | None:
    """The basis, mean and prediction that are learned around the codec of a boundary of so many features, in a budget.

    >>> from snap_jax.config import Config
    >>> around_of(Config(budget=1.0, init_from="runs/dense"), 64)
    Innovation(dims=24, taps=4, vocabulary=256, hidden=128, segments=1, pace=0.25)
    """
    if not config.budget:
        return None
    return Innovation(config.sent_dims(features), config.predicting, segments=config.segments)


def budget_of(config: Settings, context_bits: float) -> Budget | None:
    """The budget of each boundary: what the tokens that both sides hold, `context_bits` an element, leave of it.

    >>> from snap_jax.config import Config
    >>> budget_of(Config(budget=1.0, init_from="runs/dense"), 0.125).bits_per_element
    0.875

    Raises:
      UsageError: if they leave nothing.
    """
    if config.budget and config.budget <= context_bits:
        raise UsageError(
            f"budget={config.budget} does not pay for the tokens that both sides hold, {context_bits:.3g} bits an "
            "element: use a larger one, or --taps 0 and --segments 1"
        )
    return Budget(config.budget - context_bits) if config.budget else None
