"""Levenberg-Marquardt: NIST's certified digits, weights and l2, many restarts in one program, refusals in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import fnn
from experiments.nist import PROBLEMS, as_network
from fnn import losses, penalties
from fnn.gradients import jacobians
from fnn.gradients.jacobians import least_squares
from fnn.optimizers import levenberg_marquardt
from tests.helpers.tf32 import products_of_a_gpu

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (40, 2))
T = np.stack([np.sin(3 * X[:, 0]), X[:, 0] * X[:, 1]], 1)
NET = fnn.serial(fnn.dense(5), fnn.tanh, fnn.dense(2))
LOSS = losses.squared_error


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def fit(net=NET, loss=LOSS, optimizer=None, **more):
    data = more.pop("data", (X.astype(jnp.result_type(float)), T.astype(jnp.result_type(float))))
    return fnn.fit(
        net, loss, levenberg_marquardt() if optimizer is None else optimizer, data,
        **{"epochs": 60, "progress": False} | more,
    )  # fmt: skip


# ---- NIST

LONG = {("MGH10", 0): 20_000}


def check_digits(name, start):
    problem = PROBLEMS[name]
    epochs = LONG.get((name, start), 2_000)
    run = fit(
        as_network(problem.formula), optimizer=levenberg_marquardt(tolerance=0), data=problem.rows, reduction="sum",
        params={"b": np.array(problem.starts[start], float)}, epochs=epochs,
    )  # fmt: skip
    assert len(run.history.loss) < epochs  # it has ended by itself
    assert np.abs(np.asarray(run.params["b"]) / problem.certified - 1).max() < 1e-8


@pytest.mark.parametrize(("name", "start"), [("BoxBOD", 0)])
def test_certified_digits(double, name, start):
    """From a start whose first steps go astray with lengths of columns as scales, as in SciPy's `least_squares`."""
    check_digits(name, start)


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", PROBLEMS)
def test_certified_digits_of_all(double, name, start):
    check_digits(name, start)


# ---- the Jacobian

NETS = {
    "dense": (NET, (3, 2)),
    "deep": (fnn.serial(fnn.dense(3), fnn.residual(fnn.dense(3), fnn.tanh), fnn.layer_norm(), fnn.dense(2)), (3, 2)),
    "images": (fnn.serial(fnn.conv2d(2, 2), fnn.sigmoid, fnn.avg_pool(2), fnn.flatten(), fnn.dense(2)), (3, 5, 5, 1)),
    "batch norm": (fnn.serial(fnn.dense(3), fnn.batch_norm(), fnn.dense(2)), (4, 2)),
    "one's own": (fnn.serial(fnn.dense(3), jnp.sin, fnn.dense(2)), (3, 2)),
}


LATER = dict.fromkeys(["deep", "images"], pytest.mark.slow)
CASES = [pytest.param(name, losses.squared_error, marks=LATER.get(name, ())) for name in NETS]
CASES += [("dense", losses.half_squared_error), ("dense", losses.mean_squared_error)]


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_the_jacobian_is_autodiffs_and_the_residuals_are_the_costs(double, name, loss):
    net, shape = NETS[name]
    x, t = RNG.normal(size=shape), RNG.normal(size=(shape[0], 2))
    weight = np.array([0.5, 2.0, 0.0, 1.0])[: shape[0]]
    params, state, _ = net.init(jax.random.key(1), shape[1:])
    parts, rows = (net, loss, penalties.l2(0.1), "mean"), tuple(map(jnp.asarray, (x, t, weight)))
    problem = least_squares(parts, params, state, *rows)
    both = jax.jit(lambda theta: (problem.jacobian(theta), jax.jacrev(problem.residuals)(theta)))
    by_hand, expected = both(problem.flat)
    np.testing.assert_allclose(by_hand, expected, rtol=1e-12, atol=1e-13)
    assert jacobians.treats_rows_apart(net) == (name not in ("batch norm", "one's own"))
    gradient = jax.jit(fnn.autodiff(net, loss, penalties.l2(0.1)))(params, state, *rows)
    flat = jax.flatten_util.ravel_pytree(gradient.grads)[0]
    by_squares = 2 * expected.T @ problem.residuals(problem.flat) + 2 * problem.ridge * problem.flat
    np.testing.assert_allclose(by_squares, flat, rtol=1e-10, atol=1e-12)


# ---- in a run


@pytest.mark.slow
@pytest.mark.parametrize("units", [5, 12])  # by QR, by Cholesky
def test_a_step_is_as_exact_where_a_gpu_rounds_products(units):
    net = fnn.serial(fnn.dense(units), fnn.tanh, fnn.dense(2))
    moved = lambda run: ravel_pytree(run.params)[0] - ravel_pytree(fit(net, epochs=0).params)[0]  # noqa: E731
    exact = moved(fit(net, epochs=1))
    with products_of_a_gpu():
        assert np.linalg.norm(moved(fit(net, epochs=1)) - exact) < 2e-5 * np.linalg.norm(exact)


