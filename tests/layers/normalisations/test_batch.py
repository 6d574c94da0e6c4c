"""batch_norm and layer_norm: NumPy, autodiff, padding, running statistics, extremes, and inside other layers.

Most tests run the same few programs, `both_ways`, since compiling is what takes the time.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.layers.normalisations.batch import batch_norm
from fnn.layers.normalisations.features import layer_norm
from tests.helpers.compare import close, normwise

KEY = jax.random.key(0)
KEPT = np.array([0, 2, 3, 5])
MASK = np.isin(np.arange(6), KEPT)
ROWS = fnn.Rows(MASK)
MODES = {"training": True, "masked": ROWS, "prediction": False}
shapes = pytest.mark.parametrize("shape", [(6, 3), (6, 2, 2, 3)], ids=["vectors", "images"])
modes = pytest.mark.parametrize("mode", MODES)


def numbers(shape=(6, 3), dtype="float64", seed=0):
    """Parameters, state, x and dy, none of them special."""
    rng = np.random.default_rng(seed)
    params = {"scale": rng.uniform(0.5, 2, 3), "offset": rng.normal(size=3)}
    state = {"mean": rng.normal(size=3), "var": rng.uniform(0.5, 2, 3)}
    return jax.tree.map(lambda a: a.astype(dtype), (params, state, rng.normal(2, 3, shape), rng.normal(size=shape)))


def padding_set(a, value):
    return np.where(MASK.reshape(-1, *[1] * (a.ndim - 1)), a, value)


def both_ways(layer, params, state, x, dy, train):
    """Outputs, state, and derivatives by hand and by autodiff of the forward."""
    mask = train.mask if isinstance(train, fnn.Rows) else None
    return _both_ways(layer, bool(train), mask, params, state, x, dy)


@partial(jax.jit, static_argnums=(0, 1))
def _both_ways(layer, train, mask, params, state, x, dy):
    train = train if mask is None else fnn.Rows(mask)
    y, new_state, cache = layer.forward(params, state, x, None, train)
    pull = jax.vjp(lambda p, x: layer.forward(p, state, x, None, train)[0], params, x)[1]
    return y, new_state, layer.backward(params, cache, dy), pull(dy)


# ---- batch_norm


def batch_norm_in_numpy(params, state, x, mode, eps=1e-5):
    """Outputs of the rows that count, and the batch's mean and variance; by a loop over channels."""
    x = x[KEPT] if mode == "masked" else x
    y, moments = np.empty_like(x), {"mean": np.empty(3), "var": np.empty(3)}
    for c in range(3):
        channel = x[..., c]
        mean, var = moments["mean"][c], moments["var"][c] = np.mean(channel), np.var(channel)
        if mode == "prediction":
            mean, var = state["mean"][c], state["var"][c]
        y[..., c] = params["scale"][c] * (channel - mean) / np.sqrt(var + eps) + params["offset"][c]
    return y, moments


@partial(jax.jit, static_argnums=0)
def derivatives_in_jax(mode, state, params, x, dy):
    """Autodiff of the formula, written down without a mask: the rows that do not count are taken out."""

    def formula(params, x):
        rows = x[KEPT] if mode == "masked" else x
        axes = tuple(range(x.ndim - 1))
        mean, var = (state["mean"], state["var"]) if mode == "prediction" else (rows.mean(axes), rows.var(axes))
        return params["scale"] * (rows - mean) / jnp.sqrt(var + 1e-5) + params["offset"]

    return jax.vjp(formula, params, x)[1](dy)


@shapes
@modes
def test_batch_norm_equals_numpy_and_its_backward_autodiff(shape, mode, x64):
    params, state, x, dy = numbers(shape)
    rows = KEPT if mode == "masked" else np.arange(6)
    dy = padding_set(dy, 0.0) if mode == "masked" else dy
    y, new_state, by_hand, by_autodiff = both_ways(batch_norm(), params, state, x, dy, MODES[mode])
    expected, moments = batch_norm_in_numpy(params, state, x, mode)
    assert normwise(y[rows], expected) < 1e-12
    assert normwise(by_hand, by_autodiff) < 1e-12
    assert normwise(by_hand, derivatives_in_jax(mode, state, params, x, dy[rows])) < 1e-12
    for name in ("mean", "var"):  # var over n, as in Keras and Flax; not over n - 1
        close(new_state[name], state[name] if mode == "prediction" else 0.9 * state[name] + 0.1 * moments[name])


