"""embedding: lookups and their sums, in training and studies; what is no category, on the host and in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.layers.embedding import check_categories, embedding
from tests.helpers.compare import has_hint

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.integers(0, 5, (40, 2))
T = X.sum(1) % 2
NET = fnn.serial(fnn.embedding(5, 3), fnn.flatten(), fnn.dense(8), fnn.relu, fnn.dense(2))
LOSS = fnn.losses.sparse_softmax_cross_entropy


def fit(x=X, net=NET, **more):
    given = {"epochs": 2, "progress": False, "batch_size": 16} | more
    return fnn.fit(net, LOSS, given.pop("optimizer", optax.adam(0.05)), given.pop("data", (x, T)), **given)


def wrong(value):
    return np.where(np.arange(80).reshape(40, 2) == 15, value, X)  # row 7


@pytest.mark.parametrize("gradient", [fnn.autodiff, pytest.param(fnn.backprop, marks=pytest.mark.slow)])
def test_it_learns_what_no_sum_of_its_columns_can_say(gradient):
    run = fit(epochs=60, gradient=gradient)
    assert fnn.evaluate(NET, run, (X, T), {"accuracy": fnn.accuracy}) == {"accuracy": 1.0}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "bool", "float32", "bfloat16"])
def test_numbers_of_every_dtype_are_the_categories_that_they_are(dtype):
    layer = embedding(200, 2)
    params = layer.init(KEY, (2,))[0]
    x = np.array([[0, 1], [1, 0]] if dtype == "bool" else [[0, 199], [7, 7]])
    y = layer.forward(params, (), jnp.asarray(x, dtype), None, False)[0]
    np.testing.assert_array_equal(y, params["table"][x])


def test_a_large_table_takes_bytes_and_refuses_floats_that_cannot_tell_categories_apart():
    layer = embedding(300, 2)
    params = layer.init(KEY, (1,))[0]
    assert layer.forward(params, (), jnp.array([[255]], jnp.uint8), None, False)[0].shape == (1, 1, 2)
    with pytest.raises(
        TypeError, match=r"embedding\(300, 2\): expected numbers that tell 300 categories apart, got bfl"
    ):
        fit(net=fnn.mixed_precision(fnn.serial(layer, fnn.flatten(), fnn.dense(2))))
    net = fnn.serial(layer, fnn.flatten(), fnn.mixed_precision(fnn.dense(2)))  # as the hint says
    assert np.isfinite(fit(net=net).history.loss).all()


def test_what_is_no_category_is_nan_and_has_no_derivative_by_the_table():
    layer = embedding(3, 2)
    params = layer.init(KEY, (4,))[0]
    x = jnp.array([[0.0, -1.0, 3.0, 1.5], [2.0, np.nan, np.inf, 2.0]])
    y, _, cache = layer.forward(params, (), x, None, False)
    np.testing.assert_array_equal(np.isnan(y).all(-1), [[False, True, True, True], [False, True, True, False]])
    np.testing.assert_array_equal(y[1, 3], params["table"][2])
    dparams, dx = layer.backward(params, cache, jnp.ones(y.shape))
    np.testing.assert_array_equal(dparams["table"], [[1, 1], [0, 0], [2, 2]])
    assert dx.shape == x.shape and not dx.any()
    negative = layer.forward(params, (), jnp.array([[-1]]), None, False)[0]
    assert np.isnan(negative).all()  # no category counted from the end


def stream(x):
    def chunks():
        yield X, T
        yield x, T

    return chunks


WHERE = {  # who is given the categories, and what the message calls them
    "fit": (lambda x: fit(x), r"data\[0\]"),
    "validation": (lambda x: fit(validation=(x, T)), r"validation\[0\]"),
    "a stream": (lambda x: fit(data=stream(x)), "data, chunk 1: x"),
    "a sweep": (
        lambda x: fnn.sweep(
            NET, LOSS, lambda s: optax.sgd(s["lr"]), (x, T), over={"lr": [0.1, 0.2]}, epochs=1, progress=False
        ),
        r"data\[0\]",
    ),
    "folds": (
        lambda x: fnn.cross_validate(NET, LOSS, optax.sgd(0.1), (x, T), folds=2, epochs=1, progress=False),
        r"data\[0\]",
    ),
    "an ensemble": (
        lambda x: fnn.ensemble(NET, LOSS, optax.sgd(0.1), (x, T), members=2, epochs=1, progress=False),
        r"data\[0\]",
    ),
    "predict": (lambda x: fnn.predict(NET, trained(), x), "x"),
    "predict, a later chunk": (lambda x: fnn.predict(NET, trained(), x, batch_size=3), "x"),
    "a predictor": (lambda x: fnn.predictor(NET, trained())(x), "x"),
    "evaluate": (lambda x: fnn.evaluate(NET, trained(), (x, T), {"loss": LOSS}), "data, x"),
    "a check of derivatives": (
        lambda x: fnn.check_gradients(NET, LOSS, trained().params, trained().state, x, T, show=False),
        "x",
    ),
    "laplace": (lambda x: fnn.laplace(NET, trained(), (x, T), LOSS), r"data\[0\]"),
}


def trained():
    params, state, _ = NET.init(KEY, (2,))
    return fnn.Run(params, state, None, None)


@pytest.mark.parametrize("who", WHERE)
def test_what_is_no_category_is_named_with_its_row_before_anything_is_computed(who):
    call, name = WHERE[who]
    found = f"^{name}: expected whole numbers from 0 to 4, the categories of embedding\\(5, 3\\), got 5 in row 7. Use"
    with pytest.raises(ValueError, match=found):
        call(wrong(5))


@pytest.mark.parametrize(
    "value, message",
    [
        (5, r"got 5 in row 7. Use embedding\(6, 3\), or leave out what is beyond."),
        (-1, r"got -1 in row 7. Number the categories from 0, in whole numbers."),
        (2.5, r"got 2.5 in row 7. Number the categories from 0, .* leave them out of standardise."),
        (2**31 - 10, r"got 2147483638 in row 7. Use embedding\(2147483639, 3\), or leave out what is beyond."),
    ],
)
def test_the_message_says_the_number_and_what_to_do(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_categories(NET, "x", wrong(value))
    assert has_hint(str(caught.value))


def test_the_hint_works():
    net = fnn.serial(fnn.embedding(6, 3), fnn.flatten(), fnn.dense(2))
    assert np.isfinite(fit(wrong(5), net).history.loss).all()


@pytest.mark.parametrize(
    "net",
    [
        fnn.serial(fnn.flatten(), fnn.embedding(5, 3), fnn.flatten(), fnn.dense(2)),
        fnn.serial(fnn.serial(fnn.embedding(5, 3)), fnn.flatten(), fnn.dense(2)),
        fnn.mixed_precision(fnn.serial(fnn.embedding(5, 3), fnn.flatten(), fnn.dense(2))),
    ],
    ids=str,
)
def test_it_is_found_behind_what_leaves_numbers_as_they_are(net):
    with pytest.raises(ValueError, match=r"x: expected whole numbers from 0 to 4"):
        check_categories(net, "x", wrong(5))


def test_what_other_layers_make_of_the_inputs_is_not_judged():
    halves = fnn.serial(lambda x: jnp.floor(x / 2), fnn.embedding(3, 3), fnn.flatten(), fnn.dense(2))
    check_categories(halves, "x", wrong(5))
    assert np.isfinite(fit(wrong(5), halves).history.loss).all()
    with pytest.warns(fnn.TrainingDiverged):  # which the host does not know before, and the program sees
        fit(wrong(9), halves)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 3), "embedding: expected a size in whole numbers, at least 1, got 0. Write embedding(1000, 16)."),
        ((5, 2.0), "embedding: expected a whole number of features, at least 1, got 2.0. Write embedding(1000, 16)."),
        ((5, 2, -1.0), "embedding(5, 2): expected a standard deviation weight_init of at least 0, got -1.0. Pass a "
         "small number, such as 0.1."),
    ],
)  # fmt: skip
def test_arguments_out_of_range_raise(arguments, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        embedding(*arguments[:2], **({"weight_init": arguments[2]} if len(arguments) > 2 else {}))
    assert str(caught.value) == message


@pytest.mark.slow
def test_members_of_a_sweep_are_the_runs_alone():
    by = lambda s: optax.sgd(s["lr"])  # noqa: E731
    found = fnn.sweep(NET, LOSS, by, (X, T), over={"lr": [0.1, 0.3]}, epochs=3, progress=False, key=1)
    for rate, losses in zip((0.1, 0.3), found.histories["loss"], strict=True):
        alone = fnn.fit(NET, LOSS, by, (X, T), epochs=3, settings={"lr": rate}, key=1, progress=False)
        np.testing.assert_allclose(losses, alone.history.loss, rtol=1e-4)


def test_what_was_trained_is_saved_and_loaded(tmp_path):
    run = fit()
    fnn.save(tmp_path / "run.fnn", NET, run)
    net, loaded = fnn.load(tmp_path / "run.fnn")
    assert net == NET
    np.testing.assert_array_equal(fnn.predict(net, loaded, X), fnn.predict(NET, run, X))


TWO = fnn.serial(
    fnn.parallel(age=fnn.serial(), town=fnn.serial(fnn.embedding(3, 2), fnn.flatten())), fnn.concatenate(), fnn.dense(1)
)
CHOSEN = fnn.serial(fnn.select("town"), fnn.embedding(3, 2), fnn.flatten(), fnn.dense(1))


@pytest.mark.parametrize("net", [TWO, CHOSEN])
def test_among_several_inputs_its_own_is_judged(net):
    x = {"age": np.float32([[40], [50], [60]]), "town": np.array([[0], [2], [1]])}
    t = np.ones((3, 1), np.float32)
    run = fnn.fit(net, fnn.losses.squared_error, optax.sgd(0.1), (x, t), epochs=2, progress=False)
    wrong = {**x, "town": x["town"] + 1}
    with pytest.raises(ValueError, match=r'^x\["town"\]: expected whole numbers from 0 to 2, .* got 3 in row 1\. Use'):
        fnn.predict(net, run, wrong)
    with pytest.raises(ValueError, match=r'^data\[0\]\["town"\]: expected whole numbers from 0 to 2'):
        fnn.fit(net, fnn.losses.squared_error, optax.sgd(0.1), (wrong, t), epochs=1)
