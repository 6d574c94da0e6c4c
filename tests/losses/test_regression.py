"""Losses for numbers: against optax and scikit-learn, at their kinks, far off, and what raises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st
from sklearn import metrics

from fnn import losses
from tests.helpers.compare import close, normwise

Y, T = np.random.default_rng(0).normal(0, 2, (2, 8, 3))


def autodiff(loss, y, t):
    return jax.jit(jax.grad(lambda y: loss(y, t).sum()))(jnp.asarray(y))


def test_values_equal_those_of_optax_and_scikit_learn(x64):
    close(losses.huber(0.7)(Y, T), optax.huber_loss(jnp.asarray(Y), jnp.asarray(T), delta=0.7).sum(-1))
    rows = list(zip(T, Y, strict=True))
    close(losses.absolute_error(Y, T), [3 * metrics.mean_absolute_error(t, y) for t, y in rows])
    for q in (0.1, 0.5, 0.9):
        close(losses.quantile(q)(Y, T), [3 * metrics.mean_pinball_loss(t, y, alpha=q) for t, y in rows])


@given(st.floats(0.01, 100), st.floats(-300, 300))
def test_how_the_losses_are_related(delta, e):
    with jax.enable_x64(True):
        y, t = jnp.array([[e]]), jnp.zeros((1, 1))
        close(losses.smooth_l1(delta)(y, t), losses.huber(delta)(y, t) / delta, rtol=1e-13)
        close(losses.smooth_l1(delta).grad(y, t), losses.huber(delta).grad(y, t) / delta, rtol=1e-13)
        q = delta / 101
        close(losses.quantile(q)(y, t), losses.asymmetric(over=1 - q, under=q)(y, t), rtol=1e-13)
        close(2 * losses.quantile(0.5)(y, t), losses.absolute_error(y, t), rtol=1e-13)
        close(losses.huber(1e4)(y, t), losses.half_squared_error(y, t), rtol=1e-13)


@pytest.mark.parametrize(
    "loss, at_0",
    [
        (losses.absolute_error, 0),
        (losses.asymmetric(over=3, under=5), -5),
        (losses.quantile(0.75), -0.75),
        (losses.huber(), 0),
        (losses.smooth_l1(), 0),
    ],
    ids=str,
)
def test_the_derivative_where_output_and_target_agree(loss, at_0):
    y = jnp.array([[2.0], [-0.0], [0.0]])
    np.testing.assert_array_equal(loss.grad(y, y), np.full((3, 1), at_0))
    np.testing.assert_array_equal(autodiff(loss, y, y), np.full((3, 1), at_0))


@pytest.mark.parametrize("make", [losses.huber, losses.smooth_l1], ids=lambda make: make.__name__)
def test_where_squares_turn_into_absolute_values(make, x64):
    y, t = np.array([[0.5], [-0.5], [0.5 - 1e-9], [0.5 + 1e-9]]), np.zeros((4, 1))
    slope = 0.5 if make is losses.huber else 1.0
    np.testing.assert_allclose(make(0.5).grad(y, t)[:, 0], slope * np.array([1, -1, 1, 1]), rtol=1e-8)
    assert normwise(make(0.5).grad(jnp.asarray(y), t), autodiff(make(0.5), y, t)) < 1e-12


@pytest.mark.parametrize("e, slope", [(1e30, 1.0), (-1e30, -1.0), (1e-30, 1e-30)])
def test_very_large_and_very_small_errors_are_finite_and_right(e, slope):
    y, t = jnp.array([[e]], jnp.float32), jnp.zeros((1, 1))
    for loss in (losses.huber(), losses.smooth_l1()):
        np.testing.assert_allclose(loss.grad(y, t), [[slope]], rtol=1e-6)
        np.testing.assert_allclose(autodiff(loss, y, t), [[slope]], rtol=1e-6)
        np.testing.assert_allclose(loss(y, t), [abs(e) if abs(e) > 1 else 0], rtol=1e-6)


def test_the_yoghurt_losses():
    too_much, too_little = jnp.array([[3.0]]), jnp.array([[1.0]])
    t = jnp.array([[2.0]])
    dear = losses.asymmetric(over=1, under=99)
    assert dear(too_much, t) == 1 and dear(too_little, t) == 99
    assert dear.grad(too_much, t) == 1 and dear.grad(too_little, t) == -99


def test_the_best_constant_guess_is_the_quantile(x64):
    t = np.random.default_rng(0).normal(size=(101, 1))
    for q in (0.25, 0.9):
        guesses = np.linspace(-3, 3, 1201)
        cost = [float(losses.quantile(q)(np.full((101, 1), g), t).sum()) for g in guesses[::8]]
        assert abs(guesses[::8][np.argmin(cost)] - np.quantile(t, q)) < 0.05


@pytest.mark.parametrize("name, bad", [("huber", [0, -1.0]), ("smooth_l1", [0, -1.0]), ("quantile", [0, 1, 1.5, -0.1])])
def test_a_number_out_of_range_raises(name, bad):
    for value in [*bad, float("nan"), float("inf")]:
        with pytest.raises(ValueError, match=rf"{name}: expected a .*, got {value}\. [A-Z]"):
            getattr(losses, name)(value)
    for value in ("1", None, (1.0,), True):
        with pytest.raises(TypeError, match=rf"{name}: expected a .*, got .*\. [A-Z]"):
            getattr(losses, name)(value)


def test_a_negative_cost_raises():
    for costs in ((-1, 1), (1, -1), (float("nan"), 1)):
        with pytest.raises(ValueError, match=r"asymmetric: expected a cost of at least 0, got .*\. [A-Z]"):
            losses.asymmetric(*costs)


@pytest.mark.parametrize(
    "make",
    [losses.huber, losses.smooth_l1, losses.quantile, lambda a: losses.asymmetric(a, 2.0)],
    ids=["huber", "smooth_l1", "quantile", "asymmetric"],
)
def test_a_traced_number_gives_what_the_number_gives(make):
    y, t = jnp.asarray(Y, jnp.float32), jnp.asarray(T, jnp.float32)
    np.testing.assert_allclose(jax.jit(lambda a: make(a)(y, t))(0.4), make(0.4)(y, t), rtol=1e-5)
    grads = jax.jit(jax.vmap(lambda a: make(a).grad(y, t)))(jnp.array([0.2, 0.4]))
    np.testing.assert_allclose(grads[1], make(0.4).grad(y, t), rtol=1e-5)


def test_factories_remember_and_print_as_the_call():
    assert losses.huber(2.0) is losses.huber(delta=2.0) and losses.huber() is losses.huber(1.0)
    made = [losses.huber(), losses.smooth_l1(0.5), losses.asymmetric(1, 99), losses.quantile(0.9)]
    assert [str(loss) for loss in made] == ["huber()", "smooth_l1(beta=0.5)", "asymmetric(1, 99)", "quantile(0.9)"]
