"""What a `LanguageConfig` puts between two dies: the codec, what is learned around it, and what makes it send less.

Law: without a budget there is nothing around the codec and nothing presses.
"""

from snap_jax.boundary.rate_control import RateController
from snap_jax.boundary.transforms import LearnedTransform
from snap_jax.codecs.codec import Codec
from snap_jax.codecs.link_spec import parse_link
from snap_jax.errors import UsageError
from snap_jax.training.config import Settings


def codec_of(config: Settings) -> Codec | None:
    """What leaves a chip forward; `None` for floats."""
    return parse_link(config.sent_link)


def transform_of(config: Settings, features: int) -> LearnedTransform | None:
    """The basis, mean and prediction that are learned around the codec of a boundary of so many features, in a budget.

    >>> from snap_jax.training.config import LanguageConfig
    >>> transform_of(LanguageConfig(budget=1.0, init_from="runs/dense"), 64)
    LearnedTransform(rank=24, context_tokens=4, vocabulary=256, hidden=128, token_groups=1, lr_multiplier=0.25)
    """
    if not config.budget:
        return None
    return LearnedTransform(config.sent_dims(features), config.predicting, token_groups=config.token_groups)


def budget_of(config: Settings, context_bits: float) -> RateController | None:
    """The budget of each boundary: what the tokens that both sides hold, `context_bits` an element, leave of it.

    >>> from snap_jax.training.config import LanguageConfig
    >>> budget_of(LanguageConfig(budget=1.0, init_from="runs/dense"), 0.125).bits_per_element
    0.875

    Raises:
      UsageError: if they leave nothing.
    """
    if config.budget and config.budget <= context_bits:
        raise UsageError(
            f"budget={config.budget} does not pay for the tokens that both sides hold, {context_bits:.3g} bits an "
            "element: use a larger one, or --context-tokens 0 and --token-groups 1"
        )
    return RateController(config.budget - context_bits) if config.budget else None
