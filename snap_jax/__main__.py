"""`python -m snap_jax` is `snap-jax`."""

from snap_jax.cli import main

if __name__ == "__main__":
    main()
