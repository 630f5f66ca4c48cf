"""The exception for mistakes that the user can correct; its message says how."""


class UsageError(ValueError):
    """A request that cannot be met; the message names the value and the fix.

    Library code raises it like any `ValueError`. The command line prints it in one line and exits with code 2.

    >>> raise UsageError("devices=3 does not divide layers=4: use 1, 2 or 4 devices")
    Traceback (most recent call last):
    snap_jax.errors.UsageError: devices=3 does not divide layers=4: use 1, 2 or 4 devices
    """