@shapes
@pytest.mark.parametrize("filling", [1e6, np.nan, -np.inf])
def test_padding_counts_for_nothing_whatever_stands_in_it(shape, filling, x64):
    """With the test above: as if the rows were not there."""
    params, state, x, dy = numbers(shape)
    expected = both_ways(batch_norm(), params, state, x, padding_set(dy, 0.0), ROWS)
    filled = padding_set(x, filling)
    y, new_state, by_hand, _ = both_ways(batch_norm(), params, state, filled, padding_set(dy, np.nan), ROWS)
    assert normwise((y[KEPT], new_state, by_hand), (expected[0][KEPT], *expected[1:3])) < 1e-12
    assert (np.asarray(by_hand[1])[~MASK] == 0).all()
    assert np.isfinite(y).all()
    by_autodiff = both_ways(batch_norm(), params, state, filled, padding_set(dy, 0.0), ROWS)[3]
    assert normwise(by_autodiff, expected[3]) < 1e-12
    if filling == 1e6:  # padding is normalised as the rest
        moments = batch_norm_in_numpy(params, state, x, "masked")[1]
        each = params["scale"] * (1e6 - moments["mean"]) / np.sqrt(moments["var"] + 1e-5) + params["offset"]
        close(y[~MASK], np.broadcast_to(each, y[~MASK].shape))


@shapes
def test_without_a_true_row_all_is_finite_and_the_running_statistics_stay(shape, x64):
    params, state, x, dy = numbers(shape)
    nobody = fnn.Rows(np.zeros(6, bool))
    for filling in (x, padding_set(x, np.nan), np.full_like(x, np.nan)):
        y, new_state, by_hand, _ = both_ways(batch_norm(), params, state, filling, dy, nobody)
        assert np.isfinite(y).all() and normwise(new_state, state) == 0
        assert all((np.asarray(a) == 0).all() for a in jax.tree.leaves(by_hand))
    _, _, (_, _, share) = batch_norm().forward(params, state, jnp.asarray(x), None, nobody)
    assert (np.asarray(share) == 0).all()  # un-jitted; the compiler happens to turn 0/0 into 0 here


def test_one_row_alone_becomes_the_offset_exactly(x64):
    params, state, x, dy = numbers()
    one = fnn.Rows(np.arange(6) == 4)
    y, new_state, (dparams, dx), _ = both_ways(batch_norm(), params, state, x, dy, one)
    np.testing.assert_array_equal(y[4], params["offset"])
    np.testing.assert_allclose(dx, np.zeros((6, 3)), atol=1e-13)
    close(new_state["mean"], 0.9 * state["mean"] + 0.1 * x[4])
    close(new_state["var"], 0.9 * state["var"])
    close(dparams["offset"], dy[4])
    np.testing.assert_array_equal(dparams["scale"], np.zeros(3))
    alone = batch_norm().forward(params, state, jnp.asarray(x[4:5]), None, True)[0]
    np.testing.assert_array_equal(alone, params["offset"][None])


@pytest.mark.parametrize("dtype, constant", [("float64", 0.1), ("float32", 0.1), ("float32", 1e6 / 3)])
def test_a_channel_that_never_varies_becomes_the_offset_exactly(dtype, constant, x64):
    params, state, x, dy = numbers(dtype=dtype)
    x[:, 1] = constant
    y, new_state, by_hand, by_autodiff = both_ways(batch_norm(), params, state, x, dy, True)
    np.testing.assert_array_equal(y[:, 1], np.full(6, params["offset"][1]))
    close(new_state["var"][1], 0.9 * state["var"][1], rtol=1e-6)
    assert by_hand[0]["scale"][1] == 0
    assert normwise(by_hand, by_autodiff) < (1e-12 if dtype == "float64" else 1e-5)


def test_the_variance_does_not_cancel_far_from_zero(x64):
    params, state, x, dy = numbers(dtype="float32")
    x = x + np.float32(1e4)
    y, new_state, _, _ = both_ways(batch_norm(), params, state, x, dy, True)
    expected, moments = batch_norm_in_numpy(*numbers()[:2], x.astype(np.float64), "training")
    np.testing.assert_allclose(new_state["var"], 0.9 * state["var"] + 0.1 * moments["var"], rtol=1e-6)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_running_statistics_follow_the_recursion_and_prediction_uses_them(x64):
    params, state, out_shape = batch_norm().init(KEY, (3,))
    assert out_shape == (3,)
    assert normwise(state, {"mean": np.zeros(3), "var": np.ones(3)}) == 0
    rng, mean, var = np.random.default_rng(3), np.zeros(3), np.ones(3)
    for _ in range(4):
        x = rng.normal(5, 2, (6, 3))
        y, state, _, _ = both_ways(batch_norm(), params, state, x, x, True)
        mean, var = 0.9 * mean + 0.1 * x.mean(0), 0.9 * var + 0.1 * x.var(0)
    close(state["mean"], mean)
    close(state["var"], var)
    predicted, after, _, _ = both_ways(batch_norm(), params, state, x, x, False)
    close(predicted, (x - mean) / np.sqrt(var + 1e-5))
    assert normwise(after, state) == 0
    assert normwise(predicted, y) > 0.1  # the batch's own statistics are others


