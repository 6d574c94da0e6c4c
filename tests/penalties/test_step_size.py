"""Descent that finds its step size: the largest curvature, at the first step and on the way; and what is said of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression

import fnn
from fnn.optimizers import fista, proximal_l1
from fnn.penalties.step_size import MARGIN
from tests.penalties.test_proximal import assert_is_lasso, diabetes

both = pytest.mark.parametrize("make", [fista, proximal_l1])


def trained(optimizer, epochs, loss=fnn.losses.half_squared_error, t=None, **more):
    x, own, _ = diabetes()
    net = fnn.dense(1, weight_init=0.0)
    return fnn.fit(net, loss, optimizer, (x, (own if t is None else t)[:, None]), epochs=epochs, **more)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_both_are_the_lasso_without_a_learning_rate(alpha, x64):
    assert_is_lasso(trained(fista(alpha), 1_000).params, alpha)
    assert_is_lasso(trained(proximal_l1(alpha), 14_000).params, alpha)


@both
@pytest.mark.parametrize("gradient", [pytest.param(fnn.autodiff, marks=pytest.mark.slow), fnn.backprop])
def test_the_curvature_is_the_largest_eigenvalue(make, gradient, x64):
    x, _, _ = diabetes()
    largest = np.linalg.eigvalsh(np.cov(x.T, bias=True))[-1]  # the bias has 1, apart from them
    size = trained(make(1.0), 3, gradient=gradient).train_state.optimizer.size
    assert 1 <= size.curvature / largest <= MARGIN + 1e-12


@pytest.mark.slow
def test_logistic_regression_without_a_learning_rate_is_that_of_saga(x64):
    x, t, _ = diabetes()
    label = (t > np.median(t)).astype(float)
    run = trained(fista(0.03, tolerance=1e-9), 3_000, fnn.losses.sigmoid_cross_entropy, label)
    oracle = LogisticRegression(l1_ratio=1.0, solver="saga", C=1 / (0.03 * len(x)), tol=1e-10, max_iter=100_000)
    expected = oracle.fit(x, label).coef_[0]
    np.testing.assert_allclose(run.params["w"][:, 0], expected, 1e-4, 1e-7)
    np.testing.assert_array_equal(run.params["w"][:, 0] == 0, expected == 0)
    assert len(run.history.loss) < 500


def test_a_curvature_that_grows_is_met(x64):
    """Of `w⁴` it is 12 w²: 1e-6 at the start, where the step would be so long that the run diverges."""
    y, steps = jnp.array([3e-4]), 4_000
    for make in (lambda: fista(0.0), lambda: proximal_l1(0.0)):
        optimizer = make()
        gradient = jax.grad(lambda w: ((w - 1) ** 2 * (w + 1) ** 2).sum())

        @jax.jit
        def step(carry, optimizer=optimizer, gradient=gradient):
            w, state = carry
            g = gradient(w)
            updates, state = optimizer.update(g, state, w, grad=g, grad_fn=gradient)
            return optax.apply_updates(w, updates), state

        carry = y, optimizer.init(y)
        carry = jax.lax.fori_loop(0, steps, lambda _, carry, step=step: step(carry), carry)
        np.testing.assert_allclose(np.abs(carry[0]), 1.0, 1e-6)
        assert carry[1].size.curvature >= 8 / 1.05  # at the minimum


def test_a_cost_without_curvature_and_an_empty_network_have_a_step_size():
    for params in ({"w": jnp.ones(3)}, {}):
        optimizer = fista(0.0)
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, state = optimizer.update(zeros, optimizer.init(params), params, grad=zeros, grad_fn=lambda p: zeros)  # noqa: B023
        assert not any(leaf.any() for leaf in jax.tree.leaves(updates)) and state.size.curvature == 0


def test_what_stands_before_it_in_a_chain_is_not_used(x64):
    expected = trained(proximal_l1(1.0), 5).params
    chained = trained(optax.chain(optax.sgd(0.1), proximal_l1(1.0)), 5).params
    np.testing.assert_array_equal(chained["w"], expected["w"])


@pytest.mark.slow
@both
def test_members_of_a_study_are_those_alone(make, x64):
    x, t, _ = diabetes()
    net = fnn.dense(1, weight_init=0.0)
    found = fnn.sweep(
        net,
        fnn.losses.half_squared_error,
        lambda s: make(s["alpha"]),
        (x, t[:, None]),
        over={"alpha": [0.1, 10.0]},
        epochs=50,
        validation=(x, t[:, None]),
    )
    for alpha, loss in zip((0.1, 10.0), found.table["validation_loss"], strict=True):
        alone = trained(make(alpha), 50, validation=(x, t[:, None]))
        np.testing.assert_allclose(loss, min(alone.history.validation_loss), 1e-9)


def test_a_tolerance_ends_the_run_at_the_sparse_solution(x64):
    run = trained(fista(10.0, tolerance=1e-10), 5_000)
    state = run.train_state.optimizer
    assert 10 < int(state.step) < 2_000 and bool(state.ended)
    np.testing.assert_array_equal(run.params["w"], state.x["w"])
    assert_is_lasso(run.params, 10.0)


@both
def test_mini_batches_are_refused(make, x64):
    with pytest.raises(ValueError, match="expected all rows in one batch for fista and proximal_l1 without a learning"):
        trained(make(1.0), 1, batch_size=50)
    trained(optax.chain(optax.sgd(1e-3), proximal_l1(50.0, 1e-3)), 1, batch_size=50)


@both
def test_without_the_gradient_it_is_refused(make):
    optimizer, w = make(1.0), {"w": jnp.ones(2)}
    with pytest.raises(
        ValueError, match=f"{make.__name__}: expected the gradient and its function to find a step size"
    ):
        optimizer.update(w, optimizer.init(w), w)


def sparse_problem(noise):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 40)).astype("float32")
    return x, (x[:, :1] + noise * rng.normal(size=(200, 1))).astype("float32")


def batched(data, alpha, size):
    optimizer = optax.chain(optax.sgd(0.02), proximal_l1(alpha, learning_rate=0.02))
    net, loss = fnn.dense(1, weight_init=0.0), fnn.losses.half_squared_error
    return fnn.fit(net, loss, optimizer, data, epochs=40, batch_size=size)


@pytest.mark.slow
def test_weights_that_come_and_go_are_said():
    with pytest.warns(UserWarning, match=r"optimizer: expected weights that stay 0, got \d+ that become 0 or cease"):
        batched(sparse_problem(3.0), 0.3, 10)
    batched(sparse_problem(3.0), 0.3, None)  # all rows
    batched(sparse_problem(0.01), 0.3, 50)  # gradients are alike
