"""Budgets and rules of models as users write them: any order of attributes, errors inside of a loss."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import snap_jax as snap


class Network(nnx.Module):
    """Calls `second`, then `first`: the order of calls is not that of the names."""

    def __init__(self):
        self.second, self.first = nnx.Linear(8, 16, rngs=nnx.Rngs(0)), nnx.Linear(16, 16, rngs=nnx.Rngs(1))
        self.third = nnx.Linear(16, 1, rngs=nnx.Rngs(2))

    def __call__(self, x):
        return self.third(jnp.tanh(self.first(jnp.tanh(self.second(x)))))


RULES = [snap.Rule("second", "boundary", "count:7+rans"), snap.Rule("first", "boundary", "count:7+rans")]
X = jax.random.normal(jax.random.key(0), (64, 8))


def mean_square(model, x):
    return jnp.mean((model(x) - x[:, :1]) ** 2)


def test_each_boundary_is_moved_by_what_it_sends_itself():
    """One threshold is so large that nothing fires, at the boundary that is called last and named first."""
    placed = snap.place(Network(), RULES)
    placed.first.snap_hooks[0].crossing[0].log_threshold[...] = jnp.full(16, 5.0)
    _, seen = snap.budget(1.0).loss(mean_square)(placed, X, jnp.zeros(2))
    assert [float(one.measured) > 0.5 for one in seen] == [False, True]  # first, second: the order of the model


def test_an_error_inside_of_the_loss_leaves_the_model_as_it_was():
    placed = snap.place(Network(), RULES)

    def fails(model, x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        snap.budget(1.0).loss(fails)(placed, X, jnp.zeros(2))
    assert len(snap.placements(placed)) == 2


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda model, x: jnp.square(model(x)), r"the loss has shape \(64, 1\): return one number"),
        (lambda model, x: (mean_square(model, x), 1), "the loss has tuple: return one number"),
        (lambda model, x: mean_square(model, x) + mean_square(model, x), "first is called 2 times by the loss"),
    ],
)
def test_what_a_budget_cannot_use_is_named(loss, said):
    with pytest.raises(snap.UsageError, match=said):
        snap.budget(1.0).loss(loss)(snap.place(Network(), RULES), X, jnp.zeros(2))


def test_two_boundaries_after_one_module_are_refused():
    with pytest.raises(snap.UsageError, match="two rules put a boundary after first: leave one out"):
        snap.place(Network(), [*RULES, snap.Rule("first", "boundary", "int8")])


def test_stages_want_one_number_as_the_loss():
    model = nnx.Sequential(*[nnx.Linear(8, 8, rngs=nnx.Rngs(i)) for i in range(2)])
    with pytest.raises(snap.UsageError, match=r"split_stages: the loss has shape \(64, 8\): return one number"):
        snap.split_stages(model, lambda model, x: optax.l2_loss(model(x)), X, stages=2, blocks="layers.*")