def test_momentum_and_eps_are_what_they_say_and_may_be_traced(x64):
    params, state, x, _ = numbers()

    @jax.jit
    def norms(momentum, eps):
        y, new_state, _ = batch_norm(momentum, eps).forward(params, state, x, None, True)
        return y, new_state, layer_norm(eps).forward(params, (), x, None, True)[0]

    y, new_state, by_row = norms(0.3, 0.1)
    expected, moments = batch_norm_in_numpy(params, state, x, "training", eps=0.1)
    close(y, expected)
    close(new_state["mean"], 0.3 * state["mean"] + 0.7 * moments["mean"])
    close(by_row, layer_norm_in_numpy(params, x, eps=0.1))


def test_nothing_given_is_changed_and_the_same_comes_out_again(x64):
    given = jax.tree.map(jnp.asarray, numbers())
    first, again = (both_ways(batch_norm(), *given, True) for _ in range(2))
    assert normwise(first, again) == 0 and normwise(given, numbers()) == 0


def test_under_vmap_each_member_has_its_own_statistics(x64):
    members = [numbers(seed=seed) for seed in range(2)]
    masks = np.stack([MASK, np.arange(6) > 1])
    stacked = jax.tree.map(lambda *a: np.stack(a), *members)
    together = jax.vmap(lambda *m: _both_ways(batch_norm(), True, *m))(masks, *stacked)
    for i, member in enumerate(members):
        alone = both_ways(batch_norm(), *member, fnn.Rows(masks[i]))
        assert normwise(jax.tree.map(lambda a, i=i: np.asarray(a)[i], together), alone) < 1e-12


# ---- layer_norm


def layer_norm_in_numpy(params, x, eps=1e-5):
    """By a loop over rows, and over the pixels of images."""
    rows = [(row - np.mean(row)) / np.sqrt(np.var(row) + eps) for row in x.reshape(-1, 3)]
    return np.reshape(rows, x.shape) * params["scale"] + params["offset"]


@jax.jit
def layer_norm_derivatives_in_jax(params, x, dy):
    def formula(params, x):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return params["scale"] * (x - mean) / jnp.sqrt(var + 1e-5) + params["offset"]

    return jax.vjp(formula, params, x)[1](dy)


@shapes
def test_layer_norm_equals_numpy_and_its_backward_autodiff(shape, x64):
    params, _, x, dy = numbers(shape)
    y, state, by_hand, by_autodiff = both_ways(layer_norm(), params, (), x, dy, True)
    assert state == () and normwise(y, layer_norm_in_numpy(params, x)) < 1e-12
    assert normwise(by_hand, by_autodiff) < 1e-12
    assert normwise(by_hand, layer_norm_derivatives_in_jax(params, x, dy)) < 1e-12


def test_layer_norm_is_the_same_in_training_and_in_prediction():
    params, _, x, _ = numbers(dtype="float32")
    programs = {
        str(jax.make_jaxpr(lambda x, train=train: layer_norm().forward(params, (), x, None, train))(x))
        for train in (True, False, ROWS)
    }
    assert len(programs) == 1


def test_layer_norm_of_a_row_whose_features_are_equal_is_the_offset_exactly():
    params, _, x, dy = numbers(dtype="float32")
    x[2] = 1.7  # in float32 a third of the sum of three is not 1.7
    y, _, by_hand, by_autodiff = both_ways(layer_norm(), params, (), x, dy, True)
    np.testing.assert_array_equal(y[2], params["offset"])
    assert normwise(by_hand, by_autodiff) < 1e-5


# ---- both: parameters and dtypes

each = pytest.mark.parametrize("make", [batch_norm, layer_norm])


