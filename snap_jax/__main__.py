"""`python -m snap_jax` is `snap-jax`."""

import sys

from snap_jax.errors import UsageError, requires_extra

_EXTRAS = ("train", "report", "cost")


def main() -> None:
    """Run the command line, or say which extra it needs."""
    command = next((word for word in sys.argv[1:2] if word in _EXTRAS), None)
    try:
        with requires_extra(command or "train", f"snap-jax {command}" if command else "snap-jax"):
            from snap_jax import cli
    except UsageError as error:
        print(f"snap-jax: {error}", file=sys.stderr)
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
