"""`joint` and `masked`: what a row counts, what a missing target counts, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import losses

Y = {"a": jnp.asarray([[1.0], [2.0], [3.0]]), "b": jnp.asarray([[0.0, 1.0], [1.0, 0.0], [jnp.inf, 0.0]])}
T = {"a": jnp.asarray([[0.0], [jnp.nan], [0.0]]), "b": jnp.asarray([1, -1, -1]), "w": jnp.asarray([2.0, 1.0, 0.0])}
SPARSE = losses.sparse_softmax_cross_entropy
LOSS = losses.joint(a=(1.0, losses.masked(losses.squared_error), "w"), b=(0.5, losses.masked(SPARSE, -1)))


def test_missing_targets_and_weights_of_0_count_nothing():
    of_b = 0.5 * SPARSE(Y["b"][:1], T["b"][:1])[0]
    np.testing.assert_allclose(LOSS(Y, T), [2 + of_b, 0, 0], rtol=1e-6)
    by_hand = LOSS.grad(Y, T)
    np.testing.assert_array_equal(by_hand["a"].ravel(), [4, 0, 0])
    assert not by_hand["b"][1:].any()
    by_autodiff = jax.grad(lambda y: LOSS(y, T).sum())(Y)
    for name in "ab":
        np.testing.assert_allclose(by_autodiff[name], by_hand[name], rtol=1e-6)


def test_labels_that_are_there_are_checked():
    shape = {"a": jax.ShapeDtypeStruct((3, 1), "float32"), "b": jax.ShapeDtypeStruct((3, 2), "float32")}
    t = jax.tree.map(np.asarray, T)
    LOSS.check(shape, t)
    with pytest.raises(ValueError, match=r'targets\["b"\]: .*class numbers from 0 to 1, got 2 in row 2'):
        LOSS.check(shape, {**t, "b": np.array([1, -1, 2])})
    LOSS.check(shape, {**t, "b": np.array([-1, -1, -1])})


def test_residuals_give_the_sum_of_squares():
    loss = losses.joint(a=(2.0, losses.squared_error, "w"), b=(0.5, losses.masked(losses.half_squared_error)))
    y = {"a": Y["a"], "b": Y["a"] ** 2}
    t = {"a": jnp.zeros((3, 1)), "b": T["a"], "w": T["w"]}
    np.testing.assert_allclose((loss.residuals(y, t) ** 2).sum(1), loss(y, t), rtol=1e-6)
    assert LOSS.residuals is None and LOSS.missing["b"] == -1 and np.isnan(LOSS.missing["a"])


def test_a_joint_loss_lies_in_another():
    inner = losses.joint(c=(1.0, losses.squared_error))
    loss = losses.joint(a=(1.0, losses.squared_error), d=(0.5, inner))
    y = {"a": Y["a"], "d": {"c": Y["a"]}}
    np.testing.assert_allclose(loss(y, jax.tree.map(jnp.zeros_like, y)), 1.5 * Y["a"].ravel() ** 2)


@pytest.mark.parametrize(
    "make, wanted",
    [
        (lambda: losses.joint(), "joint: expected a term per output, got none"),
        (lambda: losses.joint(a=losses.squared_error), r"joint: expected \(coefficient, loss\) for 'a'"),
        (lambda: losses.joint(a=(-1.0, losses.squared_error)), "joint: expected a coefficient"),
        (lambda: losses.masked(losses.squared_error, "none"), "masked: expected a missing of nan or a number"),
        (lambda: losses.smoothed(losses.masked(SPARSE, -1), 0.1), r"smoothed: .* Put masked\(…\) around"),
        (lambda: losses.class_weighted(losses.masked(SPARSE, -1), (1, 2)), "class_weighted: expected a loss without"),
        (lambda: LOSS(Y["a"], T), "joint: expected outputs named a, b"),
        (lambda: LOSS(Y, {**T, "z": 1}), "joint: expected targets named a, w, b"),
        (lambda: losses.masked(losses.squared_error)(Y["a"], T["a"][1:]), "masked: expected one target per row"),
    ],
)
def test_what_does_not_fit_is_named(make, wanted):
    with pytest.raises((ValueError, TypeError), match=wanted):
        make()


def test_functions_of_several_outputs_are_losses():
    loss = fnn.losses.as_loss(lambda y, t: (y["a"] - t["a"])[:, 0] ** 2)
    t = {"a": jnp.zeros((3, 1)), "b": T["b"]}
    np.testing.assert_allclose(loss.grad(Y, t)["a"], 2 * Y["a"])
    wrong = losses.from_function(lambda y, t: (y["a"] - t["a"])[:, 0] ** 2, grad=lambda y, t: y["a"])
    with pytest.raises(fnn.ShapeError, match=r"loss.grad of .*: expected arrays like the outputs"):
        wrong.grad(Y, t)
