"""What the cost model says when it cannot know: a message that names what is missing, never a silent zero."""

from snap_jax.errors import UsageError


class CostError(UsageError):
    """A price that cannot be given; the message names the missing source or the mismatch, and the fix.

    >>> raise CostError("System has no axis 'pod'; it has ('die',)")
    Traceback (most recent call last):
    snap_jax.cost.errors.CostError: System has no axis 'pod'; it has ('die',)
    """
