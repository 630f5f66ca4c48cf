"""The command line `snap-jax`. Each command imports what it needs when it runs, so `--help` answers at once."""

from snap_jax.cli.dispatch import main as main
