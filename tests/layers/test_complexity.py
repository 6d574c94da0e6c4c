"""Complexity: layers, parameters, multiply-adds and output maps, also of nested networks and of one's own layers."""

import jax
import jax.numpy as jnp
import pytest

import fnn


def test_the_published_3_4_2_network():
    size = fnn.summary(fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2)), (3,))
    assert (size.layers, size.parameters, size.multiply_adds) == (2, 26, 20)
    assert size.output_maps == 4 + 4 + 2
    assert [(r.name, r.out_shape, r.parameters, r.multiply_adds) for r in size.rows] == [
        ("dense(4)", (4,), 16, 12),
        ("relu", (4,), 0, 0),
        ("dense(2)", (2,), 10, 8),
    ]


def test_nested_networks_are_counted_layer_by_layer():
    block = fnn.residual(fnn.dense(5), fnn.tanh, fnn.dense(4, bias=False))
    size = fnn.summary(fnn.serial(fnn.dense(4), fnn.repeat(fnn.serial(block, fnn.prelu()), 3)), (6,))
    assert size.layers == 1 + 3 * 2  # those with products: a prelu is none
    assert size.parameters == 28 + 3 * (25 + 20 + 4)
    assert size.multiply_adds == 24 + 3 * (20 + 20)
    assert size.output_maps == 4 + 3 * (5 + 5 + 4 + 4)
    assert [row.name for row in size.rows[1:6]] == [
        "0: dense(5)",
        "0: tanh",
        "0: dense(4, bias=False)",
        "0: prelu()",
        "1: dense(5)",
    ]


def test_parameters_are_those_that_init_makes():
    net = fnn.serial(fnn.dense(7), fnn.repeat(fnn.residual(fnn.dense(7), fnn.prelu()), 2), fnn.dense(3))
    params = net.init(jax.random.key(0), (5,))[0]
    assert fnn.summary(net, (5,)).parameters == sum(a.size for a in jax.tree.leaves(params))


def own(key, in_shape):
    return {"u": jnp.ones((*in_shape, 6)), "v": jnp.ones((6, 2))}, (), (2,)


def test_matrix_products_in_ones_own_layer_are_counted():
    layer = fnn.Layer("low_rank", own, lambda p, s, x, k, t: (x @ p["u"] @ p["v"], s, x), None)
    size = fnn.summary(fnn.serial(layer), (10,))
    assert (size.parameters, size.multiply_adds, size.rows[0].name) == (72, 10 * 6 + 6 * 2, "low_rank")


def test_products_in_jitted_looped_and_lifted_functions_are_counted():
    w = jnp.ones((8, 8))

    def looped(x):
        return jax.lax.scan(lambda y, _: (jnp.tanh(y @ w), None), x, None, length=5)[0]

    assert fnn.summary(looped, (8,)).multiply_adds == 5 * 64
    assert fnn.summary(fnn.serial(jax.jit(lambda x: x @ w)), (8,)).multiply_adds == 64
    assert fnn.summary(lambda x: jnp.einsum("bi,bj,ij->b", x, x, w)[:, None], (8,)).multiply_adds >= 64


@pytest.mark.parametrize(
    "layer, in_shape, adds",
    [
        (fnn.conv1d(6, 3, 2, groups=2), (9, 4), 5 * 3 * 2 * 6),
        (fnn.conv_transpose2d(6, (2, 3), 2, groups=2), (4, 5, 4), 4 * 5 * 2 * 3 * 3 * 4),
        (fnn.embedding(100, 4), (3,), 0),
        (fnn.upsample(), (4, 5, 4), 0),
    ],
    ids=str,
)
def test_by_its_kind_and_by_its_products_a_layer_counts_alike(layer, in_shape, adds):
    """As a layer of one's own: its products are found in its forward pass."""
    own_layer = fnn.Layer("own", layer.init, layer.forward, layer.backward)
    by_kind, by_products = (fnn.summary(one, in_shape) for one in (layer, own_layer))
    assert by_kind.multiply_adds == by_products.multiply_adds == adds
    assert by_kind.output_maps == by_products.output_maps


def test_multiply_adds_are_half_the_operations_that_xla_counts():
    net = fnn.serial(fnn.dense(512), fnn.relu, fnn.dense(512), fnn.relu, fnn.dense(10))
    params, state, _ = net.init(jax.random.key(0), (784,))
    forward = jax.jit(lambda p, x: net.forward(p, state, x, None, False)[0])
    analysis = forward.lower(params, jnp.ones((32, 784))).cost_analysis()
    multiply_adds = fnn.summary(net, (784,)).multiply_adds
    assert multiply_adds == 784 * 512 + 512 * 512 + 512 * 10
    if analysis is None:
        pytest.skip("XLA counts nothing for a GPU before it has compiled")
    assert 2 * 32 * multiply_adds == pytest.approx(analysis["flops"], rel=0.02)