@each
@pytest.mark.parametrize("scale, offset", [(True, True), (True, False), (False, True), (False, False)])
def test_scale_and_offset_can_be_left_out(make, scale, offset, x64):
    layer = make(scale=scale, offset=offset)
    params, state, _ = layer.init(KEY, (3,))
    expected = {"scale": np.ones(3)} if scale else {}
    expected |= {"offset": np.zeros(3)} if offset else {}
    assert params.keys() == expected.keys() and normwise(params, expected) == 0
    x = numbers()[2]
    if scale or offset:  # the derivatives by what is there
        shaped = jax.eval_shape(lambda x: layer.backward(params, layer.forward(params, state, x, None, True)[2], x), x)
        assert jax.tree.map(jnp.shape, shaped) == (jax.tree.map(jnp.shape, params), x.shape)
        return
    y, _, by_hand, by_autodiff = both_ways(layer, params, state, x, x**2, True)
    ones = {"scale": np.ones(3), "offset": np.zeros(3)}
    assert normwise(y, both_ways(make(), ones, state, x, x**2, True)[0]) < 1e-12
    assert normwise(by_hand, by_autodiff) < 1e-12


@each
def test_bfloat16_comes_back_with_statistics_in_float32(make):
    params, state, x, dy = numbers(dtype="float32")
    state = state if make is batch_norm else ()
    x, dy = x.astype(jnp.bfloat16), dy.astype(jnp.bfloat16)
    y, new_state, (dparams, dx), _ = both_ways(make(), params, state, x, dy, True)
    wide = both_ways(make(), params, state, x.astype("float32"), dy.astype("float32"), True)
    assert y.dtype == dx.dtype == jnp.bfloat16
    for got, expected in ((y, wide[0]), (dx, wide[2][1])):  # one rounding at the end, and no more
        np.testing.assert_allclose(got.astype("float32"), expected, rtol=2**-8, atol=1e-6)
    assert normwise((new_state, dparams), (wide[1], wide[2][0])) < 1e-6
    shaped = jax.eval_shape(lambda x: make().forward(params, state, x, None, False), x)
    assert shaped[0].dtype == jnp.bfloat16 and {a.dtype for a in jax.tree.leaves(shaped[1])} <= {np.dtype("float32")}


@each
def test_integers_are_the_numbers_that_they_are(make):
    params, state, _, _ = numbers(dtype="float32")
    state = state if make is batch_norm else ()
    x = np.arange(18, dtype=np.uint8).reshape(6, 3)
    forward = jax.jit(lambda x: make().forward(params, state, x, None, True)[0])
    np.testing.assert_allclose(forward(x), forward(x.astype("float32")), rtol=1e-6)


# ---- inside other layers, and in training


def test_a_deep_net_with_padding_goes_backward_as_autodiff_does(x64):
    net = fnn.repeat(fnn.residual(fnn.dense(4, bias=False), batch_norm(), fnn.relu), 3)
    params, state = jax.jit(lambda key: net.init(key, (4,))[:2])(KEY)
    x = np.random.default_rng(0).normal(size=(6, 4))
    y, new_state, by_hand, by_autodiff = both_ways(net, params, state, x, padding_set(x, 0.0), ROWS)
    assert np.isfinite(y).all() and normwise(new_state, state) > 0.01
    assert normwise(by_hand, by_autodiff) < 1e-12


def test_a_repeated_block_trains_with_batches_that_do_not_divide_the_rows():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(22, 4)), jnp.float32)
    net = fnn.serial(fnn.repeat(fnn.serial(fnn.dense(4), batch_norm(), fnn.relu), 3), fnn.dense(1))
    training = fnn.trainer(
        net, fnn.losses.squared_error, optax.sgd(0.02), batch_size=8, gradient=fnn.backprop, shuffle=False
    )
    data = fnn.Data(fnn.Part(x, x.sum(1, keepdims=True)))
    end, history = jax.jit(lambda key: training.run(training.init(key, data), data, 60))(KEY)
    assert history.loss[-1] < 0.3 * history.loss[0] and end.active
    moved = end.state[0][1]
    assert moved["mean"].shape == moved["var"].shape == (3, 4) and (moved["var"] != 1).all()
    predicted = fnn.predict(net, end, np.asarray(x))  # with the running statistics
    assert ((predicted - data.train.t) ** 2).mean() < 0.3 * history.loss[0]


def test_the_filling_of_the_last_batch_does_not_enter_the_running_statistics():
    x = jnp.asarray([[100.0], [1.0], [2.0]])  # the last batch is row 2 alone, filled up with row 0
    training = fnn.trainer(
        fnn.serial(batch_norm(momentum=0.0)), fnn.losses.squared_error, optax.sgd(0.0), batch_size=2, shuffle=False
    )
    data = fnn.Data(fnn.Part(x, x))
    end, _ = jax.jit(lambda key: training.run(training.init(key, data), data, 1))(KEY)
    assert float(end.state[0]["mean"][0]) == 2.0 and float(end.state[0]["var"][0]) == 0.0


