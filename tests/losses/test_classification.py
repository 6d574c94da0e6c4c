"""Focal and hinge losses: against optax, scikit-learn and long decimals, at extremes and kinks, and what raises."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st
from sklearn import metrics

import fnn
from fnn import losses
from tests.helpers.compare import close, normwise

Z, LABELS = np.random.default_rng(0).normal(0, 3, (6, 4)), np.array([0, 1, 2, 3, 0, 1])
T = np.eye(4)[LABELS]
GAMMAS = [0.0, 0.5, 2.0]


def autodiff(loss, y, t):
    return jax.jit(jax.grad(lambda y: loss(y, t).sum()))(jnp.asarray(y))


# ---- focal


@pytest.mark.parametrize("alpha", [None, 0.25, 0.0, 1.0])
def test_sigmoid_focal_equals_that_of_optax(alpha, x64):
    for gamma in GAMMAS:
        expected = optax.sigmoid_focal_loss(jnp.asarray(Z), jnp.asarray(T), alpha=alpha, gamma=gamma)
        close(losses.sigmoid_focal(gamma, alpha)(Z, T), expected.sum(-1), rtol=1e-12)


@pytest.mark.parametrize("alpha", [None, (1.0, 2.0, 0.5, 0.0)])
def test_softmax_focal_weighs_the_cross_entropy(alpha, x64):
    p = np.asarray(fnn.softmax(Z))[np.arange(6), LABELS]
    expected = (1 - p) ** 2 * optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(Z), LABELS)
    expected = expected * (1 if alpha is None else np.array(alpha)[LABELS])
    close(losses.softmax_focal(2.0, alpha)(Z, T), expected, rtol=1e-12)
    close(losses.sparse_softmax_focal(2.0, alpha)(Z, LABELS), expected, rtol=1e-12)
    loss = losses.softmax_focal(2.0, alpha)
    assert normwise(loss.grad(jnp.asarray(Z), T), autodiff(loss, Z, T)) < 1e-12


def test_gamma_0_is_the_cross_entropy(x64):
    z = np.concatenate([Z, 30 * Z, [[1000.0, -1000, 0, 100]]])
    t = np.concatenate([T, T, [[0.0, 1, 0, 0]]])
    for focal, plain in [
        (losses.sigmoid_focal(0.0), losses.sigmoid_cross_entropy),
        (losses.softmax_focal(0.0), losses.softmax_cross_entropy),
    ]:
        np.testing.assert_allclose(focal(z, t), plain(z, t), rtol=4e-16, atol=4e-16)
        np.testing.assert_allclose(focal.grad(z, t), plain.grad(z, t), rtol=4e-15, atol=4e-16)
    np.testing.assert_array_equal(losses.sigmoid_focal(0)(z, t), losses.sigmoid_cross_entropy(z, t))
    soft = 0.7 * T + 0.075
    np.testing.assert_allclose(losses.softmax_focal(0)(Z, soft), losses.softmax_cross_entropy(Z, soft), rtol=1e-14)


def exact_focal(gap, gamma):
    """Two classes whose logits differ by `gap`: the value and its derivative by the gap, p = σ(gap)."""
    with localcontext(prec=120, Emin=-999999, Emax=999999):
        x, g = Decimal(gap), Decimal(gamma)
        p, q = 1 / (1 + (-x).exp()), 1 / (1 + x.exp())
        log_p = -(1 + (-x).exp()).ln()
        power = (g * q.ln()).exp() if g else Decimal(1)
        return float(-power * log_p), float(power * (g * p * log_p - q))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_losses_are_exact_at_any_logit(gamma, x64):
    gaps = np.array([0.0, 1.0, -1.0, 20.0, -20.0, 40.0, 100.0, -100.0, 200.0, 1000.0, -1000.0, -2000.0])
    value, slope = np.array([exact_focal(gap, gamma) for gap in gaps]).T
    ones, zeros = np.ones(12), np.zeros(12)
    rows = lambda *columns: jnp.asarray(np.stack(columns, -1))  # noqa: E731
    for loss, z, t, grad in [
        (losses.sigmoid_focal(gamma), rows(gaps), rows(ones), rows(slope)),
        (losses.sigmoid_focal(gamma), rows(-gaps), rows(zeros), rows(-slope)),
        (losses.softmax_focal(gamma), rows(gaps / 2, -gaps / 2), rows(ones, zeros), rows(slope, -slope)),
        (losses.softmax_focal(gamma), rows(zeros, gaps), rows(zeros, ones), rows(-slope, slope)),
        (losses.sparse_softmax_focal(gamma), rows(gaps / 2, -gaps / 2), zeros.astype(int), rows(slope, -slope)),
    ]:
        close(loss(z, t), value, rtol=1e-12, atol=1e-290)
        close(loss.grad(z, t), grad, rtol=1e-12, atol=1e-290)
        close(autodiff(loss, z, t), grad, rtol=1e-12, atol=1e-290)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_losses_are_finite_in_float32(gamma):
    z = jnp.array([[1000.0, -1000, 0], [100, -100, 0], [0, 0, 0], [-1000, -1000, -1000]])
    z, t = jnp.repeat(z, 3, 0), jnp.tile(jnp.eye(3), (4, 1))
    for loss in (losses.softmax_focal(gamma), losses.sigmoid_focal(gamma, 0.25)):
        made = jax.jit(lambda z, loss=loss: (loss(z, t), loss.grad(z, t), autodiff(loss, z, t)))(z)
        assert all(np.isfinite(np.asarray(a, np.float32)).all() and a.dtype == z.dtype for a in made)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_a_masked_class_costs_nothing_and_has_no_derivative(gamma, x64):
    z, t = jnp.array([[1.0, -np.inf, 2.0]]), jnp.array([[1.0, 0, 0]])
    loss, pair = losses.softmax_focal(gamma), jnp.array([[1.0, 2.0]])
    close(loss(z, t), loss(pair, t[:, :2]))
    close(loss.grad(z, t)[:, [0, 2]], loss.grad(pair, t[:, :2]))
    assert loss.grad(z, t)[0, 1] == 0
    close(autodiff(loss, z, t), loss.grad(z, t), rtol=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_one_class_alone_is_always_right(gamma):
    z = jnp.array([[3.0], [-1000.0]])
    for loss, t in [
        (losses.softmax_focal(gamma), jnp.ones((2, 1))),
        (losses.multiclass_hinge, jnp.ones((2, 1))),
        (losses.sparse_softmax_focal(gamma), jnp.array([0, 0])),
    ]:
        for zeros in (loss(z, t), loss.grad(z, t), autodiff(loss, z, t)):
            np.testing.assert_array_equal(zeros, np.zeros_like(zeros))


def test_sure_examples_count_less_and_the_surer_the_less():
    z = jnp.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    labels = jnp.zeros(3, int)
    share = losses.sparse_softmax_focal()(z, labels) / losses.sparse_softmax_cross_entropy(z, labels)
    assert (np.diff(share) < 0).all() and share[0] == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["sigmoid_focal", "softmax_focal", "sparse_softmax_focal"])
def test_wrong_numbers_raise(name):
    make = getattr(losses, name)
    for gamma in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=rf"{name}: expected a gamma of at least 0, got .*\. [A-Z]"):
            make(gamma)
    for alpha, error in [((-1.0, 1.0), ValueError), ("a", TypeError)]:
        wrong = -1.0 if name == "sigmoid_focal" and error is ValueError else alpha
        with pytest.raises(error, match=rf"{name}: expected .* got .*\. [A-Z]"):
            make(2.0, wrong)


def test_alpha_must_fit():
    with pytest.raises(ValueError, match=r"sigmoid_focal: expected an alpha of at most 1, got 1\.5\. [A-Z]"):
        losses.sigmoid_focal(2.0, 1.5)
    for function in (losses.softmax_focal(2.0, (1, 2)), losses.softmax_focal(2.0, (1, 2)).grad):
        with pytest.raises(fnn.ShapeError, match=r"softmax_focal: expected an alpha per class, for 4 .* got 2\. [A-Z]"):
            function(jnp.zeros((1, 4)), jnp.zeros((1, 4)))


def test_focal_losses_are_remembered_and_print_as_the_call():
    assert losses.softmax_focal(2.0, [1, 2]) is losses.softmax_focal(alpha=(1, 2))
    assert str(losses.sigmoid_focal(2.0, 0.25)) == "sigmoid_focal(alpha=0.25)"
    assert losses.sparse_softmax_focal(1.0).dense is losses.softmax_focal(1.0)


# ---- hinge


def test_hinge_equals_that_of_optax_and_scikit_learn(x64):
    y, t = Z[:, :1], np.array([[0], [1], [1], [0], [1], [0]])
    close(losses.hinge(y, t), optax.hinge_loss(jnp.asarray(y), jnp.asarray(2.0 * t - 1))[:, 0])
    assert losses.hinge(y, t).mean() == pytest.approx(metrics.hinge_loss(t[:, 0], y[:, 0]), rel=1e-14)


def test_multiclass_hinge_equals_that_of_optax_and_scikit_learn(x64):
    expected = jax.vmap(optax.losses.multiclass_hinge_loss)(jnp.asarray(Z), jnp.asarray(LABELS))
    close(losses.sparse_multiclass_hinge(Z, LABELS), expected)
    close(losses.multiclass_hinge(Z, T), expected)
    assert expected.mean() == pytest.approx(metrics.hinge_loss(LABELS, Z, labels=[0, 1, 2, 3]), rel=1e-14)


def test_at_the_margin_the_derivative_of_hinge_is_0():
    y, t = jnp.array([[1.0], [-1.0], [0.99], [1.01], [-0.99], [-1.01]]), jnp.array([[1.0], [0], [1], [1], [0], [0]])
    expected = [[0], [0], [-1], [0], [1], [0]]
    np.testing.assert_array_equal(losses.hinge.grad(y, t), expected)
    np.testing.assert_array_equal(autodiff(losses.hinge, y, t), expected)


@pytest.mark.parametrize(
    "y, expected",
    [
        ([2.0, 1.0, 0.0], [0, 0, 0]),  # leads by 1: at the kink
        ([1.0, 1.0, 1.0], [-1, 1, 0]),  # the first of several rivals
        ([0.0, 3.0, 3.0], [-1, 1, 0]),
        ([0.0, 1.0, 3.0], [-1, 0, 1]),
        ([1000.0, -1000.0, 0.0], [0, 0, 0]),
        ([-1000.0, 1000.0, 0.0], [-1, 1, 0]),
    ],
)
def test_the_derivative_of_multiclass_hinge_at_ties_and_extremes(y, expected):
    y, t = jnp.array([y]), jnp.array([[1.0, 0, 0]])
    np.testing.assert_array_equal(losses.multiclass_hinge.grad(y, t), [expected])
    np.testing.assert_array_equal(autodiff(losses.multiclass_hinge, y, t), [expected])
    np.testing.assert_array_equal(losses.sparse_multiclass_hinge.grad(y, jnp.array([0])), [expected])


@pytest.mark.slow
@given(st.lists(st.integers(-3, 3), min_size=4, max_size=4), st.integers(0, 3))
def test_by_hand_and_by_autodiff_agree_at_every_tie(scores, label):
    y, t = jnp.array([scores], jnp.float32), jnp.array([label])
    for loss in (losses.sparse_multiclass_hinge, losses.smoothed(losses.sparse_multiclass_hinge, 0.5)):
        np.testing.assert_allclose(loss.grad(y, t), autodiff(loss, y, t), atol=1e-6)
        assert abs(loss.grad(y, t).sum()) < 1e-6
