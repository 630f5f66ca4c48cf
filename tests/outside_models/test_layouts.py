"""Models of others over devices: with floats they compute what they did, with spikes they learn and send less."""

import functools

import pytest

from examples.outside_models import cases
from examples.outside_models.measure import measure, user_lines
from tests.support.packages import require

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of these packages

LAYOUTS = cases.all_layouts()
# At most this share of the bytes is left: 2 of 32 bits per gradient and a scale per array; 3 or 4 bits forward, 16 bits
# backward, and gradients of what all stages or devices hold, in floats.
SHARES = {"data": 1 / 8, "pipeline": 0.9, "tensor": 1 / 2, "expert": 1 / 2}
PAIRS = [(layout, name) for layout, (names, *_) in LAYOUTS.items() for name in names]


@pytest.mark.parametrize(("layout", "name"), PAIRS)
def test_a_model_of_others_in_a_layout(layout, name):
    require(cases.PACKAGES[name])
    _, program, lines, codec = LAYOUTS[layout]
    assert lines(name) <= 15
    row = measure(name, functools.partial(program, name), codec)
    assert row.loss_difference < 1e-6  # with floats: the mean over parts of a batch is that of the batch
    assert row.gradient_difference < 1e-5
    assert row.last < 0.8 * row.first
    assert row.bytes < SHARES[layout] * row.float_bytes
    assert row.joules.high < row.float_joules.low


def test_lines_are_counted_without_documentation():
    def function():
        """Say something.

        More.
        """
        # a remark

        return 1

    assert user_lines(function) == 1