# ---- errors


@each
def test_shapes_that_cannot_work_raise(make):
    name = make.__name__
    for in_shape in ((), (0,), (2, 0, 3)):
        with pytest.raises(fnn.ShapeError) as caught:
            make().init(KEY, in_shape)
        assert str(caught.value) == (
            f"{name}: expected examples of shape (..., channels), at least one number, got {in_shape}. "
            "Give each row an axis of channels: x[:, None]."
        )
    params, state, _ = make().init(KEY, (3,))
    for shape in ((6, 2), (3,), (6, 3, 1)):
        with pytest.raises(fnn.ShapeError) as caught:
            make().forward(params, state, jnp.ones(shape), None, True)
        assert str(caught.value).startswith(f"{name}: expected x of shape (batch, ..., 3), got {shape}. ")


def test_masks_that_do_not_fit_and_no_rows_raise():
    params, state, _, _ = numbers(dtype="float32")
    with pytest.raises(fnn.ShapeError) as caught:
        batch_norm().forward(params, state, jnp.ones((6, 3)), None, fnn.Rows(jnp.ones(5, bool)))
    assert str(caught.value) == "batch_norm: expected a mask of shape (6,), got (5,). Mark each row True or False."
    with pytest.raises(fnn.ShapeError, match="expected at least one row when it trains"):
        batch_norm().forward(params, state, jnp.ones((0, 3)), None, True)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: batch_norm(-0.1), ValueError, "batch_norm: expected a momentum of at least 0, got -0.1. "),
        (lambda: batch_norm(1.5), ValueError, "batch_norm: expected a momentum of at most 1, got 1.5. "),
        (lambda: batch_norm("0.9"), TypeError, "batch_norm: expected a momentum of at least 0, got str '0.9'. "),
        (lambda: batch_norm(eps=0.0), ValueError, "batch_norm: expected an eps above 0, got 0.0. Write eps=1e-5."),
        (lambda: layer_norm(-1e-5), ValueError, "layer_norm: expected an eps above 0, got -1e-05. Write eps=1e-5."),
    ],
)
def test_numbers_out_of_range_raise(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_they_print_as_they_were_made():
    assert batch_norm() is batch_norm(0.9) and layer_norm() is layer_norm(1e-5)
    assert f"{batch_norm(0.99, scale=False)}, {layer_norm()}" == "batch_norm(momentum=0.99, scale=False), layer_norm()"


# ---- numbers whose square is beyond float32


@pytest.mark.parametrize("size", [1e15, 1e20, 1e30, 1e33])
def test_huge_numbers_are_normalised_as_others(size):
    """Their variance is beyond float32; by hand, by autodiff and compiled."""
    params, state, x, dy = numbers(dtype="float32")
    for layer, start in ((batch_norm(), state), (layer_norm(), ())):
        y, _, hand, auto = both_ways(layer, params, start, x * np.float32(size), dy, True)
        expected = both_ways(layer, params, start, x * np.float32(1e6), dy, True)
        assert normwise(y, expected[0]) < 1e-5
        dx = expected[2][1] * np.float32(1e6 / size)
        assert normwise(hand[1], dx) < 1e-4 and normwise(auto[1], dx) < 1e-4
        assert normwise(hand[0], expected[2][0]) < 1e-5 and normwise(auto[0], expected[2][0]) < 1e-5


def test_numbers_below_eps_are_divided_by_its_root():
    x = jnp.array([[1e-30, 3e-30]])
    y = layer_norm().forward(*layer_norm().init(KEY, (2,))[:2], x, None, False)[0]
    close(y, np.array([[-1e-30, 1e-30]]) / np.sqrt(1e-5), 1e-5)


def test_padding_beyond_all_bounds_gives_no_nan():
    """0 · inf: normalised, padding of 3e38 would be inf, and its derivative is 0."""
    params, state, x, dy = numbers(dtype="float32")
    x, dy = padding_set(x * np.float32(1e-3), np.float32(3e38)), padding_set(dy, np.float32(0))
    _, _, hand, auto = both_ways(batch_norm(), params, state, x, dy, ROWS)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(hand))
    assert normwise(np.asarray(hand[1])[KEPT], np.asarray(auto[1])[KEPT]) < 1e-5
