"""`optax.lbfgs` in every entry point: it reaches what SciPy's reaches; members, folds and resumed runs are right."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from experiments.nist import PROBLEMS, as_network
from fnn import losses, penalties
from tests.helpers.problems import same_bits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
T = (RNG.uniform(size=(60, 1)) < 1 / (1 + np.exp(-X @ [[1.0], [-2.0], [0.5]]))).astype(float)
NET = fnn.serial(fnn.dense(1))
LOSS = losses.sigmoid_cross_entropy


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def fit(**more):
    arguments = {"epochs": 60, "penalty": penalties.l2(0.01), "progress": False} | more
    return fnn.fit(NET, LOSS, optax.lbfgs(), (X, T), **arguments)


def test_a_convex_cost_is_at_scipys_minimum(double):
    minimize = pytest.importorskip("scipy.optimize").minimize

    def cost(w):
        y = X @ w[:3] + w[3]
        return np.mean(np.logaddexp(0, y) - T[:, 0] * y) + float(penalties.l2(0.01)([{"w": jnp.asarray(w[:3, None])}]))

    params = fit().params
    found = np.append(params[0]["w"][:, 0], params[0]["b"])
    best = minimize(cost, np.zeros(4), method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}).fun
    assert cost(found) <= best * (1 + 1e-8)


def nist_cost(name, start, epochs=2000):
    """What `fit` and SciPy reach."""
    minimize = pytest.importorskip("scipy.optimize").minimize
    problem = PROBLEMS[name]
    cost = jax.jit(jax.value_and_grad(lambda b: jnp.square(problem.formula(b, problem.x) - problem.y).sum()))
    begin = np.array(problem.starts[start], float)
    run = fnn.fit(
        as_network(problem.formula), losses.squared_error, optax.lbfgs(), problem.rows, epochs=epochs,
        params={"b": begin}, reduction="sum", progress=False,
    )  # fmt: skip
    options = {"maxiter": 15_000, "maxfun": 50_000, "ftol": 1e-15, "gtol": 1e-12}
    best = minimize(lambda b: [np.asarray(v) for v in cost(b)], begin, jac=True, method="L-BFGS-B", options=options)
    return float(cost(run.params["b"])[0]), best.fun


def test_a_problem_of_nist_is_at_scipys_minimum(double):
    found, scipy = nist_cost("Misra1a", 1, epochs=200)
    assert found <= scipy * (1 + 1e-8) and found == pytest.approx(PROBLEMS["Misra1a"].squares, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", ["Misra1a", "BoxBOD", "MGH10", "MGH17", "Thurber"])
def test_problems_of_nist_are_at_scipys_minimum(double, name, start):
    found, scipy = nist_cost(name, start)
    certified = PROBLEMS[name].squares
    if start == 1:
        assert found == pytest.approx(certified, rel=1e-8) and found <= scipy * (1 + 1e-8)
    elif scipy < certified * (1 + 1e-6):  # else SciPy does not get there
        assert found <= scipy * (1 + 1e-8)


def check_members(count):
    of_settings = {
        "penalty": lambda s: penalties.l2(s["l2"]),
        "epochs": 20,
        "progress": False,
    }
    values = np.geomspace(1e-3, 1.0, count).tolist()
    found = fnn.sweep(
        NET, LOSS, optax.lbfgs(), (X, T), over={"l2": values}, keep="all", width=min(count, 16), **of_settings
    )
    for i, value in enumerate(values):
        alone = fit(penalty=of_settings["penalty"], settings={"l2": value}, epochs=20)
        for a, b in zip(jax.tree.leaves(found.runs[i].params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_members_of_a_sweep_are_single_runs(double):
    check_members(3)


@pytest.mark.slow
def test_64_members_of_a_sweep_are_single_runs(double):
    check_members(64)


@pytest.mark.slow
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(double, tmp_path):
    whole = fit(epochs=9, batch_size=20)
    fit(epochs=4, batch_size=20, checkpoint=tmp_path)
    same_bits(fit(epochs=9, batch_size=20, checkpoint=tmp_path).train_state, whole.train_state)
    with pytest.raises(ValueError, match=r"optimizer\.update"):
        fnn.fit(
            NET, LOSS, optax.lbfgs(memory_size=5), (X, T), epochs=9, batch_size=20, checkpoint=tmp_path,
            penalty=penalties.l2(0.01), progress=False,
        )  # fmt: skip


def test_a_stream_and_the_trainer_give_the_run_of_the_rows(double):
    by = optax.polyak_sgd(0.5)
    of = {"epochs": 3, "batch_size": 60, "progress": False}
    whole = fnn.fit(NET, LOSS, by, (X, T), shuffle=False, **of)

    def chunks():
        yield X[:25], T[:25]
        yield X[25:], T[25:]

    stream = fnn.fit(NET, LOSS, by, chunks, shuffle=False, **of)
    training = fnn.trainer(NET, LOSS, by)
    data = fnn.Data(fnn.Part(X, T))
    end, _ = jax.jit(lambda s: training.run(s, data, 3))(training.init(0, data))
    for run in (stream.train_state, end):
        for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(whole.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.slow
def test_folds_and_an_ensemble_see_the_cost(double):
    by = optax.polyak_sgd(0.5)
    found = fnn.cross_validate(NET, LOSS, by, (X, T), folds=3, epochs=5, progress=False)
    assert np.isfinite(found.table["validation_loss"]).all()
    members = fnn.ensemble(NET, LOSS, by, (X, T), members=2, epochs=5, progress=False)
    alone = fnn.fit(NET, LOSS, by, (X, T), epochs=5, key=0, progress=False)
    assert jax.tree.leaves(members.params)[0].shape == (2, *jax.tree.leaves(alone.params)[0].shape)
