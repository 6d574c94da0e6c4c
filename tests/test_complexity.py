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


def test_multiply_adds_are_half_the_operations_that_xla_counts():
    net = fnn.serial(fnn.dense(512), fnn.relu, fnn.dense(512), fnn.relu, fnn.dense(10))
    params, state, _ = net.init(jax.random.key(0), (784,))
    forward = jax.jit(lambda p, x: net.forward(p, state, x, None, False)[0])
    analysis = forward.lower(params, jnp.ones((32, 784))).cost_analysis()
    multiply_adds = fnn.summary(net, (784,)).multiply_adds
    assert multiply_adds == 784 * 512 + 512 * 512 + 512 * 10
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
