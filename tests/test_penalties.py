"""Penalties: value and derivative against NumPy, weights but not biases, and what raises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import PENALTIES, close, normwise

import fnn

every_penalty = pytest.mark.parametrize("case", PENALTIES, ids=lambda case: str(case.penalty))


def parameters():
    rng = np.random.default_rng(0)
    w, v, a = rng.normal(size=(3, 2)), rng.normal(size=(2, 4)), rng.normal(size=4)
    w[0, 0] = 0.0
    return ({"w": w, "b": rng.normal(size=2)}, (), ({"w": v}, {"a": a})), (w, v, a)


@every_penalty
def test_value_and_derivative_equal_numpy_over_all_weights_and_no_bias(case, x64):
    params, weights = parameters()
    params = jax.tree.map(jnp.asarray, params)
    close(case.penalty(params), sum(map(case.value, weights)))
    close(case.penalty.value(params), sum(map(case.value, weights)))
    w, v, a = map(case.derivative, weights)
    expected = ({"w": w, "b": np.zeros(2)}, (), ({"w": v}, {"a": a}))
    assert normwise(case.penalty.grad(params), expected) < 1e-12


@every_penalty
def test_derivative_equals_autodiff_away_from_0(case, x64):
    params = jax.tree.map(lambda a: jnp.asarray(a) + 10.0, parameters()[0])
    assert normwise(case.penalty.grad(params), jax.grad(case.penalty.value)(params)) < 1e-12


def test_l1_has_derivative_0_at_0_and_so_has_autodiff():
    zero = {"w": jnp.zeros(3)}
    np.testing.assert_array_equal(fnn.penalties.l1(2.0).grad(zero)["w"], np.zeros(3))
    np.testing.assert_array_equal(jax.grad(fnn.penalties.l1(2.0).value)(zero)["w"], np.zeros(3))


@every_penalty
def test_the_bias_of_any_layer_is_free(case):
    net = fnn.serial(fnn.dense(3, bias_init=1.0), fnn.repeat(fnn.dense(3, bias_init=1.0), 2))
    params = net.init(jax.random.key(0), (2,))[0]
    without = jax.tree.map_with_path(lambda path, a: a * 0 if path[-1].key == "b" else a, params)
    assert case.penalty(params) == case.penalty(without) > 0
    grad = case.penalty.grad(params)
    assert not grad[0]["b"].any() and not grad[1]["b"].any() and grad[1]["w"].all()


@every_penalty
def test_parameters_without_weights_cost_nothing(case):
    for params in ((), {"b": jnp.ones(2)}, ((), ())):
        assert case.penalty(params) == 0
        assert jax.tree.all(jax.tree.map(lambda a: not a.any(), case.penalty.grad(params)))


def test_a_single_array_is_a_weight():
    assert fnn.penalties.l2(0.5)(jnp.array([1.0, 2.0])) == 2.5


def test_weight_decay_multiplies_by_a_factor_below_1(x64):
    """`θ (1 - α λ/m) - α g` is a step down the cost with the penalty `l2(λ/(2m))`. Document D0."""
    theta, g, step, decay, rows = jnp.array([1.0, -3.0]), jnp.array([0.1, 0.2]), 0.1, 2.0, 8
    total = g + fnn.penalties.l2(decay / (2 * rows)).grad({"w": theta})["w"]
    close(theta - step * total, theta * (1 - step * decay / rows) - step * g)


@pytest.mark.parametrize("make", [fnn.penalties.l1, fnn.penalties.l2])
@pytest.mark.parametrize("wrong", [-0.1, -1, float("nan")])
def test_a_coefficient_below_0_raises(make, wrong):
    with pytest.raises(ValueError, match=rf"{make.__name__}: expected a coefficient of at least 0, got {wrong}\. Do "):
        make(wrong)


@pytest.mark.parametrize("make", [fnn.penalties.l1, fnn.penalties.l2])
def test_a_traced_coefficient_works(make):
    w = {"w": jnp.array([1.0, -2.0])}
    np.testing.assert_allclose(jax.jit(lambda c: make(c)(w))(0.5), make(0.5)(w), rtol=1e-6)


def test_penalties_are_remembered_and_print_as_the_call():
    assert fnn.penalties.l2(0.5) is fnn.penalties.l2(coefficient=0.5)
    assert str(fnn.penalties.l2(0.5)) == "l2(0.5)" and str(fnn.penalties.l1(0)) == "l1(0)"
