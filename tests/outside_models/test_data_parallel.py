"""Models of others whose data-parallel gradients travel as spikes; the models are not changed."""

import functools

import pytest

from examples.outside_models import layouts
from examples.outside_models.measure import measure, reference, user_lines
from tests.support.packages import require

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of these packages

CASES = {
    "llama3": "tunix",
    "qwen3_moe": "tunix",
    "mamba2": "mamba2_jax",
    "vision_transformer": "vitax",
    "gpt2": "transformers",
    "nano_moe": "nano_moe",
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_as_spikes_train_a_model_of_others(name):
    require(CASES[name])
    original = reference(name)
    layout = functools.partial(layouts.data_parallel, original.loss, original.params)
    row = measure(name, layout, "ternary")
    assert row.loss_difference < 1e-6  # with floats, the mean over two halves of a batch is that of the batch
    assert row.gradient_difference < 1e-5
    assert row.last < 0.9 * row.first
    assert row.bytes < row.float_bytes / 8  # two bits of 32, and 4 bytes per array
    assert row.price.energy_j.high < row.float_price.energy_j.low


def test_a_user_writes_at_most_fifteen_lines():
    assert user_lines(layouts.functional, layouts.data_parallel) <= 15


def test_lines_are_counted_without_documentation():
    def function():
        """Say something.

        More.
        """
        # a remark

        return 1

    assert user_lines(function) == 1
