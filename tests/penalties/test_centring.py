"""A linear model's coordinates, inputs centred and bias scaled: what they are, and that the optimum is the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Lasso, LogisticRegression

import fnn
from fnn.optimizers import fista, proximal_l1
from fnn.penalties.centring import Centring, centre_gradient, centre_params, init_centring, restore_params
from fnn.penalties.step_size import MARGIN

SHARES = np.array([0.5, 0.2, 0.1, 0.05, 0.02])  # of the α at which all weights are 0


def uncentred_rows(rows=80, columns=12, seed=0):
    """Columns whose means are many times their deviations, targets far from 0, and two classes of unlike size."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)) + rng.uniform(3, 6, columns)
    t = x[:, 0] - 0.5 * x[:, 1] + rng.normal(size=rows)
    return x, t + 100, (t > np.quantile(t, 0.8)).astype(float)


def cost_of(loss, x, t):
    return lambda p: fnn.gradients.cost.batch_cost(fnn.dense(t.shape[1]), loss)[0](p, (), x, t)


def fit_path(loss, x, t, tolerance=1e-11, epochs=3_000, **more):
    """Runs at all α, in one program: the share of α, α, the weights, the bias, the steps."""
    largest = np.abs(x.T @ (t - t.mean())).max() / len(x)
    net, data = fnn.dense(1, weight_init=0.0), fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(t)[:, None]))
    training = fnn.trainer(net, loss, lambda s: fista(s["alpha"], tolerance=tolerance, **more))

    def run(alpha):
        start = training.init(jax.random.key(0), data, {"alpha": alpha})
        return training.run(start, data, epochs)[0]

    ends = jax.jit(jax.vmap(run))(jnp.asarray(SHARES * largest))
    return SHARES * largest, np.asarray(ends.params["w"])[:, :, 0], np.asarray(ends.params["b"])[:, 0], ends.epoch


@pytest.mark.slow
def test_the_lasso_at_five_alphas_in_few_steps(x64):
    x, t, _ = uncentred_rows()
    for alpha, w, b, steps in zip(*fit_path(fnn.losses.half_squared_error, x, t), strict=True):
        oracle = Lasso(alpha=alpha, tol=1e-14, max_iter=1_000_000).fit(x, t)
        np.testing.assert_allclose([*w, b], [*oracle.coef_, oracle.intercept_], 1e-8, 1e-8)
        np.testing.assert_array_equal(w == 0, oracle.coef_ == 0)
        assert steps < 150  # without centring more than 3,000


@pytest.mark.slow
def test_logistic_regression_at_five_alphas_has_the_conditions_of_an_optimum(x64):
    """`∂J/∂w = -α sign(w)` where w is not 0, and within α elsewhere; `∂J/∂b = 0`."""
    x, _, t = uncentred_rows()
    kept = []
    for alpha, w, b, steps in zip(*fit_path(fnn.losses.sigmoid_cross_entropy, x, t), strict=True):
        rest = (1 / (1 + np.exp(-(x @ w + b))) - t) / len(x)
        slope = x.T @ rest
        np.testing.assert_allclose(slope[w != 0], -alpha * np.sign(w[w != 0]), 1e-8)
        assert (np.abs(slope[w == 0]) < alpha).all() and abs(rest.sum()) < 1e-9 and steps < 1_000
        kept.append(int((w != 0).sum()))
    assert kept == sorted(kept) and 0 < kept[0] < kept[-1]


@pytest.mark.slow
def test_logistic_regression_at_five_alphas_is_that_of_saga(x64):
    x, _, t = uncentred_rows()
    centre = x.mean(0)  # saga needs centred columns to end
    for alpha, w, b, _ in zip(*fit_path(fnn.losses.sigmoid_cross_entropy, x, t), strict=True):
        oracle = LogisticRegression(l1_ratio=1.0, solver="saga", C=1 / (alpha * len(x)), tol=1e-12, max_iter=1_000_000)
        oracle.fit(x - centre, t)
        np.testing.assert_allclose(w, oracle.coef_[0], 1e-6, 1e-8)
        np.testing.assert_allclose(b + centre @ w, oracle.intercept_[0], 1e-6)
        np.testing.assert_array_equal(w == 0, oracle.coef_[0] == 0)


@pytest.mark.parametrize("loss, outputs", [("half_squared_error", 3), ("sigmoid_cross_entropy", 1)])
def test_the_cost_bends_alike_in_all_directions_and_the_bias_by_itself(loss, outputs, x64):
    """The Hessian in these coordinates, by autodiff: nothing between weights and bias, the same largest eigenvalue."""
    x, t, label = uncentred_rows()
    t = label[:, None] if outputs == 1 else np.stack([np.roll(t, k) for k in range(outputs)], 1)
    loss = getattr(fnn.losses, loss)
    run = fnn.fit(fnn.dense(outputs, weight_init=0.0), loss, fista(1.0), (x, t), epochs=1)
    size = run.train_state.optimizer.size
    np.testing.assert_allclose(size.centring.mean, x.mean(0), 1e-12)

    def in_these(flat):
        params = {"w": flat[:-outputs].reshape(12, outputs), "b": flat[-outputs:]}
        return cost_of(loss, x, t)(restore_params(size.centring, params, None))

    hessian = np.asarray(jax.jit(jax.hessian(in_these))(jnp.zeros(13 * outputs)))
    between, apart = hessian[:-outputs, -outputs:], (hessian[:-outputs, :-outputs], hessian[-outputs:, -outputs:])
    assert np.abs(between).max() < 1e-11 * np.abs(hessian).max()
    for block in apart:
        np.testing.assert_allclose(np.linalg.eigvalsh(block)[-1] * MARGIN, size.curvature, 1e-6)


