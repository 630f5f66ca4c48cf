"""The one exception that means: the user can mend this, and the message says how."""


class UsageError(ValueError):
    """A request that cannot be met; the message names the value it got and the fix.

    Library code raises it like any `ValueError`; the command line prints it as one line and exits with code 2.

    >>> raise UsageError("chips=3 does not divide layers=4: use 1, 2 or 4 chips")
    Traceback (most recent call last):
    snap_jax.errors.UsageError: chips=3 does not divide layers=4: use 1, 2 or 4 chips
    """
