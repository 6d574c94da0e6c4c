"""The ways to a derivative that know no rule, each alone: complex step, differences; and what they are judged by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.gradients.finite_differences import difference, one_sided_difference, usual_size
from fnn.gradients.interpreters.branches import record_branches
from fnn.gradients.interpreters.complex_step import NotAnalytic, complex_step
from fnn.gradients.interpreters.rounding import add_rounding
from tests.helpers.compare import close, normwise
from tests.helpers.tf32 import products_of_a_gpu

RNG = np.random.default_rng(0)


def test_complex_step_is_exact_to_rounding(x64):
    x = jnp.array([0.3, -1.7, 20.0, 1e-8])
    for function in (jnp.exp, jnp.expm1, jnp.log1p, jnp.tanh, jax.nn.sigmoid, jnp.sin, jnp.square, jnp.reciprocal):
        at = x if function is not jnp.log1p else jnp.abs(x)
        exact = jax.vmap(jax.grad(function))(at)
        close(complex_step(function, at, jnp.ones(4)).slope, exact, rtol=1e-14, atol=1e-16)  # XLA's tanh' is 0 at 20


def test_complex_step_goes_through_loops_sorts_of_choice_and_calls(x64):
    @jax.jit
    def function(x):
        rounds, _ = jax.lax.scan(lambda c, a: (jnp.maximum(c * a, 0.5 * c), None), x, jnp.array([1.5, 0.2, 3.0]))
        return jnp.clip(jnp.abs(rounds), 0.1, 50.0).max() + jnp.linalg.norm(x)

    x, d = jnp.array([0.7, -2.2, 1.1]), jnp.array([0.3, 1.0, -0.4])
    found = complex_step(function, x, d)
    close(found.slope, jax.grad(function)(x) @ d, rtol=1e-14)
    assert 0 < found.kink < np.inf


FORMS = {  # name: where
    "exp2": (-5.0, 0.0, 3.2),
    "tan": (-2.0, 0.0, 1.5),
    "sinh": (-3.0, 0.0, 40.0),
    "cosh": (-3.0, 0.5, 40.0),
    "arcsin": (-0.99, 0.0, 0.999),
    "arccos": (-0.99, 0.0, 0.999),
    "arctan": (-50.0, 0.0, 1.0),
    "arcsinh": (-50.0, 0.0, 1.0),
    "arccosh": (1.001, 1.5, 30.0),
    "arctanh": (-0.99, 0.0, 0.999),
}


@pytest.mark.parametrize("name", FORMS)
def test_complex_step_of_a_function_with_a_complex_form_in_jax(x64, name):
    function, x = getattr(jnp, name), jnp.array(FORMS[name])
    exact = jax.vmap(jax.grad(function))(x)
    close(complex_step(function, x, jnp.ones_like(x)).slope, exact, rtol=1e-14)


def test_complex_step_refuses_what_has_no_complex_form(x64):
    with pytest.raises(NotAnalytic, match="complex_step: expected functions with a complex form, got erf"):
        complex_step(jax.scipy.special.erf, jnp.ones(2), jnp.ones(2))
    with pytest.raises(NotAnalytic, match=r"complex_step: expected float32 or float64, got bfloat16\. Convert"):
        complex_step(jnp.sin, jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.bfloat16))


@pytest.mark.parametrize("power", [2.0, 3.0, 4.0, -1.0, 1.0])
def test_complex_step_of_whole_powers_of_negative_numbers(power):
    x = jnp.array([-3.0, -1.5, 0.7] if power < 0 else [-3.0, -1.5, 0.0, 0.7])
    close(
        complex_step(lambda x: x**power, x, jnp.ones_like(x)).slope,
        jax.vmap(jax.grad(lambda x: x**power))(x),
        rtol=1e-6,
    )
    whole = complex_step(lambda x: jnp.power(x, jnp.full(x.shape, power)), x, jnp.ones_like(x)).slope
    close(whole, power * x ** jnp.asarray(power - 1), rtol=1e-6)


def test_complex_step_knows_no_other_power_of_a_negative_number(x64):
    x = jnp.array([-1.5, 2.0])
    assert list(np.isnan(complex_step(lambda x: x**2.5, x, jnp.ones(2)).slope)) == [True, False]
    assert list(np.isnan(complex_step(lambda x: x**x, x, jnp.ones(2)).slope)) == [True, False]


def test_complex_step_holds_constant_what_is_held_constant(x64):
    close(complex_step(lambda x: jax.lax.stop_gradient(x) * x, jnp.array([3.0]), jnp.ones(1)).slope, [3.0])


CHOICES = {  # name: a function, two points on one piece, and one on another
    "max": (lambda x: jnp.maximum(x, 1 - x), (0.6, 0.9), 0.4),
    "abs": (jnp.abs, (0.1, 2.0), -0.1),
    "clip": (lambda x: jnp.clip(x, 0.0, 1.0), (0.2, 0.8), 1.1),
    "select": (lambda x: jnp.where(x > 0.5, x, 0.0), (0.6, 0.7), 0.4),
    "largest": (lambda x: jnp.stack([x, 1 - x]).max(), (0.6, 0.9), 0.4),
    "sort": (lambda x: jnp.sort(jnp.stack([x, 0.5 * x, 1 - x]))[0], (0.1, 0.4), 0.8),
    "floor": (lambda x: x * jnp.floor(x), (1.1, 1.9), 2.1),
    "remainder": (lambda x: x % 1.0, (1.1, 1.9), 2.1),
    "branch": (lambda x: jax.lax.cond(x > 0.5, jnp.sin, jnp.cos, x), (0.6, 0.7), 0.4),
    "loop": (lambda x: jax.lax.scan(lambda c, _: (jnp.maximum(0.5 * c, 1 - c), None), x, None, 3)[0], (0.1, 0.2), 0.9),
    "whole": (lambda x: x * x.astype(int).astype(x.dtype), (1.1, 1.9), 2.1),
}


@pytest.mark.parametrize("function, same, other", CHOICES.values(), ids=CHOICES)
def test_branches_tell_pieces_apart(function, same, other):
    first, second, third = (int(record_branches(function)(jnp.float32(x))[1]) for x in (*same, other))
    assert first == second != third


def test_rounding_is_that_of_the_terms_and_not_of_the_sum(x64):
    x = jnp.array([0.3, 1e8])
    off = [float(add_rounding(lambda x: (x[0] + x[1]) - x[1], 1.0, s)(x) - 0.3) for s in range(8)]
    assert 1e-9 < max(map(abs, off)) < 1e-6  # an ulp of 1e8 is 1.5e-8
    assert float(add_rounding(lambda x: (x[0] + x[1]) - x[1], 0.0, 1)(x)) == float((x[0] + x[1]) - x[1])
    equal = lambda x: jnp.where(2 * x == x + x, 1.0, 0.0).min()  # noqa: E731
    assert all(float(add_rounding(equal, 1.0, s)(x)) == 1 for s in range(8))


def test_one_sided_differences_see_one_side(x64):
    def bent(x):
        return jnp.where(x > 0, jnp.sin(3 * x), jnp.exp(x) - 1)

    zero = jnp.zeros(2)
    close(one_sided_difference(bent, zero, jnp.ones(2), 1e-3), [3.0, 3.0], rtol=1e-12)
    close(one_sided_difference(bent, zero, -jnp.ones(2), 1e-3), [-1.0, -1.0], rtol=1e-12)


def test_numerical_gradient_of_order_2_and_6(x64):
    params = {"w": jnp.array([[0.3, -0.7]]), "b": (jnp.array(0.2),)}

    def function(p):
        return (jnp.exp(p["w"]) * jnp.sin(p["b"][0])).sum()

    exact = jax.grad(function)(params)
    assert normwise(fnn.numerical_gradient(function, params), exact) < 1e-11
    assert normwise(fnn.numerical_gradient(function, params, order=2, step=1e-4), exact) < 1e-8
    assert 1e-4 < normwise(fnn.numerical_gradient(function, params, order=2, step=0.1), exact) < 1e-2
    assert normwise(fnn.numerical_gradient(function, params, order=6, step=0.1), exact) < 1e-7


@pytest.mark.parametrize("size", [1e-20, 1e-4, 1.0, 1e6, 1e20])
@pytest.mark.parametrize("order, limit", [(6, 1e-4), (2, 2e-3)])
def test_numerical_gradient_is_measured_by_the_numbers(size, order, limit):
    for function, slope in ((jnp.square, 2.0), (jnp.sin, np.cos(1.0)), (jnp.log, 1.0)):
        found = fnn.numerical_gradient(lambda p, f=function: f(p / size), jnp.float32(size), order=order)
        assert float(found) * size == pytest.approx(slope, rel=limit)


def test_numerical_gradient_of_numbers_of_many_sizes(x64):
    sizes = jnp.array([1e-4, 1.0, 1e6])
    found = fnn.numerical_gradient(lambda p: jnp.sin(p / sizes).sum(), sizes)
    close(found * sizes, np.cos([1.0] * 3), rtol=1e-6)


@pytest.mark.slow
def test_numerical_gradient_is_as_exact_where_a_gpu_rounds_products():
    net, x = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(2)), jnp.asarray(RNG.normal(size=(20, 5)), jnp.float32)
    params, state, _ = net.init(jax.random.key(0), (5,))

    def cost(params):
        return jnp.square(net.forward(params, state, x, None, False)[0]).mean()

    exact = jax.jit(jax.grad(cost))(params)
    with products_of_a_gpu():
        assert normwise(fnn.numerical_gradient(cost, params), exact) < 5e-3


def test_numerical_gradient_has_no_answer_where_the_step_is_lost():
    assert np.isnan(fnn.numerical_gradient(lambda p: 2 * p, jnp.float32(1e9), step=1e-3))


def test_an_order_that_is_none_raises():
    with pytest.raises(ValueError, match=r"order: expected 2 or 6, got 4\. Choose"):
        fnn.numerical_gradient(jnp.sum, jnp.ones(2), order=4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_error_of_a_difference_covers_a_bend_that_every_large_step_leaps_over(dtype):
    """Around a leaf that is all 0 nobody knows whether 1 or 1e-4 is a large step."""
    with jax.enable_x64(dtype == "float64"):
        bend, rise = 1e-3, 10 * float(jnp.finfo(dtype).eps)
        bump = lambda u: u / (1 + u**2) ** 2  # noqa: E731
        cost = lambda p: 1.0 + rise * bump(p["b"].sum() / bend)  # noqa: E731
        point = {"b": jnp.zeros(1, dtype)}
        found = difference(cost, point, {"b": jnp.ones(1, dtype)}, (usual_size(point["b"]), jnp.zeros((), dtype)))
        assert abs(found.slope - rise / bend) <= 10 * found.error
