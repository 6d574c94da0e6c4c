"""Sums over rows: which rows count, in which dtype, and what rounding leaves of a million of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.losses.reduction import stop_uncounted, weighted_sum
from fnn.runs import RunningSums
from fnn.training.batches import add_sums
from fnn.training.state import zero_sums

MAKERS = [fnn.autodiff, fnn.backprop]
both = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(40, 3)), jnp.float32)
LINE = fnn.serial(fnn.dense(1))


def line(bias=0.0):
    return ({"w": jnp.ones((1, 1)), "b": jnp.full(1, bias)},), ((),)


# ---- the shape of weights


@pytest.mark.parametrize("shape", [(40, 1), (1, 40), (39,), ()], ids=str)
@both
def test_weights_that_are_not_one_number_per_row_raise_where_they_would_broadcast(maker, shape):
    params, state, _ = LINE.init(jax.random.key(0), (3,))
    with pytest.raises(fnn.ShapeError, match=r"weight: expected one number per row, shape \(40,\), got .* Pass "):
        maker(LINE, fnn.losses.squared_error)(params, state, X, X[:, :1], jnp.ones(shape))


@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_column_of_weights_raises_in_a_trainer(batch_size):
    training = fnn.trainer(LINE, fnn.losses.squared_error, optax.sgd(0.1), batch_size=batch_size)
    with pytest.raises(fnn.ShapeError, match=r"data.train.weight: expected one number per row, shape \(40,\), got \(4"):
        training.init(jax.random.key(0), fnn.Data(fnn.Part(X, X[:, :1], jnp.ones((40, 1)))))


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float16, np.float32])
@both
def test_weights_of_any_dtype_count(maker, dtype):
    params, state, _ = LINE.init(jax.random.key(0), (3,))
    gradient = maker(LINE, fnn.losses.squared_error)
    weight = np.arange(40) % 2
    got, want = (gradient(params, state, X, X[:, :1], w) for w in (weight.astype(dtype), weight.astype(np.float32)))
    np.testing.assert_array_equal(got.grads[0]["w"], want.grads[0]["w"])
    assert got.weight == 20


# ---- rows of weight 0, whose loss overflows

POISSON = fnn.losses.from_function(lambda y, t: (jnp.exp(y) - t * y).sum(-1), lambda y, t: jnp.exp(y) - t)
OVERFLOWING = {  # a loss, and an output of which it, or its derivative, is not finite
    "poisson": (POISSON, 100.0),
    "a plain function": (lambda y, t: jnp.exp(y)[:, 0], 100.0),
    "squared": (fnn.losses.squared_error, 1e30),
    "root": (lambda y, t: jnp.sqrt(jnp.abs(y[:, 0] - 5.0)), 5.0),
    "logarithm": (lambda y, t: jnp.log(jnp.abs(y[:, 0])), 0.0),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", OVERFLOWING)
@both
def test_a_row_of_weight_0_changes_no_bit_whatever_its_loss(maker, name, reduction):
    loss, output = OVERFLOWING[name]
    gradient = maker(LINE, loss, None, reduction)
    x, t, weight = jnp.array([[0.5], [-1.0], [output]]), jnp.ones((3, 1)), jnp.array([1.0, 2.0, 0.0])
    got, want = gradient(*line(), x, t, weight), gradient(*line(), x[:2], t[:2], weight[:2])
    assert np.isfinite(want.grads[0]["w"]).all()
    np.testing.assert_allclose(got.grads[0]["w"], want.grads[0]["w"], rtol=1e-6)
    np.testing.assert_allclose([got.total, got.weight], [want.total, want.weight], rtol=1e-6)


def test_targets_that_are_nan_in_rows_of_weight_0_do_not_reach_the_derivative():
    gradient = fnn.autodiff(LINE, fnn.losses.squared_error)
    t, weight = jnp.array([[1.0], [jnp.nan]]), jnp.array([1.0, 0.0])
    assert np.isfinite(gradient(*line(), jnp.ones((2, 1)), t, weight).grads[0]["w"]).all()


def test_outputs_that_all_count_are_left_alone_and_forward_nothing_is():
    y = jnp.ones((3, 2, 2))
    assert stop_uncounted(y, None) is y
    np.testing.assert_array_equal(stop_uncounted(y, jnp.array([0.0, 1.0, 2.0])), y)


def test_a_run_goes_on_where_a_row_of_weight_0_overflows():
    x, t = np.float32([[0.5], [-1.0], [100.0]]), np.ones((3, 1), np.float32)
    arguments = {"epochs": 3, "params": line()[0], "progress": False}
    run = fnn.fit(LINE, POISSON, optax.sgd(0.1), (x, t), weights=[1.0, 1.0, 0.0], **arguments)
    fewer = fnn.fit(LINE, POISSON, optax.sgd(0.1), (x[:2], t[:2]), **arguments)
    np.testing.assert_allclose(run.history.loss, fewer.history.loss, rtol=1e-6)


def test_a_batch_without_weight_whose_loss_is_nan_is_no_divergence():
    rows = fnn.Data(fnn.Part(jnp.array([[0.5], [200.0]]), jnp.ones((2, 1)), jnp.array([1.0, 0.0])))
    training = fnn.trainer(LINE, POISSON, optax.sgd(0.1), batch_size=1, shuffle=False)
    end, history = training.run(training.init(jax.random.key(0), rows, params=line()[0]), rows, 2)
    assert bool(end.active) and np.isfinite(history.loss).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_mean_of_no_rows_is_nan_and_never_the_best(reduction):
    rows = fnn.Data(fnn.Part(X, X[:, :1]), fnn.Part(X, X[:, :1], jnp.zeros(40)))
    training = fnn.trainer(LINE, fnn.losses.squared_error, optax.sgd(0.1), reduction=reduction)
    end, history = training.run(training.init(jax.random.key(0), rows), rows, 2)
    assert np.isnan(history.validation_loss).all() and int(end.best_epoch) == -1


def test_weights_whose_sum_overflows_are_no_loss_of_0():
    weight = jnp.full(40, 1e37)
    rows = fnn.Data(fnn.Part(X, X[:, :1], weight))
    training = fnn.trainer(LINE, lambda y, t: 0.01 + 0 * y[:, 0], optax.sgd(0.1))  # whose sum does not
    end, _ = training.run(training.init(jax.random.key(0), rows), rows, 2)
    assert not bool(end.active) and end.diverged.tolist() == [0, 0]


# ---- dtypes


@pytest.mark.parametrize(
    "values, total",
    [
        (np.ones(40, bool), 80.0),
        (np.full(40, 3, np.int32), 240.0),
        (np.full(40, 3, np.uint8), 240.0),
        (jnp.full(40, 3000, jnp.float16), 240000.0),
        (jnp.full(40, 3, jnp.bfloat16), 240.0),
    ],
    ids=lambda v: str(getattr(v, "dtype", "")),
)
def test_sums_have_room_whatever_the_dtype_of_the_values(values, total):
    got, weight = weighted_sum(values, np.full(40, 2.0, np.float32))
    assert (got, weight, got.dtype) == (total, 80.0, np.float32)
    assert weighted_sum(values, None)[0] == total / 2


METRICS = {
    "bool": lambda y, t: y[:, 0] == y[:, 0],
    "int": lambda y, t: jnp.ones(len(y), jnp.int32),
    "float32": lambda y, t: jnp.ones(len(y), jnp.float32),
    "own": lambda y, t: jnp.ones(len(y), y.dtype),
}


@pytest.mark.parametrize("weights", [None, np.full(40, 2.0)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_histories_are_in_float32_at_least_whatever_the_dtype_of_a_metric_or_of_the_parameters(dtype, weights):
    params = jax.tree.map(lambda a: a.astype(dtype), LINE.init(jax.random.key(0), (3,))[0])
    x = np.asarray(X, np.float32)
    run = fnn.fit(LINE, fnn.losses.squared_error, optax.sgd(0.01), (x, x[:, :1]), epochs=2, batch_size=16,
                  params=params, metrics=METRICS, validation=0.2, weights=weights, progress=False)  # fmt: skip
    assert run.params[0]["w"].dtype == dtype and run.train_state.best_value.dtype == np.float32
    for values in jax.tree.leaves(run.history):
        assert values.dtype == np.float32
    for name in METRICS:
        assert run.history.metrics[name].tolist() == run.history.validation_metrics[name].tolist() == [1.0, 1.0]


def test_a_mean_of_many_rows_in_16_bits_is_that_of_the_rows():
    """16 bits hold no sum of 5,000 rows of 0.5: bfloat16 stands still at 256."""
    rows = fnn.Data(fnn.Part(jnp.zeros((5000, 1), jnp.bfloat16), jnp.full((5000, 1), 0.5, jnp.bfloat16)))
    training = fnn.trainer(LINE, fnn.losses.absolute_error, optax.sgd(0.0), batch_size=10)
    params = jax.tree.map(lambda a: jnp.zeros_like(a, jnp.bfloat16), LINE.init(jax.random.key(0), (1,))[0])
    _, history = jax.jit(training.run)(training.init(jax.random.key(0), rows, params=params), rows, 1)
    assert history.loss[0] == 0.5


# ---- compensation


def sums_of(value, count, start):
    @jax.jit
    def run(start, value):
        more = RunningSums(value, jnp.float32(1), {})
        return jax.lax.fori_loop(0, count, lambda _, sums: add_sums(sums, more), start)

    return run(start, jnp.float32(value))


def test_a_sum_of_many_is_right_to_the_last_digit_and_counts_go_on_beyond_2_to_24():
    blank = zero_sums(({"w": jnp.zeros(1)},), {})
    assert np.isclose(sums_of(0.1, 1_000_000, blank).loss, 100_000, rtol=1e-6)  # 100,958 one after another
    begun = blank._replace(weight=jnp.float32(2**24))
    assert sums_of(0.1, 1001, begun).weight == 2**24 + 1000  # 2^24 one after another; 1001 is between two of float32
    assert sums_of(0.1, 1001, begun).lost[1] in (1.0, -1.0)


def test_what_is_infinite_stays_so_in_a_sum():
    blank = zero_sums(({"w": jnp.zeros(1)},), {})
    after = add_sums(
        add_sums(blank, RunningSums(jnp.float32(jnp.inf), jnp.float32(1), {})),
        RunningSums(jnp.float32(1), jnp.float32(1), {}),
    )
    assert after.loss == jnp.inf and after.weight == 2


@pytest.mark.parametrize("members", [None, 2])
def test_an_epoch_of_many_steps_has_the_true_mean(members):
    """60,000 losses of 0.1, one per step: added one after another their mean is 5e-4 off."""
    count = 60_000
    rows = fnn.Data(fnn.Part(jnp.zeros((count, 1)), jnp.full((count, 1), 0.1)))
    net = fnn.serial(fnn.dense(1, weight_init=0.0))
    training = fnn.trainer(net, fnn.losses.absolute_error, optax.sgd(1e-36), batch_size=1, shuffle=False)
    run = lambda s: training.run(s, rows, 1)[1].loss[0]  # noqa: E731
    start = training.init(jax.random.key(0), rows)
    if members is None:
        loss = jax.jit(run)(start)
    else:
        loss = jax.jit(jax.vmap(run))(jax.tree.map(lambda a: jnp.stack([a] * members), start))
    np.testing.assert_allclose(loss, 0.1, rtol=1e-6)


# ---- what does not fit int32


def test_rows_and_epochs_beyond_int32_raise():
    rows = fnn.Data(
        fnn.Part(jax.ShapeDtypeStruct((2**31, 1), jnp.uint8), jax.ShapeDtypeStruct((2**31, 1), jnp.float32))
    )
    training = fnn.trainer(LINE, fnn.losses.squared_error, optax.sgd(0.1), batch_size=1024)
    start = jax.eval_shape(training.init, jax.random.key(0), rows)
    with pytest.raises(ValueError, match=r"data: expected at most 2\^31 - 1 rows in memory, .*, got 2147483648\. Pass"):
        jax.eval_shape(lambda s, d: training.run(s, d, 1), start, rows)
    with pytest.raises(ValueError, match=r"epochs: expected fewer than 2\^31, got 2147483648\. Pass"):
        fnn.fit(LINE, fnn.losses.squared_error, optax.sgd(0.1), (X, X[:, :1]), epochs=2**31)


def test_without_a_number_of_steps_there_is_no_limit(monkeypatch):
    monkeypatch.setattr("fnn.training.fused_loop.NO_LIMIT", 3)  # as 2^31 steps would be
    rows = fnn.Data(fnn.Part(X, X[:, :1]))
    training = fnn.trainer(LINE, fnn.losses.squared_error, optax.sgd(0.01), batch_size=20)
    start = training.init(jax.random.key(0), rows)
    assert int(training.run(start, rows, 5)[0].epoch) == 5
    assert int(training.run(start, rows, 5, 3)[0].step) == 1