def test_nothing_is_drawn_or_computed():
    size = fnn.summary(fnn.serial(fnn.dense(10**6), fnn.dense(10**6)), (10**6,))
    assert size.multiply_adds == 2 * 10**12 and size.parameters == 2 * (10**12 + 10**6)


def test_it_prints_as_a_table():
    size = fnn.summary(fnn.serial(fnn.dense(1000), fnn.relu, fnn.dense(2)), (3,))
    assert str(size) == repr(size)
    assert str(size).splitlines()[-1].split() == ["2", "layers", "2,002", "numbers", "6,002", "5,000"]


def test_flops_and_bytes():
    size = fnn.summary(fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2)), (3,))
    assert size.forward_flops == 2 * 20
    assert size.training_flops == 2 * (20 + 20 + 8)  # by the inputs of the second layer alone
    assert size.output_map_bytes(2) == 2 * (4 + 4 + 2)


def test_layers_that_do_not_fit_raise():
    with pytest.raises(fnn.ShapeError, match=r"dense\(3\): expected examples of shape"):
        fnn.summary(fnn.serial(fnn.dense(3)), (28, 28))


# ---- layers in layers


INNER = fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2))


@fnn.factory
def twice(layer):
    return fnn.serial(layer, layer)


@fnn.factory
def named(layer, note="unsaid"):
    return fnn.Layer(None, layer.init, layer.forward, layer.backward)


@fnn.factory(children=lambda first, second: [second, first])
def swapped(first, second):
    return fnn.serial(second, first)._replace(spec=None)


def counts(net, shape):
    size = fnn.summary(net, shape)
    return (size.layers, size.parameters, size.multiply_adds, size.training_flops, size.output_maps)


def test_a_wrapped_network_counts_as_the_network():
    large = fnn.serial(fnn.dense(64), fnn.relu, fnn.dense(64), fnn.relu, fnn.dense(10))
    for net, shape in ((INNER, (3,)), (large, (30,))):
        for wrapped in (fnn.mixed_precision(net), named(net), fnn.mixed_precision(named(fnn.mixed_precision(net)))):
            assert counts(wrapped, shape) == counts(net, shape)
            assert [row.name for row in fnn.summary(wrapped, shape).rows] == [str(s) for s in net.spec.children]


def test_a_factory_of_ones_own_is_counted_by_what_it_made_or_says():
    assert counts(twice(fnn.dense(3)), (3,)) == counts(fnn.serial(fnn.dense(3), fnn.dense(3)), (3,))
    got = fnn.summary(swapped(fnn.dense(2), fnn.dense(4)), (3,))
    assert [(row.name, row.multiply_adds) for row in got.rows] == [("dense(4)", 12), ("dense(2)", 8)]
    deep = fnn.summary(fnn.repeat(fnn.mixed_precision(fnn.dense(3)), 2), (3,))
    assert [row.name for row in deep.rows] == ["0: dense(3)", "1: dense(3)"]


@fnn.factory
def applied_thrice(layer):
    def forward(params, state, x, key, train):
        for _ in range(3):
            x = layer.forward(params, state, x, key, train)[0]
        return x, state, x

    return fnn.Layer(None, layer.init, forward, layer.backward)


def test_a_layer_used_otherwise_than_once_is_counted_by_its_products():
    """Also products of a few weights, which a CPU writes as multiply and sum."""
    for width in (3, 30):
        size = fnn.summary(applied_thrice(fnn.dense(width)), (width,))
        assert (size.multiply_adds, size.layers, len(size.rows)) == (3 * width**2, 1, 1)


def test_of_the_branches_of_a_cond_the_largest_counts():
    w, v = jnp.ones((8, 8)), jnp.ones((8, 2))
    one = lambda x: jax.lax.cond(x.sum() > 0, lambda x: x @ w @ w, lambda x: x @ v @ v.T, x)  # noqa: E731
    assert fnn.summary(one, (8,)).multiply_adds == 2 * 64
    many = lambda x: jax.lax.switch(1, [lambda x: x, lambda x: x @ w], x)  # noqa: E731
    assert fnn.summary(many, (8,)).multiply_adds == 64
