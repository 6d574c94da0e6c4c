"""A run that becomes nan or inf: stopped within the epoch, at the last finite parameters, and the place is named."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.helpers.problems import same_bits

RNG = np.random.default_rng(3)
X = RNG.normal(size=(200, 2)).astype("float32")
T = X.sum(1, keepdims=True)
X[137] = [5.0, 5.0]  # the row that will be nan
STEPS = 7  # an epoch, in batches of 32


def nan_from_epoch(first):
    """Passes everything on; from that epoch on row 137 becomes nan. It counts its steps in its state."""

    def init(key, in_shape):
        return (), {"steps": jnp.int32(0)}, in_shape

    def forward(params, state, x, key, train):
        bad = (x[:, :1] == 5.0) & (state["steps"] >= first * STEPS)
        steps = state["steps"] + 1 if train else state["steps"]
        return jnp.where(bad, jnp.nan, x), {"steps": steps}, bad

    def backward(params, bad, dy):
        return (), jnp.where(bad, 0.0, dy)

    return fnn.Layer(f"nan_from_epoch({first})", init, forward, backward)


NET = fnn.serial(nan_from_epoch(3), fnn.dense(1))


def fit(network=NET, loss=fnn.losses.squared_error, optimizer=None, x=X, t=T, **arguments):
    optimizer = optimizer or (lambda s: optax.sgd(s["lr"]))
    arguments = {"epochs": 6, "batch_size": 32, "settings": {"lr": 0.01}, "progress": False} | arguments
    return fnn.fit(network, loss, optimizer, (x, t), **arguments)


def diverged(**arguments):
    with pytest.warns(fnn.TrainingDiverged) as caught:
        run = fit(**arguments)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((run.params, run.history)))
    return run, str(caught[0].message)


def test_nan_planted_in_row_137_from_epoch_3_on_is_found_within_the_epoch():
    run, message = diverged()
    epoch, step = run.train_state.diverged.tolist()
    assert epoch == 3 and 0 <= step < STEPS and len(run.history.loss) == 3
    assert message == (
        f"training: expected finite numbers, got nan or inf in epoch 3, step {step} (both counted from 0), "
        "settings {'lr': 0.01}: the cost itself, nan in 1 of the batch's 32 rows, the first is row 137 of the "
        "data. The parameters from before that step are kept. "
        "Lower the learning rate, clip the gradient (optax.clip_by_global_norm), or look at that row."
    )


def test_the_parameters_are_those_from_before_the_bad_step():
    run, _ = diverged()
    rows = fnn.Data(fnn.Part(jnp.asarray(X), jnp.asarray(T)))
    training = fnn.trainer(NET, fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]), batch_size=32)
    again, start = jax.jit(training.run), jax.jit(training.init)(jax.random.key(0), rows, {"lr": 0.01})
    before, _ = again(start, rows, 6, 3 * STEPS + int(run.train_state.diverged[1]))
    assert bool(before.active)
    assert np.allclose(before.params[1]["w"], run.params[1]["w"], rtol=1e-6)
    later, _ = again(start, rows, 6, 3 * STEPS + int(run.train_state.diverged[1]) + 1)
    assert not bool(later.active)


def test_a_learning_rate_of_a_million_is_stopped_and_the_settings_are_told():
    run, message = diverged(network=fnn.serial(fnn.dense(1)), settings={"lr": 1e6})
    assert len(run.history.loss) < 2
    assert "settings {'lr': 1000000.0}: the cost itself, inf in" in message


AT_0 = fnn.serial(fnn.dense(1, weight_init=0.0))
ZEROS = np.zeros((200, 1), "float32")


@pytest.mark.parametrize(
    "arguments, place",
    [
        # the derivative of the root at 0 is inf, and inf times 0 is nan; the cost is 0
        ({"loss": lambda y, t: jnp.sqrt(((y - t) ** 2).sum(-1)), "t": ZEROS}, "the derivative by params[0]['b']"),
        ({"optimizer": lambda s: optax.sgd(3e38 + 0 * s["lr"]), "t": ZEROS + 9}, "the update of params[0]['b']"),
    ],
    ids=["derivative", "update"],
)
def test_the_first_bad_leaf_is_named(arguments, place):
    run, message = diverged(network=AT_0, **arguments)
    assert f"in epoch 0, step 0 (both counted from 0), settings {{'lr': 0.01}}: {place}. The" in message
    assert not np.asarray(run.params[0]["w"]).any()  # where it started


def test_it_can_be_raised_and_holds_the_run():
    with pytest.raises(fnn.TrainingDiverged, match="expected finite numbers, got nan or inf in epoch 3") as caught:
        fit(on_nan="raise")
    run, _ = diverged()
    assert same_bits(caught.value.run, run)


def test_a_diverged_run_stays_so_and_says_so_again(tmp_path):
    first, message = diverged(checkpoint=tmp_path)
    again, same_message = diverged(checkpoint=tmp_path)
    assert same_bits(first, again) and message == same_message


def test_the_row_is_counted_in_the_data_as_they_were_handed_over():
    run, message = diverged(validation=0.2, key=0)
    assert 137 not in run.validation_rows and run.validation_rows.min() < 137
    assert "the first is row 137 of the data" in message


def test_the_best_by_validation_come_back_of_a_run_that_diverged():
    run, _ = diverged(validation=(X[:50], T[:50]))
    assert run.best_epoch == int(np.argmin(run.history.validation_loss)) <= 2
    assert same_bits(run.params, run.train_state.best[0])


def test_layer_state_that_becomes_infinite_is_a_divergence():
    """The variance of 1e30 is beyond float32: prediction would divide by it. What began infinite is none."""
    x = np.random.default_rng(0).normal(size=(40, 2)).astype("float32") * np.float32([1, 1e30])
    with pytest.warns(fnn.TrainingDiverged, match=r"the layer state\[0\]\['var'\]"):
        run = fnn.fit(
            fnn.serial(fnn.batch_norm(), fnn.dense(1)),
            fnn.losses.squared_error,
            optax.sgd(0.1),
            (x, x[:, :1] * 0),
            epochs=2,
        )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((run.state, run.params)))

    def largest(params, state, x, key, train):
        return x, jnp.maximum(state, x.max()), ()

    keeps = fnn.Layer(
        "largest", lambda key, shape: ((), jnp.float32(-jnp.inf), shape), largest, lambda p, c, dy: ((), dy)
    )
    run = fnn.fit(
        fnn.serial(keeps, fnn.dense(1)), fnn.losses.squared_error, optax.sgd(0.1), (x[:, :1], x[:, :1]), epochs=2
    )
    assert len(run.history.loss) == 2 and run.state[0] == x[:, 0].max()
