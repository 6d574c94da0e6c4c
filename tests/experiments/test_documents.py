"""The documents' printed numbers through the public API, and the experiments that report them, at small size."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

sys.path.insert(0, str(Path(__file__).parents[2]))  # the experiments are run from the checkout, they are not installed

from experiments import activations, complexity, learning_rates, losses, regularisation, yoghurt

PRINTING = 2e-7  # relative, float32
INF = float("inf")


def rows_hold(result, *named):
    """Every row, and these are among them."""
    assert [row.quantity for row in result.rows if not row.ok] == []
    quantities = [row.quantity for row in result.rows]
    assert len(set(quantities)) == len(quantities)
    for part in named:
        assert any(part in quantity for quantity in quantities), part


def pictures_are_labelled(result):
    for figure in result.figures:
        assert figure.name and figure.caption
        if isinstance(figure.picture, list):  # of printed tables
            continue
        for ax in figure.picture.axes:
            assert ax.get_xlabel(), figure.name
        assert any(ax.get_ylabel() for ax in figure.picture.axes)


# ---- losses


@pytest.mark.parametrize(
    "y, squared, cross_entropy, with_delta",
    [
        ([0.1, 0.05, 0.05, 0.8], 0.7775, 2.9957323, 2.9957303),
        ([0.1, 0.8, 0.05, 0.05], 0.0275, 0.2231436, 0.2231434),
    ],
)
def test_d1s_losses(x64, y, squared, cross_entropy, with_delta):
    y, t = jnp.array([y]), jnp.array([[0.0, 1, 0, 0]])
    assert abs(fnn.losses.half_squared_error(y, t)[0] - squared) < 1e-12
    assert abs(fnn.losses.cross_entropy(y, t)[0] - cross_entropy) < 5e-8  # half a unit of the last printed digit
    delta = fnn.losses.from_function(lambda y, t: -(t * jnp.log(y + 1e-7)).sum(-1))
    assert abs(delta(y, t)[0] - with_delta) < 5e-8
    assert abs(cross_entropy - with_delta) > 1e-7  # the two forms are told apart


def test_d3s_losses():
    t, logits = jnp.array([[1.0, 0, 0], [0, 1, 0]]), jnp.array([[4.0, 2, 1], [0, 5, 1]])
    mse = fnn.losses.mean_squared_error(jnp.array([[1.0, 1.0]]), jnp.array([[0.5, 0.8]]))
    np.testing.assert_allclose(mse, [0.145], rtol=PRINTING)
    y = jnp.array([[0.5, 0.4, 0.1], [0.8, 0.1, 0.1]])
    np.testing.assert_allclose(
        fnn.losses.cross_entropy(y, t[jnp.array([0, 0])]), [0.6931472, 0.22314353], rtol=PRINTING
    )
    on_logits, sparse = fnn.losses.softmax_cross_entropy, fnn.losses.sparse_softmax_cross_entropy
    np.testing.assert_allclose(on_logits(logits, t), [0.16984604, 0.02474492], rtol=PRINTING)
    np.testing.assert_allclose(sparse(logits, jnp.array([0, 1])), [0.16984604, 0.02474492], rtol=PRINTING)
    written_out = fnn.losses.cross_entropy(fnn.softmax(logits), t)
    np.testing.assert_allclose(written_out, [0.16984606, 0.02474495], rtol=0, atol=1.2e-7)


@pytest.mark.slow
def test_the_experiment_of_the_losses():
    result = losses.main(losses.Settings(points=21))
    rows_hold(
        result, "Half squared error", "with δ", "Sparse softmax", "MSE", "-Σ t log softmax", "IoU", "Class numbers"
    )
    pictures_are_labelled(result)
    logarithm = result.figures[0].picture.axes[0].get_lines()[1]
    np.testing.assert_allclose(logarithm.get_ydata(), np.log(logarithm.get_xdata()))


def test_a_loss_that_is_off_is_found(monkeypatch):
    right = fnn.losses.mean_squared_error
    monkeypatch.setattr(losses.losses, "mean_squared_error", lambda y, t: right(y, t) * (1 + 1e-6))
    assert [row.quantity for row in losses.rows_of_d3() if not row.ok] == ["MSE, t = [0.5,0.8], y = [1,1]"]


# ---- activations


@pytest.mark.parametrize(
    "function, x, printed",
    [
        (fnn.sigmoid, [1, 2, 3], [0.7310586, 0.8807971, 0.95257413]),
        (
            fnn.tanh,
            [-INF, -5, -0.5, 1, 1.2, 2, 3, INF],
            [-1, -0.99990916, -0.46211717, 0.7615942, 0.8336547, 0.9640276, 0.9950547, 1],
        ),
        (fnn.relu, [-2, 0, -0.0, 3], [0, 0, 0, 3]),
        (fnn.leaky_relu(0.2), [-2, 0, -0.0, 3], [-0.4, 0, 0, 3]),
        (fnn.softmax, [4, 5, 1], [0.26538792, 0.7213992, 0.01321289]),
    ],
    ids=str,
)
def test_d3s_activations(function, x, printed):
    np.testing.assert_allclose(function(jnp.array(x, jnp.float32)), printed, rtol=PRINTING)


@pytest.mark.slow
def test_the_experiment_of_the_activations():
    result = activations.main(activations.Settings(points=41))
    rows_hold(result, "tanh(-inf)", "tanh(inf)", "at -inf and inf", "sigmoid as", "softmax as", "leaky ReLU(-2)")
    pictures_are_labelled(result)
    titles = [ax.get_title() for figure in result.figures for ax in figure.picture.axes]
    assert len(titles) == 10 and titles[:2] == ["sigmoid", "tanh"]
    sigmoid = {line.get_label(): line.get_ydata() for line in result.figures[0].picture.axes[0].get_lines()}
    np.testing.assert_allclose(sigmoid["derivative"], sigmoid["function"] * (1 - sigmoid["function"]), atol=1e-6)


def test_naive_tanh_is_nan_at_both_infinities_and_nowhere_else():
    x = jnp.array([-INF, -5.0, 1.0, INF])
    np.testing.assert_array_equal(jnp.isnan(activations.tanh_written_out(x)), [True, False, False, True])


# ---- learning rates


def test_piecewise_constant_changes_after_its_boundaries():
    lr = fnn.schedules.piecewise_constant([100, 200, 300], [0.1, 0.05, 0.025, 0.001])
    found = [float(lr(step)) for step in (0, 100, 101, 200, 201, 300, 301, 399)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.001, 0.001], rtol=PRINTING)


@pytest.mark.parametrize("staircase", [False, True])
def test_exponential_decay_at_every_step(staircase):
    lr = fnn.schedules.exponential_decay(0.5, 10, 0.9, staircase)
    exponents = [step // 10 if staircase else step / 10 for step in range(400)]
    np.testing.assert_allclose(lr(np.arange(400)), 0.5 * 0.9 ** np.array(exponents), rtol=5e-7)


def test_the_experiment_of_the_learning_rates():
    result = learning_rates.main(learning_rates.Settings())
    rows_hold(
        result, "step 100", "step 101", "step 200", "step 201", "step 300", "step 301", "Exponential", "staircase"
    )
    pictures_are_labelled(result)
    smooth, stairs = (line.get_ydata() for line in result.figures[0].picture.axes[0].get_lines())
    assert len(smooth) == len(stairs) == 400 and (stairs >= smooth * (1 - 1e-6)).all()


def test_a_schedule_one_step_early_is_found(monkeypatch):
    right = learning_rates.schedules()
    early = right | {"piecewise constant": lambda step: right["piecewise constant"](step + 1)}
    monkeypatch.setattr(learning_rates, "schedules", lambda: early)
    wrong = [row.quantity for row in learning_rates.boundary_rows() if not row.ok]
    assert wrong == [f"Piecewise constant at step {step}" for step in (100, 200, 300)]


# ---- yoghurt


@pytest.mark.parametrize(
    "loss, reduction, options, published",
    [
        (fnn.losses.mean_squared_error, "mean", {}, [1.003844, 0.9952425]),
        (fnn.losses.asymmetric(over=1, under=99), "sum", {}, [1.1214936, 1.0841621]),
        # without fused multiply-add, as documents.md says: with it step 20,000 is another point of the cycle
        (fnn.losses.asymmetric(over=99, under=1), "sum", {"xla_backend_optimization_level": 0}, [0.7061546, 0.8436774]),
    ],
    ids=["MSE", "COST 1, PROFIT 99", "COST 99, PROFIT 1"],
)
def test_yoghurt_by_the_fused_loop(loss, reduction, options, published):
    with jax.default_device(jax.devices("cpu")[0]):  # the last digits are those of a CPU
        x, t = map(jnp.asarray, yoghurt.data())
        data, start = fnn.Data(fnn.Part(x, t)), ({"w": jnp.array([[-0.8113182], [1.4845988]])},)
        net = fnn.serial(fnn.dense(1, bias=False))
        training = fnn.trainer(net, loss, optax.sgd(0.002), reduction=reduction)
        state = training.init(jax.random.key(0), data, params=start)
        end, _ = jax.jit(training.run, static_argnums=2, compiler_options=options)(state, data, 20_000)
    np.testing.assert_allclose(end.params[0]["w"][:, 0], published, rtol=1e-6)


@pytest.mark.slow
def test_the_experiment_of_the_yoghurt():
    result = yoghurt.main(yoghurt.Settings())
    rows_hold(result, "MSE: w1", "COST 1, PROFIT 99: w2", "COST 99, PROFIT 1: w1", "do not maximise the gain")
    pictures_are_labelled(result)
    for run in result.numbers["runs"]:
        np.testing.assert_array_equal(run.weights[0], np.float32(yoghurt.START))
        assert run.weights.shape == (20_001, 2) and run.costs.shape == (20_000,)
    assert "fused multiply-add" in result.notes[0]


def test_yoghurt_after_too_few_steps_is_found():
    wrong = [row.quantity for row in yoghurt.main(yoghurt.Settings(steps=100)).rows if not row.ok]
    assert {f"{case.name}: w{i}" for case in yoghurt.CASES for i in (1, 2)} <= set(wrong)


def test_yoghurts_rows_are_the_documents():
    x, t = yoghurt.data()
    assert (x.shape, t.shape, x.dtype, t.dtype) == ((32, 2), (32, 1), np.float32, np.float32)
    noise = t[:, 0] - x.sum(1)
    assert np.abs(noise).max() <= 0.05 + 1e-6 and np.ptp(noise) > 0.08


# ---- regularisation


@pytest.fixture(scope="module")
def regularisation_result():
    return regularisation.main(regularisation.Settings(alphas=5, steps=1_000, plain_steps=6_000))


@pytest.mark.slow
def test_the_experiment_of_the_regularisation(regularisation_result):
    named = ("Minimum of", "diamond", "circle", "formula", "fista", "proximal_l1", "Ridge", "keeps", "shifts")
    rows_hold(regularisation_result, *named)
    pictures_are_labelled(regularisation_result)
    numbers = regularisation_result.numbers
    np.testing.assert_allclose(numbers["minima"][0], 0.5, rtol=1e-12)
    assert numbers["minima"][1] == 0
    assert numbers["diamonds"][0][0] == 0 and numbers["diamonds"][0][1] > 1
    assert numbers["lasso"].w.dtype == np.float64
    assert len(numbers["lasso"].alphas) == len(numbers["lasso"].w) == 5 + len(regularisation.LASSO_ALPHAS)


@pytest.mark.slow
def test_the_solutions_satisfy_the_conditions_of_a_minimum(regularisation_result):
    """Lasso: the derivative of J0 is `-α sign(w)` where w is not 0, and at most α where it is; Ridge: `-α w`."""
    data, lasso, ridge = (
        regularisation.diabetes(),
        *(regularisation_result.numbers[name] for name in ("lasso", "ridge")),
    )
    for alpha, w, b in zip(*lasso, strict=True):
        grad = data.x.T @ (data.x @ w + b - data.t) / len(data.x)
        np.testing.assert_allclose(grad[w != 0], -alpha * np.sign(w[w != 0]), atol=1e-5)
        assert (np.abs(grad[w == 0]) <= alpha).all()
    for alpha, w, b in zip(*ridge, strict=True):
        grad = data.x.T @ (data.x @ w + b - data.t)
        np.testing.assert_allclose(grad, -alpha * w, atol=1e-3, rtol=1e-5)


def test_contours_meet_the_diamond_at_its_corner_alone():
    """The contour through the solution lies outside the diamond everywhere else."""
    with jax.enable_x64(True):
        (w, _), (v, _) = regularisation.two_weights("l1"), regularisation.two_weights("l2")
    s = np.linspace(-1, 1, 201)
    edge = np.abs(w).sum() * np.stack([np.concatenate([s, s]), np.concatenate([1 - abs(s), abs(s) - 1])])
    values = regularisation.j0(*edge)
    assert abs(values.min() - regularisation.j0(*w)) < 1e-12 and (values <= values.min() + 1e-12).sum() == 1
    angle = np.linspace(0, 2 * np.pi, 1000)
    assert regularisation.j0(*(np.linalg.norm(v) * np.stack([np.cos(angle), np.sin(angle)]))).min() > (
        regularisation.j0(*v) - 1e-12
    )


@pytest.mark.slow
def test_a_penalty_that_is_off_is_found(regularisation_result):
    data, numbers = regularisation.diabetes(), regularisation_result.numbers
    lasso, ridge = numbers["lasso"], numbers["ridge"]
    off = lasso._replace(w=lasso.w * 1.001)
    assert [row.ok for row in regularisation.lasso_rows(data, off, lasso)] == [False, True, True, True]
    never_zero = lasso._replace(w=lasso.w + 1e-9)
    assert [row.ok for row in regularisation.lasso_rows(data, never_zero, lasso)] == [True, False, True, True]
    assert not regularisation.ridge_rows(data, ridge._replace(w=ridge.w * (1 + 1e-5)))[0].ok


# ---- complexity


def test_the_documents_network():
    size = fnn.summary(fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2)), (3,))
    assert (size.layers, size.parameters, size.multiply_adds) == (2, 26, 20)


def test_the_experiment_of_the_complexity():
    result = complexity.main(complexity.Settings(rows=4))
    rows_hold(result, "3-4-2: layers", "3-4-2: parameters", "3-4-2: multiply-adds", "XLA's count")
    pictures_are_labelled(result._replace(figures=result.figures[1:]))
    text = " ".join(result.figures[0].picture)
    assert "dense(512)" in text and "669,706" in text
    assert abs(result.numbers["ours"] / result.numbers["xla"] - 1) < 0.02
    assert not complexity.within("", 100, 103).ok and complexity.within("", 100, 99).ok
