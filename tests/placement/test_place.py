"""Rules on models that know nothing of this library: what they change, what they leave, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import snap_jax as snap
from snap_jax._compat import as_varying
from snap_jax.parallel.mesh import auto_mesh
from snap_jax.placement.hooks import hooks_of
from tests.support.small_models import run

WIDTH = 8
Rule = snap.Rule


class Block(nnx.Module):
    """Attention and a gated MLP, with biases, as anybody writes them."""

    def __init__(self, *, rngs):
        linear = lambda i, o: nnx.Linear(i, o, rngs=rngs, bias_init=nnx.initializers.normal(1.0))
        self.gate, self.up, self.down = linear(WIDTH, 16), linear(WIDTH, 16), linear(16, WIDTH)
        self.attention = nnx.MultiHeadAttention(
            4, WIDTH, decode=False, rngs=rngs, bias_init=nnx.initializers.normal(1.0)
        )

    def __call__(self, x):
        x = x + self.attention(x)
        return x + self.down(nnx.silu(self.gate(x)) * self.up(x))


class Model(nnx.Module):
    def __init__(self, *, rngs):
        self.layers = nnx.List([Block(rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(WIDTH, 4, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def tensor_rules(codec, axis="tp"):
    return [
        Rule("layers.*.attention.[qkv]*", "column", axis=axis),
        Rule("layers.*.attention.out", "row", codec, axis=axis),
        Rule("layers.*.attention", "divide", axis=axis, attributes=("num_heads",)),
        Rule("layers.*.gate", "column", axis=axis),
        Rule("layers.*.up", "column", axis=axis),
        Rule("layers.*.down", "row", codec, axis=axis),
        Rule("head", "column", axis=axis),
        Rule("head", "all_gather", codec, axis=axis),
    ]


@pytest.fixture(scope="module")
def model():
    return Model(rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(1), (2, 3, WIDTH))


def loss(model, x):
    return jnp.mean(jnp.sin(0.05 * model(x)))


def test_unplace_gives_back_the_very_model(model, x):
    placed = snap.place(model, [*tensor_rules("count:3"), Rule("layers.0", "boundary", "count:3")], sample=(x,))
    back = snap.unplace(placed)
    assert nnx.graphdef(back) == nnx.graphdef(model)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(back), nnx.state(model))
    own = nnx.state(placed, nnx.All(nnx.Param, nnx.Not(snap.Threshold)))
    assert nnx.to_flat_state(own).paths == nnx.to_flat_state(nnx.state(model, nnx.Param)).paths
    assert isinstance(placed.layers[0], Block)


def test_codec_none_over_devices_is_the_original_in_value_and_gradient(model, x):
    """Each bias is added once, and each gradient is summed once."""
    placed = snap.place(model, tensor_rules(None))
    graph, params = nnx.split(placed)
    specs = snap.place_specs(placed)
    assert specs["layers"][0]["attention"]["query"]["kernel"].get_value() == P(None, "tp")
    assert specs["layers"][0]["down"]["bias"].get_value() == P()
    on_mesh = jax.shard_map(
        lambda params, x: loss(nnx.merge(graph, params), x),
        mesh=auto_mesh({"tp": 2}),
        in_specs=(specs, P()),
        out_specs=P(),
    )
    value, gradient = run(jax.value_and_grad(on_mesh), params, x)
    whole, true = run(
        jax.value_and_grad(lambda params, x: loss(nnx.merge(nnx.graphdef(model), params), x)), nnx.state(model), x
    )
    assert float(value) == pytest.approx(float(whole), abs=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, true)


def test_coded_sums_are_sums_of_what_codecs_quantize(x):
    """One layer: `sum over devices of quantize(x_i W_i)`, and then the bias, once."""
    layer = nnx.Dict(down=nnx.Linear(WIDTH, 4, bias_init=nnx.initializers.ones, rngs=nnx.Rngs(0)))
    placed = snap.place(layer, [Rule("down", "row", "count:3", axis="tp")])
    graph, params = nnx.split(placed)
    on_mesh = jax.shard_map(
        lambda params, x: nnx.merge(graph, params).down(x),
        mesh=auto_mesh({"tp": 2}),
        in_specs=(snap.place_specs(placed), P(None, None, "tp")),
        out_specs=P(),
    )
    kernel, half = layer.down.kernel[...], WIDTH // 2
    codec = hooks_of(placed.down)[0].link.codec
    parts = [codec.quantize(x[..., s] @ kernel[s]) for s in (slice(half), slice(half, WIDTH))]
    np.testing.assert_allclose(run(on_mesh, params, x), parts[0] + parts[1] + 1, atol=1e-6)
    snap.assert_no_float_collectives(on_mesh, params, x)
    np.testing.assert_allclose(placed.down(x), codec.quantize(x @ kernel) + 1, atol=1e-6)


@pytest.mark.parametrize("role", ["row", "column"])
def test_layers_that_are_whole_on_each_device_are_refused(role, x):
    """Without `place_specs`, a sum over two devices would be twice the product."""
    placed = snap.place(nnx.Dict(down=nnx.Linear(WIDTH, 4, rngs=nnx.Rngs(0))), [Rule("down", role, axis="tp")])
    graph, params = nnx.split(placed)
    local = lambda params, x: nnx.merge(graph, params).down(x)
    whole = jax.shard_map(local, mesh=auto_mesh({"tp": 2}), in_specs=P(), out_specs=P())
    said = r"each device of axis 'tp' holds all of Linear.(kernel|bias).*snap.place_specs"
    with pytest.raises(snap.UsageError, match=said):
        run(whole, params, x)


def test_a_boundary_quantizes_on_one_device_and_learns(model, x):
    placed = snap.place(model, [Rule("layers.0", "boundary", "count:3")], sample=(x,))
    hidden = placed.layers[0].snap_hooks[0].crossing[0].codec.quantize(model.layers[0](x))
    np.testing.assert_allclose(placed(x), model.head(model.layers[1](hidden)), atol=1e-6)
    gradient = nnx.grad(loss)(placed, x)
    assert float(jnp.abs(gradient["layers"][0]["snap_hooks"][0]["crossing"][0]["log_threshold"][...]).max()) > 0


class Experts(nnx.Module):
    """Each expert is a matrix: `[experts, capacity, width]` -> the same."""

    def __init__(self, *, rngs):
        self.w = nnx.Param(jax.random.normal(rngs.params(), (4, WIDTH, WIDTH)))

    def __call__(self, x):
        return jnp.einsum("ecd,edf->ecf", x, self.w[...])


@pytest.mark.parametrize("codec", [None, "count:7"])
def test_experts_are_exchanged_there_and_back(codec):
    """Tokens are divided over devices along the capacity; each device has two of four experts."""
    experts, x = nnx.Dict(experts=Experts(rngs=nnx.Rngs(0))), jax.random.normal(jax.random.key(2), (4, 6, WIDTH))
    placed = snap.place(experts, [Rule("experts", "all_to_all", codec, axis="ep", features=WIDTH)])
    graph, params = nnx.split(placed)
    on_mesh = jax.shard_map(
        lambda params, x: nnx.merge(graph, params).experts(x),
        mesh=auto_mesh({"ep": 2}),
        in_specs=(snap.place_specs(placed), P(None, "ep")),
        out_specs=P(None, "ep"),
    )
    np.testing.assert_allclose(run(on_mesh, params, x), placed.experts(x), atol=1e-5)


def test_gradients_of_rules_are_averaged_and_others_are_not(model):
    """Two replicas with gradients 1 and 3: the mean, 2, is a multiple of the step of ternary spikes or exact."""
    placed = snap.place(
        model, [Rule("layers.0", "gradients", "count:7", axis="dp"), Rule("head", "gradients", axis="dp")]
    )
    params, rule = nnx.state(placed, nnx.Param), snap.average_gradients(placed)

    def local(params):
        replica = jax.lax.axis_index("dp").astype(jnp.float32)
        gradients = jax.tree.map(lambda p: jnp.full_like(p, 1.0) + 2 * replica, params)
        averaged, _ = rule.update(gradients, rule.init(params), params)
        return jax.tree.map(lambda g: as_varying(g, ("dp",))[None], averaged)

    means = run(jax.shard_map(local, mesh=auto_mesh({"dp": 2}), in_specs=P(), out_specs=P("dp")), params)
    np.testing.assert_allclose(means["head"]["kernel"], 2.0)
    np.testing.assert_allclose(means["layers"][0]["gate"]["kernel"], 2.0, rtol=0.3)
    assert means["layers"][1]["gate"]["kernel"][:, 0, 0].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [Rule("layer.*.down", "boundary")],
            r"no module has the path 'layer\.\*\.down'; the nearest are layers\.\d\.down",
        ),
        ([Rule("layers.0", "boundary", "count:3")], r"a Block, does not say the size .* give place\(\.\.\., sample="),
        ([Rule("layers.0.attention", "column", axis="tp")], r"give Rule\(\.\.\., split="),
    ],
)
def test_rules_that_cannot_be_followed_are_named(model, rules, message):
    with pytest.raises(snap.UsageError, match=message):
        snap.place(model, rules)


def test_roles_say_what_they_need():
    with pytest.raises(snap.UsageError, match="role 'reduce': use one of boundary, column"):
        Rule("a", "reduce")
    with pytest.raises(snap.UsageError, match=r"needs attributes=, such as \('num_heads',\)"):
        Rule("a", "divide", axis="tp")
    with pytest.raises(snap.UsageError, match="no rule has the role 'gradients'"):
        snap.average_gradients(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))


def test_what_matched_is_a_table(model):
    table = str(snap.placements(snap.place(model, tensor_rules("count:3"))))
    assert table.splitlines()[0].split() == ["path", "role", "codec", "axis"]
    assert "layers.1.down" in table
    assert "count:3+packed" in table


def test_an_optimizer_with_a_mask_trains_a_placed_model(model, x):
    placed = snap.place(model, [Rule("layers.0", "boundary", "count:3")], sample=(x,))
    mask = snap.decay_mask(nnx.state(placed, nnx.Param))
    optimizer = nnx.Optimizer(placed, optax.adamw(1e-2, mask=mask), wrt=nnx.Param)
    before = loss(placed, x)
    for _ in range(3):
        optimizer.update(placed, nnx.grad(loss)(placed, x))
    assert loss(placed, x) < before
