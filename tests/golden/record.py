"""Rewrites the table: `python -m tests.golden.record`, with JAX 0.10, where what is computed is meant to change."""

import jax

from tests.golden import cases, table


def main():
    jax.config.update("jax_num_cpu_devices", 8)
    found = {key: value for run in cases.SECTIONS.values() for key, value in run().items()}
    print("\n".join(table.differences(table.load(), found)) or "nothing changed")
    table.save(found)


if __name__ == "__main__":
    main()
