"""Laplace's approximation: exact for linear models, and it calibrates a small classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import losses, penalties
from tests.helpers.compare import has_hint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
T = X @ [[1.0], [-2.0], [0.5]] + 0.3 + 0.2 * RNG.normal(size=(30, 1))
NET = fnn.serial(fnn.dense(1))
SIGMA, COEFFICIENT = 0.25, 1e-3


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def all_of_them(params):
    return jax.tree.map(lambda a: True, params)


@pytest.mark.parametrize("weights", [None, np.arange(30) % 3])
@pytest.mark.parametrize("loss", [losses.squared_error, losses.half_squared_error])
@pytest.mark.parametrize("reduction", ["mean", pytest.param("sum", marks=pytest.mark.slow)])
def test_it_is_bayesian_linear_regression_for_a_linear_model(double, loss, weights, reduction):
    scale = {losses.squared_error: 1.0, losses.half_squared_error: 0.5}[loss]
    penalty = penalties.l2(COEFFICIENT, mask=all_of_them)
    data = {"penalty": penalty, "reduction": reduction}
    run = fnn.fit(
        NET, loss, fnn.optimizers.levenberg_marquardt(), (X, T), epochs=50, weights=weights, progress=False, **data
    )
    found = fnn.laplace(
        net=NET, run=run, data=(X, T) if weights is None else (X, T, weights), loss=loss, noise=SIGMA, **data
    )

    # weight k is k copies of the row; the closed form, with the bias as a feature that is always 1
    copies = np.repeat(np.arange(30), 1 if weights is None else weights)
    features, t = np.column_stack([np.ones(30), X])[copies], T[copies, 0]
    of_cost = len(copies) if reduction == "mean" else 1.0
    alpha = COEFFICIENT * of_cost / scale / SIGMA**2
    precision = features.T @ features / SIGMA**2 + alpha * np.eye(4)
    mean = np.linalg.solve(precision, features.T @ t) / SIGMA**2
    np.testing.assert_allclose(found.theta, mean, rtol=1e-10)
    np.testing.assert_allclose(found.covariance(), np.linalg.inv(precision), rtol=1e-10, atol=1e-14)
    at = np.column_stack([np.ones(5), RNG.normal(size=(5, 3)) * 3])
    outputs, deviations = found.predict(at[:, 1:])
    np.testing.assert_allclose(outputs[:, 0], at @ mean, rtol=1e-10)
    variance = np.einsum("ij,jk,ik->i", at, np.linalg.inv(precision), at)
    np.testing.assert_allclose(deviations[:, 0], np.sqrt(variance), rtol=1e-10)
    marginal = SIGMA**2 * np.eye(len(t)) + features @ features.T / alpha
    evidence = -0.5 * (t @ np.linalg.solve(marginal, t) + np.linalg.slogdet(2 * np.pi * marginal)[1])
    assert found.log_evidence == pytest.approx(evidence, rel=1e-10)


@pytest.mark.slow
def test_several_outputs_and_hidden_layers_have_the_deviations_of_sampled_networks(double):
    net = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(2))
    t = np.column_stack([np.sin(X[:, 0]), X[:, 1]])
    penalty = penalties.l2(1e-3, mask=all_of_them)
    run = fnn.fit(
        net,
        losses.squared_error,
        fnn.optimizers.levenberg_marquardt(),
        (X, t),
        epochs=300,
        penalty=penalty,
        progress=False,
    )
    found = fnn.laplace(net, run, (X, t), losses.squared_error, penalty=penalty, noise=1e-3)  # a narrow Gaussian
    flat, unravel = jax.flatten_util.ravel_pytree(run.params)
    draws = jax.random.multivariate_normal(jax.random.key(0), flat, found.covariance(), (4_000,))
    outputs = jax.jit(jax.vmap(lambda d: net.forward(unravel(d), run.state, jnp.asarray(X[:4]), None, False)[0]))(draws)
    np.testing.assert_allclose(found.predict(X[:4])[1], outputs.std(0), rtol=0.06)


def classes(seed, count):
    rng = np.random.default_rng(seed)
    c = np.arange(count) % 2
    return rng.normal(size=(count, 2)) * 1.2 + np.where(c[:, None], 1.0, -1.0), c


def calibration_error(probabilities, c, bins=10):
    """Expected calibration error: the mean distance of confidence and share of right ones, over bins of confidence."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == c
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [(at == b).mean() * abs(confidence[at == b].mean() - right[at == b].mean()) for b in set(at)]
    return float(sum(parts))


def errors_of(seed):
    x, c = classes(seed, 60)
    held, of_held = classes(100 + seed, 2_000)
    net, loss = fnn.serial(fnn.dense(20), fnn.tanh, fnn.dense(2)), losses.sparse_softmax_cross_entropy
    penalty = penalties.l2(1e-3, mask=all_of_them)
    run = fnn.fit(net, loss, optax.lbfgs(), (x, c), epochs=400, penalty=penalty, key=seed, progress=False)
    around = fnn.laplace(net, run, (x, c), loss, penalty=penalty)
    plain = np.asarray(jax.nn.softmax(fnn.predict(net, run, held)))
    return calibration_error(plain, of_held), calibration_error(around.probabilities(held), of_held)


@pytest.mark.slow
def test_a_small_classifier_is_better_calibrated(double):
    pairs = np.array([errors_of(seed) for seed in range(10)])
    print("mean calibration error, plain and Laplace's:", pairs.mean(0), (pairs[:, 1] < pairs[:, 0]).sum())
    assert pairs[:, 1].mean() < 0.8 * pairs[:, 0].mean() and (pairs[:, 1] < pairs[:, 0]).sum() >= 7


@pytest.mark.slow
def test_probabilities_are_less_sure(double):
    net, loss = fnn.serial(fnn.dense(1)), losses.sigmoid_cross_entropy
    x, c = classes(0, 20)
    penalty = penalties.l2(0.01)
    run = fnn.fit(net, loss, optax.lbfgs(), (x, c[:, None]), epochs=30, penalty=penalty, progress=False)
    found = fnn.laplace(net, run, (x, c[:, None]), loss, penalty=penalty)
    plain = np.asarray(jax.nn.sigmoid(fnn.predict(net, run, x)))
    assert found.noise is None and (np.abs(found.probabilities(x) - 0.5) < np.abs(plain - 0.5)).all()
    assert "log evidence" in repr(found)


def regression(**more):
    run = fnn.fit(NET, losses.squared_error, optax.sgd(0.1), (X, T), epochs=3, progress=False)
    arguments = {"net": NET, "run": run, "data": (X, T), "loss": losses.squared_error} | more
    return fnn.laplace(**arguments)


WRONG = {
    "a loss of another kind": lambda: regression(loss=losses.absolute_error),
    "another penalty": lambda: regression(penalty=penalties.l1(0.1)),
    "noise 0": lambda: regression(noise=0.0),
    "another network": lambda: regression(net=fnn.serial(fnn.dense(2))),
    "no rows": lambda: regression().predict(np.zeros((0, 3))),
    "probabilities of a regression": lambda: regression().probabilities(X),
    "too few rows": lambda: regression(data=(X[:2], T[:2])),
    "a reduction": lambda: regression(reduction="median"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(double, name):
    with pytest.raises((ValueError, TypeError)) as caught:
        WRONG[name]()
    assert has_hint(str(caught.value)), str(caught.value)
