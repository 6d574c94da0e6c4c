"""Parameters to predict with: averages, schedule-free, lookahead, SAM; in validation, best epoch and `run.params`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import fnn
from fnn import losses
from fnn.optimizers import average, evaluation_params
from tests.helpers.compare import has_hint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 2)).astype("float32")
T = np.sin(X[:, :1] * 2).astype("float32")
NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(1))
LOSS = losses.squared_error
SLOW = pytest.mark.slow


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def fit(optimizer, net=NET, **more):
    dtype = jnp.result_type(float)
    arguments = {"epochs": 6, "batch_size": 6, "progress": False, "data": (X.astype(dtype), T.astype(dtype))} | more
    return fnn.fit(net, LOSS, optimizer, arguments.pop("data"), **arguments)


def alike(one, other, tolerance=0.0):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("decay", "start"), [pytest.param(0.8, 0, marks=SLOW), (0.8, 3), pytest.param(None, 2, marks=SLOW)]
)
def test_an_average_is_the_formulas(double, decay, start):
    """From the parameters after each of 24 steps, one call of `fit` each."""
    run = fit(optax.chain(optax.adam(0.02), average(decay, start=start)), shuffle=False, batch_size=None, epochs=8)
    alone = [fit(optax.adam(0.02), shuffle=False, batch_size=None, epochs=n + 1).params for n in range(8)]
    to_rounding = 0.0 if jax.default_backend() == "cpu" else 1e-12  # two programs: a GPU's are compiled otherwise
    alike(run.train_state.params, alone[-1], to_rounding)  # it changes nothing of the training
    weights = [0.0 if i < start else (decay or 1.0) ** (7 - i) for i in range(8)]
    expected = jax.tree.map(lambda *all_: sum(w * a for w, a in zip(weights, all_, strict=True)) / sum(weights), *alone)
    alike(run.params, expected, 1e-12)


WITHIN = {
    "schedule_free": lambda: contrib.schedule_free_sgd(0.1),
    "average": lambda: optax.chain(optax.sgd(0.1), average(0.9)),
    "sam": lambda: contrib.sam(optax.sgd(0.1), optax.sgd(0.05), sync_period=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["schedule_free", *(pytest.param(n, marks=SLOW) for n in ("average", "sam"))])
def test_of_one_vector_they_are_those_of_each_parameter(double, name):
    """`optax.flatten` gives the optimizer one vector of all parameters."""
    flat, plain = (fit(by, epochs=2) for by in (optax.flatten(WITHIN[name]()), WITHIN[name]()))
    alike(flat.train_state.params, plain.train_state.params, 1e-12)
    alike(flat.params, plain.params, 1e-12)


def test_of_one_vector_of_a_network_whose_parameters_are_one_matrix():
    def forward(params, state, x, key, train):
        return x @ params, state, ()

    net = fnn.Layer("matrix", lambda key, shape: (jnp.ones((shape[-1], 1)), (), (1,)), forward, None)
    flat, plain = (fit(by, net, epochs=2) for by in (optax.flatten(WITHIN["average"]()), WITHIN["average"]()))
    alike(flat.params, plain.params, 1e-6)


OPTIMIZERS = {
    "schedule_free_adamw": lambda: contrib.schedule_free_adamw(0.05),
    "schedule_free in a chain": lambda: optax.chain(optax.clip(1.0), contrib.schedule_free_sgd(0.1)),
    "lookahead": lambda: optax.lookahead(optax.sgd(0.1), 3, 0.5),
    "average": lambda: optax.chain(optax.sgd(0.1), average(0.9)),
    "sam": lambda: contrib.sam(optax.sgd(0.1), optax.sgd(0.05), sync_period=3),
}


def expected_params(name, state):
    """By optax's own functions."""
    if name == "schedule_free_adamw":
        return contrib.schedule_free_eval_params(state.optimizer, state.params)
    if name == "schedule_free in a chain":
        return contrib.schedule_free_eval_params(state.optimizer[1], state.params)
    if name == "lookahead":
        return state.optimizer.slow
    if name == "sam":
        return state.optimizer.cache if int(state.optimizer.steps_since_sync) else state.params
    return jax.tree.map(lambda a: a / state.optimizer[1].weight.astype(a.dtype), state.optimizer[1].total)


