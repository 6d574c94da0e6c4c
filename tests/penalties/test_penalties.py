"""Penalties: value and derivative against NumPy, weights but not biases, and what raises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

import fnn
from experiments.derivatives.penalties import PENALTIES
from tests.helpers.compare import close, normwise

every_penalty = pytest.mark.parametrize("case", PENALTIES, ids=lambda case: str(case.penalty))


def parameters():
    rng = np.random.default_rng(0)
    w, v, a = rng.normal(size=(3, 2)), rng.normal(size=(2, 4)), rng.normal(size=4)
    w[0, 0] = 0.0
    params = ({"w": w, "b": rng.normal(size=2)}, (), ({"w": v}, {"a": a}, {"a": a, "c": a}))
    return params, (w, v, a, a)  # an "a" alone is the slopes of a prelu


@every_penalty
def test_value_and_derivative_equal_numpy_over_all_weights_and_no_bias(case, x64):
    params, weights = parameters()
    params = jax.tree.map(jnp.asarray, params)
    close(case.penalty(params), sum(map(case.value, weights)))
    close(case.penalty.value(params), sum(map(case.value, weights)))
    w, v, a, c = map(case.derivative, weights)
    expected = ({"w": w, "b": np.zeros(2)}, (), ({"w": v}, {"a": np.zeros(4)}, {"a": a, "c": c}))
    assert normwise(case.penalty.grad(params), expected) < 1e-12


@every_penalty
def test_derivative_equals_autodiff_away_from_0(case, x64):
    params = jax.tree.map(lambda a: jnp.asarray(a) + 10.0, parameters()[0])
    assert normwise(case.penalty.grad(params), jax.jit(jax.grad(case.penalty.value))(params)) < 1e-12


@every_penalty
def test_derivative_equals_autodiff_at_0_and_beside_it(case, x64):
    near = {"w": jnp.array([0.0, -0.0, 1e-300, -1e-300, 5e-324, 0.3, -7.0]), "b": jnp.zeros(2)}
    assert near["w"][0] == near["w"][1] == 0
    assert normwise(case.penalty.grad(near), jax.jit(jax.grad(case.penalty.value))(near)) < 1e-12
    assert normwise(case.penalty.grad(parameters()[0]), jax.jit(jax.grad(case.penalty.value))(parameters()[0])) < 1e-12


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


def step_of_weight_decay(dtype):
    """A linear model, one step by `fit` and by the document's formula; the data chosen so that nothing cancels."""
    rng = np.random.default_rng(4)
    x, t, theta = (a.astype(dtype) for a in (rng.uniform(0.5, 1, (8, 3)), -rng.uniform(0, 1, 8), rng.uniform(1, 2, 3)))
    step, decay, m = 0.125, 0.75, len(x)
    run = fnn.fit(
        fnn.dense(1, bias=False),
        fnn.losses.half_squared_error,
        optax.sgd(step),
        (x, t[:, None]),
        epochs=1,
        penalty=fnn.penalties.l2(decay / (2 * m)),
        gradient=fnn.backprop,
        params={"w": theta[:, None]},
    )
    x, t, theta = (a.astype(np.longdouble) for a in (x, t, theta))
    expected = theta * (1 - step * decay / m) - step / m * ((x @ theta - t) @ x)
    return run.params["w"][:, 0], expected.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_step_with_l2_is_the_documents_weight_decay(dtype):
    with jax.enable_x64(dtype == np.float64):
        got, expected = step_of_weight_decay(dtype)
        assert got.dtype == dtype
        np.testing.assert_array_max_ulp(np.asarray(got), expected, maxulp=4)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@every_penalty
def test_value_and_derivative_have_the_dtype_of_the_weights(case, dtype, x64):
    params = {"w": jnp.array([1.0, -2.0], dtype), "b": jnp.ones(1, dtype)}
    assert case.penalty(params).dtype == case.penalty.grad(params)["w"].dtype == dtype
    traced = jax.jit(lambda c: made_with(case.name, c)(params))(0.5)
    assert traced.dtype == dtype and traced == made_with(case.name, np.float64(0.5))(params)


def made_with(name, coefficient):
    count = 2 if name == "elastic_net" else 1
    return getattr(fnn.penalties, name)(*[coefficient] * count)


@pytest.mark.parametrize("name", ["l1", "l2", "elastic_net"])
@pytest.mark.parametrize("wrong", [-0.5, -1, float("nan"), float("inf"), np.float32(-0.5), jnp.float32(-0.5)])
def test_a_wrong_coefficient_raises_in_every_penalty(name, wrong):
    with pytest.raises(ValueError, match=rf"{name}: expected a coefficient of at least 0, got {wrong}\. [A-Z]"):
        made_with(name, wrong)


@pytest.mark.parametrize("place", [0, 1])
def test_either_coefficient_of_elastic_net_is_checked(place):
    with pytest.raises(ValueError, match=r"elastic_net: expected a coefficient of at least 0, got -1\. [A-Z]"):
        fnn.penalties.elastic_net(*((-1, 1) if place == 0 else (1, -1)))


