"""Rate penalties by name: fixed weights, as an alternative to a budget that is met by feedback."""

from snap_jax.boundary.rate_penalties import L1, Penalty, RaiseThreshold, RatePenalty, TargetRate
from snap_jax.errors import UsageError

NAMES = "bits:WEIGHT, spikes:WEIGHT, rate:TARGET, threshold:WEIGHT"
_RATE_WEIGHT = 10.0  # of the squared distance from a target rate, nats


def parse_penalty(spec: str) -> RatePenalty:
    """Return the rate penalty that a spec names.

    `bits:W` adds `W` nats for each bit per element, `spikes:W` for each spike per element (L1). `rate:R` adds
    `10 (rate - R)^2` for the firing rate. `threshold:W` subtracts `W` times the mean log threshold.

    >>> parse_penalty("bits:0.1")
    Penalty(weight=0.1)
    >>> parse_penalty("rate:0.3")
    TargetRate(target=0.3, weight=10.0)

    Raises:
      UsageError: for a name that is not known, or a value that is not a positive number.
    """
    name, _, text = spec.partition(":")
    value = float(text) if text.replace(".", "", 1).isdigit() else 0.0
    weighted = {"bits": Penalty, "spikes": L1, "threshold": RaiseThreshold}
    if value > 0 and name == "rate":
        return TargetRate(value, _RATE_WEIGHT)
    if value > 0 and name in weighted:
        return weighted[name](value)
    raise UsageError(f"--penalty {spec}: use one of {NAMES}, with a number above 0, such as bits:0.03")