LATER = dict.fromkeys(["lookahead", "sam", "schedule_free in a chain"], SLOW)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in OPTIMIZERS])
def test_run_params_are_those_to_predict_with(name, exact_products):
    run = fit(OPTIMIZERS[name](), epochs=5, validation=(X[:9], T[:9]))
    last = fit(OPTIMIZERS[name](), epochs=5)
    alike(last.params, expected_params(name, last.train_state), 1e-6)
    assert not np.array_equal(last.params[0]["w"], last.train_state.params[0]["w"])
    # what validation has judged are these, the best of which come back
    errors = np.square(np.asarray(fnn.predict(NET, last, X[:9])) - T[:9]).mean()
    assert float(run.history.validation_loss[4]) == pytest.approx(float(errors), rel=1e-5)
    best = fit(OPTIMIZERS[name](), epochs=run.best_epoch + 1)
    alike(run.params, best.params, 1e-6)
    assert run.best_epoch == int(np.argmin(run.history.validation_loss))


@pytest.mark.slow
def test_members_and_folds_judge_by_them_too():
    by = lambda s: optax.chain(optax.sgd(s["lr"]), average(0.9))  # noqa: E731
    found = fnn.sweep(NET, LOSS, by, (X, T), over={"lr": [0.05, 0.1]}, epochs=4, keep="all", progress=False, width=2)
    alone = fit(by, settings={"lr": 0.1}, epochs=4, batch_size=None)
    alike(found.runs[1].params, alone.params, 1e-5)
    members = fnn.ensemble(NET, LOSS, OPTIMIZERS["average"](), (X, T), members=2, epochs=4, progress=False)
    first = fnn.fit(NET, LOSS, OPTIMIZERS["average"](), (X, T), epochs=4, key=0, progress=False)
    alike(jax.tree.map(lambda a: a[0], members.params), first.params, 1e-5)


def test_batch_norm_has_the_statistics_of_the_averaged_network(double):
    net = fnn.serial(fnn.dense(4), fnn.batch_norm(momentum=0.9), fnn.tanh, fnn.dense(1))
    for batch_size in (None, 7):
        run = fit(optax.chain(optax.sgd(0.1), average(0.9)), net, batch_size=batch_size, shuffle=False)
        rows = X.astype("float64")
        parts = [rows] if batch_size is None else [rows[i : i + 7] for i in range(0, 24, 7)]
        hidden = [part @ np.asarray(run.params[0]["w"]) + np.asarray(run.params[0]["b"]) for part in parts]
        mean = sum(len(h) * h.mean(0) for h in hidden) / 24
        np.testing.assert_allclose(run.state[1]["mean"], mean, rtol=1e-10)
        trained = np.asarray(run.train_state.state[1]["mean"])
        assert not np.allclose(run.state[1]["mean"], trained, rtol=1e-3)


NORMALISED = fnn.serial(fnn.dense(4), fnn.batch_norm(momentum=0.9), fnn.tanh, fnn.dense(1))


def check_folds(by, batch_size, width, first=2):
    """The first folds' networks have the statistics of their training rows; fold 0 has a batch of filling alone.

    Rows 16 to 23 have targets of the other sign, so that the last epoch of fold 0 is not the best of it.
    """
    x, t = X.astype(float), np.where(np.arange(24)[:, None] < 16, T, -T).astype(float)
    folds = [(np.arange(16), np.arange(16, 24)), (np.arange(7, 24), np.arange(7))]
    more = {"epochs": 3, "batch_size": batch_size, "progress": False}
    found = fnn.cross_validate(NORMALISED, LOSS, by, (x, t), folds=folds, refit=False, width=width, **more)
    for fold, (train, test) in enumerate(folds[:first]):
        alone = fit(by, NORMALISED, data=(x[train], t[train]), key=0, **more)
        np.testing.assert_allclose(found.predictions[test], fnn.predict(NORMALISED, alone, x[test]), atol=1e-6)
        errors = np.square(found.predictions[test] - t[test]).mean()
        assert found.scores["validation_loss"][0, fold] == pytest.approx(errors, rel=1e-10)


