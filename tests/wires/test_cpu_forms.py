"""What a CPU does in its own way: the other form returns the same, and only one of the two is in a program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from snap_jax import Rans
from snap_jax.wires import cpu_forms, rans_payload

SIZE, SYMBOLS = 4096, range(-3, 4)


def spikes(size=SIZE):
    return jnp.asarray(np.clip(np.round(np.random.default_rng(0).normal(size=size)), -3, 3), jnp.int8)


def elsewhere(monkeypatch):
    """Run the form of other platforms here."""
    monkeypatch.setattr(lax, "platform_dependent", lambda *args, cpu, default: default(*args))


def test_both_forms_of_placing_values(monkeypatch):
    """Some are left out, some lie past the end, and each place is taken once."""
    place = np.random.default_rng(0).permutation(60)[:40] - 20
    values, expected = np.arange(1, 41, dtype=np.uint16), np.zeros(30, np.uint16)
    inside = (place >= 0) & (place < 30)
    assert 0 < (place < 0).sum() < 40 - inside.sum()
    expected[place[inside]] = values[inside]
    args = jnp.asarray(values), jnp.asarray(place), 30
    np.testing.assert_array_equal(cpu_forms.placed(*args), expected)
    elsewhere(monkeypatch)
    np.testing.assert_array_equal(cpu_forms.placed(*args), expected)


def test_payloads_of_other_platforms_are_those_of_a_cpu(monkeypatch):
    here = there_and_back()
    elsewhere(monkeypatch)
    there = there_and_back()
    np.testing.assert_array_equal(here[0], there[0])
    np.testing.assert_array_equal(there[1], spikes())


def there_and_back():
    """The payload and the spikes of a program that is traced anew."""

    def run(s):
        book = Rans().book(SYMBOLS)
        payload = rans_payload.lay_out.__wrapped__(rans_payload.code.__wrapped__(s, book), s.shape, len(SYMBOLS), SIZE)
        return payload, rans_payload.read.__wrapped__(payload, s.shape, book)

    return jax.jit(run)(spikes())


def operations(platform):
    """How often each operation occurs in coding and decoding, as lowered for a platform."""

    def there_and_back(s):
        rung, draft = Rans().draft(s, SYMBOLS)
        return Rans().read(Rans().write_draft(draft, SYMBOLS, rung), s.shape, SYMBOLS, rung)

    lowered = export.export(jax.jit(there_and_back), platforms=[platform])(spikes()).mlir_module()
    return {name: lowered.count(f'stablehlo.{name}"') + lowered.count(f"stablehlo.{name}(") for name in NAMES}


NAMES = "scatter", "while", "sort"


@pytest.mark.parametrize(("platform", "scatters"), [("cuda", 1), ("tpu", 1), ("cpu", 3)])
def test_an_accelerator_scatters_only_the_words(platform, scatters):
    """The loops are those over the symbols of a lane, one to code and one to decode; a CPU also writes two tables."""
    assert operations(platform) == {"scatter": scatters, "while": 2, "sort": 0}
