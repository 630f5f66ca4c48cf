"""The exception for mistakes that the user can correct; its message says how."""

import contextlib
from collections.abc import Iterator


class UsageError(ValueError):
    """A request that cannot be met; the message names the value and the fix.

    Library code raises it like any `ValueError`. The command line prints it in one line and exits with code 2.

    >>> raise UsageError("devices=3 does not divide layers=4: use 1, 2 or 4 devices")
    Traceback (most recent call last):
    snap_jax.errors.UsageError: devices=3 does not divide layers=4: use 1, 2 or 4 devices
    """


@contextlib.contextmanager
def requires_extra(extra: str, user: str) -> Iterator[None]:
    """Import optional libraries inside this context: a missing one is named, with the extra that installs it.

    Args:
      extra: of `project.optional-dependencies`, such as `train`.
      user: the flag or function that needs the libraries.

    Raises:
      UsageError: a module is not installed.

    >>> with requires_extra("data", "--data digits"):
    ...     import a_module_that_is_missing
    Traceback (most recent call last):
    snap_jax.errors.UsageError: --data digits needs the module a_module_that_is_missing, which is not installed: ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "snap_jax"):
            raise
        fix = f"pip install 'snap-jax[{extra}]', or in a clone pip install '.[{extra}]'"
        raise UsageError(f"{user} needs the module {missing}, which is not installed: {fix}") from error


def printable(text: str) -> str:
    r"""Return a text that a terminal only shows: other control characters than line feeds and tabs as their escapes.

    >>> printable("runs/\x1b[31m")
    'runs/\\x1b[31m'
    """
    return "".join(sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in text)
