"""The derivative of a batch's cost: by hand equals autodiff, weights and masks mean what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import fnn
from experiments.derivatives.losses import LOSSES, numbers
from tests.helpers.compare import normwise

MAKERS = [fnn.autodiff, fnn.backprop]
both = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
END = {
    "distributions": (fnn.softmax,),
    "probabilities": (fnn.sigmoid,),
}  # losses on probabilities want outputs in (0, 1)

NET = fnn.serial(fnn.dense(4, bias_init=0.5), fnn.tanh, fnn.dense(3))
LOSS = fnn.losses.softmax_cross_entropy


def task(rows=6, seed=0):
    params, state, _ = NET.init(jax.random.key(seed), (2,))
    return params, state, jnp.asarray(numbers("reals", rows, 2)), jnp.asarray(numbers("distributions", rows, 3))


# ---- by hand equals autodiff


@pytest.mark.slow  # each rule is proven by itself in test_proof
@pytest.mark.parametrize("case", LOSSES, ids=lambda case: str(case.loss))
def test_by_hand_equals_autodiff_with_every_loss(case, x64):
    k = 4 if case.name == "class_weighted" else 3
    net = fnn.serial(fnn.dense(4, bias_init=0.5), fnn.tanh, fnn.dense(k), *END.get(case.outputs, ()))
    params, state, _ = net.init(jax.random.key(0), (2,))
    x, t = jnp.asarray(numbers("reals", 5, 2)), jnp.asarray(numbers(case.targets, 5, k))
    by_hand, by_autodiff = (m(net, case.loss)(params, state, x, t) for m in (fnn.backprop, fnn.autodiff))
    assert normwise(by_hand, by_autodiff) < 1e-12


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("penalty", [None, fnn.penalties.l2(0.1), fnn.penalties.l1(0.1)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_by_hand_equals_autodiff_with_weights_penalties_and_reductions(reduction, penalty, weighted, x64):
    params, state, x, t = task()
    weight = jnp.array([1.0, 0.0, 2.0, 0.5, 3.0, 0.0]) if weighted else None
    train = fnn.Rows(weight > 0) if weighted else True
    one, two = (m(NET, LOSS, penalty, reduction)(params, state, x, t, weight, train=train) for m in MAKERS)
    assert normwise(one, two) < 1e-12


@both
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_cost_is_the_weighted_mean_or_sum_of_the_losses_plus_the_penalty(maker, reduction, x64):
    params, state, x, t = task()
    weight, penalty = jnp.array([1.0, 0.0, 2.0, 0.5, 3.0, 0.0]), fnn.penalties.l2(0.1)

    def cost(params):
        losses = LOSS(NET.forward(params, state, x, None, True)[0], t)
        return sum(weight[i] * losses[i] for i in range(6)) / (6.5 if reduction == "mean" else 1.0) + penalty(params)

    got = maker(NET, LOSS, penalty, reduction)(params, state, x, t, weight)
    assert normwise(got.grads, jax.grad(cost)(params)) < 1e-12
    y = NET.forward(params, state, x, None, True)[0]
    np.testing.assert_allclose(got.total, (weight * LOSS(y, t)).sum(), rtol=1e-12)
    np.testing.assert_array_equal(got.outputs, y)
    assert got.weight == 6.5 and got.state == state


@both
def test_backprop_of_a_worked_example(maker):
    """y = w x = 1, 2 against t = 3, 3: losses 4 and 1, mean 2.5; dw = mean of 2 (y - t) x = (-4 - 4)/2."""
    net = fnn.serial(fnn.dense(1))
    params = ({"w": jnp.array([[1.0]]), "b": jnp.array([0.0])},)
    x, t = jnp.array([[1.0], [2.0]]), jnp.array([[3.0], [3.0]])
    got = maker(net, fnn.losses.squared_error)(params, ((),), x, t)
    assert (got.total, got.weight) == (5.0, 2.0)
    np.testing.assert_array_equal(got.grads[0]["w"], [[-4.0]])
    np.testing.assert_array_equal(got.grads[0]["b"], [-3.0])
    got = maker(net, fnn.losses.squared_error, fnn.penalties.l2(1.0), "sum")(params, ((),), x, t)
    assert got.total == 5.0
    np.testing.assert_array_equal(got.grads[0]["w"], [[-6.0]])


def test_layers_that_draw_numbers_draw_the_same_by_hand_and_by_autodiff(x64):
    net = fnn.serial(fnn.dense(4), fnn.rrelu(0.1, 0.9), fnn.dense(3))
    params, state, _ = net.init(jax.random.key(0), (2,))
    _, _, x, t = task()
    one, other, same = (fnn.autodiff(net, LOSS)(params, state, x, t, key=jax.random.key(k)) for k in (1, 2, 1))
    by_hand = fnn.backprop(net, LOSS)(params, state, x, t, key=jax.random.key(1))
    assert normwise(by_hand, one) < 1e-12 and normwise(same, one) == 0 and normwise(other, one) > 1e-3


# ---- what a weight means


@pytest.mark.parametrize("maker", [pytest.param(fnn.autodiff, marks=pytest.mark.slow), fnn.backprop])
@given(st.permutations([0, 1, 0, 1, 2, 3]), st.sampled_from(["mean", "sum"]))
def test_weight_k_equals_k_copies_and_weight_0_none(maker, counts, reduction):
    with jax.enable_x64(True):
        params, state, x, t = task()
        weighted = maker(NET, LOSS, None, reduction)(params, state, x, t, jnp.array(counts, float))
        copies = maker(NET, LOSS, None, reduction)(params, state, np.repeat(x, counts, 0), np.repeat(t, counts, 0))
        assert normwise(weighted.grads, copies.grads) < 1e-11
        np.testing.assert_allclose(weighted.total, copies.total, rtol=1e-12)
        assert weighted.weight == copies.weight == 7


@both
def test_masked_rows_count_as_if_removed_whatever_is_in_them(maker, x64):
    params, state, x, t = task()
    mask = jnp.array([True, True, False, True, False, True])
    strange = jnp.where(mask[:, None], x, 1e6)
    masked = maker(NET, LOSS)(params, state, strange, t, mask.astype(float), train=fnn.Rows(mask))
    removed = maker(NET, LOSS)(params, state, x[mask], t[mask])
    assert normwise(masked.grads, removed.grads) < 1e-12
    np.testing.assert_allclose([masked.total, masked.weight], [removed.total, removed.weight], rtol=1e-12)


@both
def test_a_batch_without_weight_has_derivative_0(maker, x64):
    params, state, x, t = task()
    got = maker(NET, LOSS)(params, state, x, t, jnp.zeros(6))
    assert got.total == got.weight == 0
    assert jax.tree.all(jax.tree.map(lambda a: bool((a == 0).all()), got.grads))


def test_nan_losses_of_masked_rows_do_not_count(x64):
    params, state, x, t = task()
    mask = jnp.array([True, True, False, True, False, True])
    by_hand = fnn.backprop(NET, LOSS)(params, state, x, t.at[2].set(jnp.nan), mask.astype(float))
    assert normwise(by_hand.grads, fnn.backprop(NET, LOSS)(params, state, x[mask], t[mask]).grads) < 1e-12
    assert np.isfinite(by_hand.total)


# ---- what a user may hand over, and what raises


@both
def test_any_callable_is_a_loss(maker, x64):
    params, state, x, t = task()
    got = maker(NET, lambda y, t: ((y - t) ** 2).sum(-1))(params, state, x, t)
    assert normwise(got.grads, maker(NET, fnn.losses.squared_error)(params, state, x, t).grads) < 1e-12


@both
@pytest.mark.parametrize("reduce", [lambda e: e.mean(), lambda e: e.sum(0), lambda e: e, lambda e: e.sum(-1)[:, None]])
def test_a_loss_that_is_not_one_number_a_row_raises(maker, reduce, x64):
    params, state, x, t = task()
    with pytest.raises(fnn.ShapeError, match=r"loss: expected one number per row, shape \(6,\), got .* Reduce"):
        maker(NET, lambda y, t: reduce((y - t) ** 2))(params, state, x, t)


@both
def test_a_reduction_that_is_none_raises(maker):
    with pytest.raises(ValueError, match=r"reduction: expected 'mean' or 'sum', got 'avg'\. [A-Z]"):
        maker(NET, LOSS, reduction="avg")


@both
def test_targets_that_do_not_fit_the_outputs_raise(maker, x64):
    params, state, x, _ = task()
    with pytest.raises(fnn.ShapeError, match=r"softmax_cross_entropy: expected targets of the shape .*\(6, 3\)"):
        maker(NET, LOSS)(params, state, x, jnp.zeros(6))