@pytest.mark.parametrize("name", ["l1", "l2", "elastic_net"])
@pytest.mark.parametrize("wrong", ["0.1", None, True, [0.1], np.ones(2), 1j])
def test_what_is_not_a_number_raises(name, wrong):
    with pytest.raises(TypeError, match=rf"{name}: expected a coefficient of at least 0, got .*\. [A-Z]"):
        made_with(name, wrong)


def test_elastic_net_is_l1_and_l2_together(x64):
    params = parameters()[0]
    parts = fnn.penalties.l1(0.2), fnn.penalties.l2(0.7)
    close(fnn.penalties.elastic_net(l1=0.2, l2=0.7)(params), sum(part(params) for part in parts))


def biases(params):
    return jax.tree.map_with_path(lambda path, leaf: path[-1].key == "b", params)


@every_penalty
def test_a_mask_says_what_is_penalised(case, x64):
    name, params = case.name, ({"w": jnp.array([1.0, -2.0]), "b": jnp.array([3.0])}, ())
    factory = getattr(fnn.penalties, name)
    numbers = (0.2, 0.7) if name == "elastic_net" else (0.3,)
    masked = factory(*numbers, mask=biases)
    close(masked(params), case.value(np.array([3.0])))
    expected = ({"w": np.zeros(2), "b": case.derivative(np.array([3.0]))}, ())
    assert normwise(masked.grad(params), expected) < 1e-12
    assert masked is factory(*numbers, mask=biases) and masked is not factory(*numbers)
    assert str(masked).endswith("mask=biases)")


@pytest.mark.parametrize(
    "mask, error, message",
    [
        ({"w": True}, TypeError, r"mask: expected a function of the parameters, got dict\. [A-Z]"),
        (lambda p: {"w": True}, ValueError, r"mask: expected a pytree like the parameters, .*got .*\. [A-Z]"),
        (lambda p: {"w": 1.0, "b": True}, TypeError, r"mask: expected True or False for each array, got 1\.0\. [A-Z]"),
    ],
    ids=["no function", "another tree", "no bools"],
)
def test_a_mask_that_does_not_fit_raises(mask, error, message):
    for function in (fnn.penalties.l1(1.0, mask=mask).value, fnn.penalties.l2(1.0, mask=mask).grad):
        with pytest.raises(error, match=message):
            function({"w": jnp.ones(2), "b": jnp.ones(1)})


def test_ridge_is_found_by_descent(x64):
    """`Σ (Xw + b - t)² + α Σ w²`, D0's Ridge: a sum of squared errors and `l2(α)`; the intercept is free."""
    x, t = load_diabetes(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    curvature = 2 * np.linalg.norm(x, 2) ** 2
    for alpha in (1.0, 100.0):
        oracle = Ridge(alpha=alpha, solver="cholesky").fit(x, t)
        run = fnn.fit(
            fnn.dense(1),
            fnn.losses.squared_error,
            lambda s: optax.sgd(1 / (curvature + 2 * s["alpha"]), momentum=0.9),
            (x, t[:, None]),
            epochs=2500,
            settings={"alpha": alpha},
            penalty=lambda s: fnn.penalties.l2(s["alpha"]),
            reduction="sum",
        )
        close(run.params["w"][:, 0], oracle.coef_, rtol=1e-6)
        close(run.params["b"][0], oracle.intercept_, rtol=1e-6)


@pytest.mark.parametrize("make", [fnn.penalties.l1, fnn.penalties.l2])
@pytest.mark.parametrize("wrong", [-0.1, -1, float("nan")])
def test_a_coefficient_below_0_raises(make, wrong):
    with pytest.raises(
        ValueError, match=rf"{make.__name__}: expected a coefficient of at least 0, got {wrong}\. [A-Z]"
    ):
        make(wrong)


@pytest.mark.parametrize("make", [fnn.penalties.l1, fnn.penalties.l2])
def test_a_traced_coefficient_works(make):
    w = {"w": jnp.array([1.0, -2.0])}
    np.testing.assert_allclose(jax.jit(lambda c: make(c)(w))(0.5), make(0.5)(w), rtol=1e-6)


def test_penalties_are_remembered_and_print_as_the_call():
    assert fnn.penalties.l2(0.5) is fnn.penalties.l2(coefficient=0.5)
    assert str(fnn.penalties.l2(0.5)) == "l2(0.5)" and str(fnn.penalties.l1(0)) == "l1(0)"


@pytest.mark.parametrize(
    "penalty, value, derivative",
    [(fnn.penalties.l2(0.1), 0.5, [0.2, -0.4]), (fnn.penalties.l1(0.1), 0.3, [0.1, -0.1])],
    ids=["l2", "l1"],
)
def test_whole_numbers_are_penalised_as_the_floats_that_they_are(penalty, value, derivative):
    params = {"w": jnp.array([1, -2])}
    np.testing.assert_allclose(penalty.value(params), value, rtol=1e-6)
    np.testing.assert_allclose(penalty.grad(params)["w"], derivative, rtol=1e-6)