@pytest.mark.parametrize("units", [5, pytest.param(12, marks=pytest.mark.slow)])  # by QR, by Cholesky
def test_a_step_is_the_formulas(double, units):
    net = fnn.serial(fnn.dense(units), fnn.tanh, fnn.dense(2))
    params, state, _ = net.init(jax.random.key(1), (2,))
    run = fit(net, params=params, epochs=1, optimizer=levenberg_marquardt(0.3))
    problem = least_squares((net, LOSS, None, "mean"), params, state, jnp.asarray(X), jnp.asarray(T))
    jacobian, residuals = np.asarray(problem.jacobian(problem.flat)), np.asarray(problem.residuals(problem.flat))
    lengths = np.sqrt((jacobian**2).sum(0))
    squares = lengths * np.sqrt((lengths**2).mean())  # of the scales
    step = -np.linalg.solve(jacobian.T @ jacobian + 0.3 * np.diag(squares), jacobian.T @ residuals)
    after = jax.flatten_util.ravel_pytree(run.params)[0]
    np.testing.assert_allclose(after - problem.flat, step, rtol=1e-8, atol=1e-11)


@pytest.mark.slow
def test_weights_and_l2_are_in_the_cost_whose_minimum_it_finds(double):
    weights, penalty = np.linspace(0, 2, 40), penalties.l2(1e-3)
    run = fit(weights=weights, penalty=penalty, epochs=2_000, optimizer=levenberg_marquardt(tolerance=1e-10))
    gradient = fnn.autodiff(NET, LOSS, penalty)(run.params, run.state, *map(jnp.asarray, (X, T, weights)))
    assert max(float(jnp.abs(a).max()) for a in jax.tree.leaves(gradient.grads)) < 1e-8
    assert len(run.history.loss) < 2_000 and not bool(run.train_state.active)
    assert bool(run.train_state.optimizer.ended) and run.train_state.diverged.tolist() == [-1, -1]


@pytest.mark.slow
def test_restarts_in_one_program_are_single_runs(double):
    by = levenberg_marquardt(tolerance=1e-6)
    found = fnn.sweep(
        NET, LOSS, by, (X, T), over={"seed": list(range(6))}, epochs=12, width=6, keep="all", progress=False
    )
    assert len(set(np.round(found.table["loss"], 12))) == 6
    for seed in (0, 5):
        alone = fit(optimizer=by, key=seed, epochs=12)
        for a, b in zip(jax.tree.leaves(found.runs[seed].params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.slow
def test_100_restarts_in_one_program(double):
    found = fnn.sweep(
        NET, LOSS, levenberg_marquardt(), (X, T), over={"seed": list(range(100))}, epochs=60, width=100, progress=False
    )
    assert np.isfinite(found.table["loss"]).all() and "100 in one program" in str(found.plans)


@pytest.mark.slow
def test_it_resumes_to_the_same_bits(double, tmp_path):
    whole = fit(epochs=8)
    fit(epochs=3, checkpoint=tmp_path)
    again = fit(epochs=8, checkpoint=tmp_path)
    for a, b in zip(jax.tree.leaves(again.train_state), jax.tree.leaves(whole.train_state), strict=True):
        assert np.array_equal(a, b)


def chunks():
    yield X.astype("float32"), T.astype("float32")


WRONG = {
    "a loss of another kind": (
        lambda: fit(loss=losses.absolute_error),
        "loss: expected a sum of squares for second order, got absolute_error. Pass fnn.losses.squared_error, ",
    ),
    "a batch": (
        lambda: fit(batch_size=16),
        "batch_size: expected all rows in one batch for levenberg_marquardt, got 16 of 40 rows. Leave batch_size out",
    ),
    "a batch, within a chain": (
        lambda: fit(batch_size=16, optimizer=optax.chain(optax.clip(1.0), levenberg_marquardt())),
        "batch_size: expected all rows in one batch for levenberg_marquardt, got 16 of 40 rows. Leave batch_size out",
    ),
    "a batch, within MultiSteps": (
        lambda: fit(batch_size=16, optimizer=optax.MultiSteps(levenberg_marquardt(), 2).gradient_transformation()),
        "batch_size: expected all rows in one batch for levenberg_marquardt, got 16 of 40 rows. Leave batch_size out",
    ),
    "a stream": (
        lambda: fit(data=chunks, batch_size=40),
        "batch_size: expected all rows in one batch for levenberg_marquardt, got a stream. Pass the rows as arrays.",
    ),
    "another penalty": (
        lambda: fit(penalty=penalties.l1(0.1)),
        "penalty: expected fnn.penalties.l2 for second order, got Penalty .*. Pass l2, or leave it out.",
    ),
    "a damping": (lambda: levenberg_marquardt(0.0), "levenberg_marquardt: expected a damping above 0, got 0.0. Write "),
    "tries": (lambda: levenberg_marquardt(tries=0), "tries: expected a whole number, at least 1, got 0. Write tries=1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_it_cannot_do_is_said_in_one_line(name):
    make, text = WRONG[name]
    with pytest.raises(ValueError, match=f"^{text}"):
        make()


def test_a_jacobian_without_room_is_refused_before_anything_compiles():
    wide = fnn.serial(fnn.dense(60_000), fnn.tanh, fnn.dense(2))
    text = r"got one of 80 x 300,002 numbers, which takes about .* GB of .* GB. Use optax.lbfgs\(\), or a smaller"
    with pytest.raises(MemoryError, match=text):
        fit(wide)


@pytest.mark.slow
def test_it_may_be_a_function_of_the_settings():
    with pytest.raises(ValueError, match="batch_size"):
        fit(optimizer=lambda s: levenberg_marquardt(s["damping"]), settings={"damping": 0.1}, batch_size=16)