@pytest.mark.slow
def test_folds_have_the_statistics_of_their_own_rows(double):
    check_folds(optax.chain(optax.sgd(0.3), average(0.5)), 8, 2, first=1)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_folds_of_any_have_the_statistics_of_their_own_rows(double, name, batch_size, width):
    check_folds(OPTIMIZERS[name](), batch_size, width)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_members_have_the_statistics_of_their_own_parameters(double, name):
    data, more = (X.astype(float), T.astype(float)), {"epochs": 3, "batch_size": 7, "progress": False, "width": 2}
    over = {"seed": [0, 1]}
    swept = fnn.sweep(NORMALISED, LOSS, OPTIMIZERS[name](), data, over=over, keep="all", **more)
    together = fnn.ensemble(NORMALISED, LOSS, OPTIMIZERS[name](), data, members=2, **more)
    for key in (0, 1):
        alone = fit(OPTIMIZERS[name](), NORMALISED, epochs=3, batch_size=7, key=key)
        for run in (swept.runs[key], together.member(key)):
            alike((run.params, run.state), (alone.params, alone.state), 1e-6)


def test_a_stream_has_them():
    def chunks():
        yield X[:10], T[:10]
        yield X[10:], T[10:]

    by = OPTIMIZERS["schedule_free_adamw"]()
    run = fit(by, data=chunks, epochs=2, batch_size=24)
    alike(run.params, evaluation_params(run.train_state.optimizer, run.train_state.params), 1e-6)


def test_they_survive_a_checkpoint(tmp_path):
    by = OPTIMIZERS["average"]
    whole = fit(by(), epochs=6)
    fit(by(), epochs=3, checkpoint=tmp_path)
    alike(fit(by(), epochs=6, checkpoint=tmp_path).params, whole.params)


def test_a_state_of_your_own_says_so():
    optimizer = optax.chain(optax.sgd(0.1), optax.GradientTransformation(lambda p: Half(jnp.int32(0)), keep))
    run = fit(optimizer)
    alike(run.params, jax.tree.map(lambda a: a / 2, run.train_state.params))


class Half:
    """A state of a user's own."""

    def __init__(self, count):
        self.count = count

    def evaluation_params(self, params):
        return jax.tree.map(lambda a: a / 2, params)


jax.tree_util.register_pytree_node(Half, lambda half: ((half.count,), None), lambda _, leaves: Half(leaves[0]))


def keep(updates, state, params=None):
    return updates, Half(state.count + 1)


def test_groups_of_a_partition_have_their_own():
    label = lambda params: jax.tree.map(lambda a: "average" if a.ndim > 1 else "plain", params)  # noqa: E731
    by = optax.partition({"average": optax.chain(optax.sgd(0.1), average(0.9)), "plain": optax.sgd(0.1)}, label)
    run = fit(by)
    assert np.array_equal(run.params[0]["b"], run.train_state.params[0]["b"])
    assert not np.array_equal(run.params[0]["w"], run.train_state.params[0]["w"])


@pytest.mark.parametrize(("decay", "start"), [(1.0, 0), (-0.5, 0), (0.9, -1), ("much", 0), (0.9, 1.5)])
def test_wrong_averages_are_named(decay, start):
    with pytest.raises((ValueError, TypeError)) as caught:
        average(decay, start=start)
    assert has_hint(str(caught.value))


@pytest.mark.parametrize("deeper", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_average_before_others_is_refused(deeper):
    within = optax.chain(optax.sgd(0.1), fnn.optimizers.average(0.9)) if deeper else fnn.optimizers.average(0.9)
    with pytest.raises(ValueError, match=r"average: expected the last place of optax\.chain"):
        fit(optax.chain(within, optax.clip(1.0)))
    fit(optax.chain(optax.clip(1.0), optax.chain(optax.sgd(0.1), fnn.optimizers.average(0.9))))