def test_the_way_there_and_back_and_the_gradient(x64):
    x, _, _ = uncentred_rows()
    rng = np.random.default_rng(1)
    t = np.eye(3)[rng.integers(0, 3, len(x))]
    held = Centring(jnp.asarray(rng.normal(size=12)), jnp.asarray(0.3))
    params = {"w": jnp.asarray(rng.normal(size=(12, 3))), "b": jnp.asarray(rng.normal(size=3))}
    there = centre_params(held, params, None)
    back = restore_params(held, there, None)
    cost = cost_of(fnn.losses.softmax_cross_entropy, x, t)
    expected = jax.grad(lambda p: cost(restore_params(held, p, None)))(there)
    slope = centre_gradient(held, jax.grad(cost)(params), None)
    for name in params:
        np.testing.assert_allclose(back[name], params[name], 1e-12)
        np.testing.assert_allclose(slope[name], expected[name], 1e-11, 1e-12)
    assert centre_params(None, params, None) is params and restore_params(None, params, None) is params


def test_only_a_linear_model_with_a_bias_is_centred():
    w, b = jnp.ones((4, 2)), jnp.ones(2)
    assert init_centring({"kernel": w, "bias": b}, None).mean.shape == (4,)
    assert init_centring(({"w": jnp.ones((3, 3, 4, 2)), "b": b}, ()), None).mean.shape == (3, 3, 4)
    others = {"w": w}, {"w": w, "b": jnp.ones(3)}, ({"w": w, "b": b}, {"w": w, "b": b}), {"w": jnp.ones(2), "b": b}, {}
    assert [init_centring(params, None) for params in others] == [None] * 5
    assert init_centring({"w": w, "b": b}, lambda p: {"w": True, "b": True}) is None


@pytest.mark.slow
def test_proximal_l1_is_the_lasso_too(x64):
    """And its first step brings the bias to the mean of what the weights leave, but for the margin."""
    x, t, _ = uncentred_rows()
    net, loss, data = fnn.dense(1, weight_init=0.0), fnn.losses.half_squared_error, (x, t[:, None])
    first = fnn.fit(net, loss, proximal_l1(0.1), data, epochs=1).params
    np.testing.assert_allclose(first["b"], t.mean() / MARGIN - x.mean(0) @ first["w"][:, 0], 1e-10)
    run = fnn.fit(net, loss, proximal_l1(0.1), data, epochs=200)
    oracle = Lasso(alpha=0.1, tol=1e-14, max_iter=1_000_000).fit(x, t)
    np.testing.assert_allclose(run.params["w"][:, 0], oracle.coef_, 1e-8, 1e-10)
    np.testing.assert_allclose(run.params["b"], oracle.intercept_, 1e-8)


@pytest.mark.slow
def test_the_curvature_of_many_columns_is_found_in_few_rounds():
    """The largest eigenvalues are close together; at most 2 % is missing, which the margin makes up for."""
    x = np.random.default_rng(0).normal(size=(300, 200)).astype("float32")
    size = fnn.fit(fnn.dense(1), fnn.losses.half_squared_error, fista(1.0), (x, x[:, :1]), epochs=1)
    size = size.train_state.optimizer.size
    assert 0.99 < size.curvature / np.linalg.eigvalsh(np.cov(x.T, bias=True))[-1] <= MARGIN + 1e-5


# ---- the tolerance


def test_a_run_does_not_end_before_its_bias_has(x64):
    """All weights are 0 from the first step on; the bias becomes that of the classes' shares."""
    x, _, t = uncentred_rows()
    net, largest = fnn.dense(1, weight_init=0.0), np.abs(x.T @ (t - t.mean())).max() / len(x)
    run = fnn.fit(net, fnn.losses.sigmoid_cross_entropy, fista(1.01 * largest, tolerance=1e-8), (x, t[:, None]),
                  epochs=500)  # fmt: skip
    assert not run.params["w"].any() and len(run.history.loss) < 500
    np.testing.assert_allclose(run.params["b"], np.log(t.mean() / (1 - t.mean())), 1e-6)


@pytest.mark.slow
def test_a_large_bias_does_not_hide_the_weights(x64):
    x, t, _ = uncentred_rows()
    run = fnn.fit(fnn.dense(1, weight_init=0.0), fnn.losses.half_squared_error, fista(0.01, tolerance=1e-5),
                  (x, t[:, None] + 1e6), epochs=500)  # fmt: skip
    expected = Lasso(alpha=0.01, tol=1e-12, max_iter=1_000_000).fit(x, t).coef_
    np.testing.assert_allclose(run.params["w"][:, 0], expected, 1e-3, 1e-4)
