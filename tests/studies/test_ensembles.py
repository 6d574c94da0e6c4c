"""Ensembles: every member is the run of `fit` with its own seed, and together they say what NumPy makes of them."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import fnn
from fnn.studies.ensembles import ensemble
from tests.helpers.compare import has_hint
from tests.helpers.problems import LABELS, LOSS, X, same_bits
from tests.helpers.signals import ending_of
from tests.helpers.studies import EPOCHS, HELD, ONE, PARTS, TOLERANCE, TRAINING, TWO, Signals, difference, has_compiled

NET = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dropout(0.2), fnn.dense(2))
SHARED = {
    **TRAINING, "net": NET, "loss": LOSS, "optimizer": optax.sgd(0.3, momentum=0.9), "data": (X, LABELS),
    "penalty": fnn.penalties.l2(1e-3), "patience": 3, "validation": HELD,
}  # fmt: skip


def together(**more):
    """Five members, three in a program, unless asked otherwise."""
    arguments = {**SHARED, "members": 5, "key": 7, "width": 3, "devices": ONE, **more}
    return ensemble(*[arguments.pop(name) for name in PARTS], **arguments)


def alone(**more):
    arguments = {**SHARED, **more}
    return fnn.fit(*[arguments.pop(name) for name in PARTS], **arguments)


@pytest.fixture(scope="module")
def found():
    return together()


@pytest.fixture
def signals(monkeypatch):
    return Signals(monkeypatch)


def small(last, loss, data, **more):
    """Two members of one layer, in one batch."""
    own = {"batch_size": None, "penalty": None, "patience": None, "metrics": None, "epochs": 20, "validation": None}
    return together(net=fnn.serial(last), loss=loss, data=data, **{"members": 2, "width": 2, **own, **more})


# ---- a member is the run of `fit` alone


@pytest.mark.parametrize(
    "dtype, width, devices",
    [
        ("float32", 3, ONE),
        pytest.param("float32", 1, ONE, marks=pytest.mark.slow),  # test_study has them for sweeps
        pytest.param("float32", 4, TWO, marks=pytest.mark.slow),
        pytest.param("float64", 3, ONE, marks=pytest.mark.slow),
    ],
    ids=["three", "one", "four", "float64"],
)
def test_a_member_is_the_run_of_fit_alone(dtype, width, devices):
    with jax.enable_x64(dtype == "float64"):
        found = together(width=width, devices=devices)
        for i in range(5):
            run, member = alone(key=7 + i), found.member(i)
            assert member.params[0]["w"].dtype == dtype
            ran = len(run.history.loss)
            assert found.table["epochs"][i] == ran and found.table["epoch"][i] == run.best_epoch
            histories = {name: values[i, :ran] for name, values in found.histories.items()}
            got = fnn.History(histories["loss"], {"accuracy": histories["accuracy"]},
                              histories["validation_loss"], {"accuracy": histories["validation_accuracy"]})  # fmt: skip
            member = member._replace(history=got, train_state=run.train_state)
            assert difference(member, run) < TOLERANCE[dtype]
            assert np.isnan(found.histories["loss"][i, ran:]).all()
    assert len(set(found.table["epochs"])) > 1  # patience


def test_a_key_that_is_no_integer_is_folded_in():
    key = jax.random.key(3)
    found = together(key=key, members=3)
    assert same_bits(found.params, together(key=key, members=3).params)
    run = alone(key=jax.random.fold_in(key, 2))
    np.testing.assert_allclose(found.member(2).params[0]["w"], run.params[0]["w"], rtol=1e-4, atol=1e-5)


def test_more_members_and_another_first_seed_change_no_bit_of_a_member(found):
    more = together(members=8, key=5)
    for i in range(5):
        assert same_bits(more.member(i + 2), found.member(i))
    assert not same_bits(more.member(0).params, found.member(0).params)
    assert same_bits(together(devices=TWO).params, found.params)


def test_other_seeds_and_numbers_compile_nothing(found, compiled):
    together(key=99, members=4, optimizer=optax.sgd(0.1, momentum=0.5), patience=9)
    assert has_compiled(compiled) == (0, 0), compiled


# ---- what they say together


def test_mean_and_spread_are_those_of_the_members_probabilities(found):
    logits = np.stack([fnn.predict(NET, found.member(i), X) for i in range(5)])
    said = special.softmax(logits.astype("float64"), -1)
    for batch_size in (1024, 30):
        mean, spread = found.predict(X, batch_size)
        assert mean.shape == spread.shape == (100, 2)
        np.testing.assert_allclose(mean, said.mean(0), atol=1e-6)
        np.testing.assert_allclose(spread, said.std(0), atol=1e-6)
    assert spread.max() > 0.01
    assert same_bits(found.predict(X[:3].tolist(), 3), found.predict(X[:3], 3))


def test_so_it_is_with_one_probability_an_output():
    found = small(fnn.dense(1), fnn.losses.sigmoid_cross_entropy, (X, LABELS[:, None]))
    said = special.expit(np.stack([fnn.predict(found.net, found.member(i), X) for i in range(2)]).astype("float64"))
    np.testing.assert_allclose(found.predict(X).mean, said.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.predict(X).spread, said.std(0), atol=1e-6)


def huge(key, shape, dtype):
    """Weights whose square is too large, for about every other key."""
    return jnp.where(jax.random.bernoulli(key), jnp.asarray(1e30, dtype), jax.random.normal(key, shape, dtype))


def test_members_that_diverged_are_left_out_of_outputs_that_are_numbers():
    data = {"last": fnn.dense(2, weight_init=huge), "loss": fnn.losses.squared_error, "data": (X, X[:, :2])}
    data |= {"optimizer": optax.sgd(0.01), "members": 6, "width": 6}
    found = small(**data, key=0)
    diverged = found.table["diverged"]
    first = [found.net.init(jax.random.split(jax.random.key(i))[0], (4,))[0][0]["w"].max() for i in range(6)]
    assert diverged.tolist() == [bool(w > 1e29) for w in first] and 0 < diverged.sum() < 6
    count = 6 - diverged.sum()
    assert found.params[0]["w"].shape == (count, 4, 2) and np.isfinite(found.params[0]["w"]).all()
    said = np.stack([fnn.predict(found.net, found.member(i), X) for i in range(count)]).astype("float64")
    np.testing.assert_allclose(found.predict(X).mean, said.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.predict(X).spread, said.std(0), rtol=1e-4, atol=1e-5)
    # and which of the members they are
    well = np.flatnonzero(~diverged)
    one = small(**{**data, "members": 1}, key=int(well[-1]))
    assert same_bits(one.params, jax.tree.map(lambda a: a[-1:], found.params))
    with pytest.raises(ValueError, match=r"ensemble: expected members that trained, got none: all diverged. Lower"):
        small(**{**data, "members": 1}, key=int(np.flatnonzero(diverged)[0]))


def test_a_member_can_be_saved_and_read(found, tmp_path):
    fnn.save(tmp_path / "member", NET, found.member(3))
    net, run = fnn.load(tmp_path / "member")
    np.testing.assert_array_equal(fnn.predict(net, run, X), fnn.predict(NET, found.member(3), X))
    assert run.in_shape == (4,)


def test_it_prints_its_members_in_their_order(found):
    head, *lines = str(found).splitlines()
    assert head.split() == list(found.table) == ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy",
                                                 "epochs", "diverged"]  # fmt: skip
    assert [int(line.split()[0]) for line in lines] == found.table["epoch"].tolist()
    assert {values.shape for values in found.histories.values()} == {(5, EPOCHS)}
    assert found.net is NET and found.plans[0].members == 5


def test_it_writes_its_members(found, tmp_path):
    found.to_csv(tmp_path / "table.csv")
    head, *lines = (tmp_path / "table.csv").read_text().splitlines()
    assert head.split(",") == list(found.table) and len(lines) == 5


def test_members_without_parameters_say_what_their_network_does():
    found = small(fnn.relu, fnn.losses.squared_error, (X, X), optimizer=optax.sgd(0.1), epochs=2)
    mean, spread = found.predict(X)
    np.testing.assert_allclose(mean, np.maximum(X, 0), rtol=1e-6)
    assert not spread.any() and found.member(1).params == ((),)
    with pytest.raises(IndexError, match="member: expected 0 to 1, got 2"):
        found.member(2)


# ---- interrupted, and gone on with


@pytest.mark.slow
def test_ctrl_c_ends_it_early_with_those_that_have_begun_and_the_same_call_goes_on(signals, tmp_path):
    arguments = {"patience": None}
    whole = together(**arguments)
    signals.send(signal.SIGINT, when=lambda count, segment: segment.state.epoch.max() == 7)
    stop = ending_of(together, **arguments, checkpoint=tmp_path)
    assert str(stop).startswith("ensemble: expected 5 members") and "got SIGINT when 3 of them had begun" in str(stop)
    part = stop.run
    assert part.table["epochs"].tolist() == [7, 7, 7, 0, 0]
    assert part.params[0]["w"].shape == (3, 4, 8) and part.predict(X).mean.shape == (100, 2)
    again = together(**arguments, checkpoint=tmp_path)
    assert same_bits(again.params, whole.params) and same_bits(again.histories, whole.histories)
    with pytest.raises(
        ValueError, match=r"(?s)checkpoint: expected the run .* seeds and folds of these members: expect"
    ):
        together(**arguments, key=8, checkpoint=tmp_path)


# ---- what is refused

BAD = {
    "a function of settings": (dict(net=lambda s: NET), TypeError, "net: expected a Layer, got function"),
    "members": (dict(members=0), ValueError, "members: expected a whole number, at least 1, got 0"),
    "members 2.5": (dict(members=2.5), ValueError, "members: expected a whole number, at least 1, got 2.5"),
    "epochs": (dict(epochs=-1), ValueError, "epochs: expected a whole number, at least 0, got -1"),
    "key": (dict(key=-1), ValueError, "key: expected a whole number, at least 0, got -1"),
    "key 1.5": (dict(key=1.5), TypeError, "key: expected a seed or one key<fry>, got float"),
    "keys": (dict(key=jax.random.split(jax.random.key(0))), TypeError, "key: expected a seed or one key"),
    "over": (
        dict(over={"lr": [1]}),
        TypeError,
        r"ensemble: expected arguments of its own or of fit, got over=.* Call help\(fnn.ensemble\)",
    ),
    "width": (dict(width=-1), ValueError, "width: expected a whole number, at least 1, got -1"),
    "devices": (dict(devices=[0]), TypeError, r"devices: expected a list of JAX devices, got \[0\]"),
    "memory": (dict(memory=10), MemoryError, "memory: expected room for one member .*, about .* GB, got 1e-08 GB"),
    "a metric": (
        dict(metrics={"loss": fnn.accuracy}),
        ValueError,
        "metrics: expected names of your own, got 'loss', a column of the result",
    ),
    "patience": (dict(validation=None), ValueError, "patience: expected validation data to judge by, got none"),
    "validation": (
        dict(validation=(X, LABELS[:3])),
        ValueError,
        "validation: expected as many targets as inputs, got 3",
    ),
    "a label": (dict(data=(X, LABELS - 1)), ValueError, "expected class numbers from 0 to 1, got -1 in row"),
    "targets": (dict(data=(X, X)), fnn.ShapeError, r"expected one class number per row, .* got \(100, 4\)"),
    "targets of floats": (dict(data=(X, X[:, 0])), TypeError, "expected integer class numbers, got float32"),
    "an optimizer": (
        dict(optimizer=optax.sgd),
        TypeError,
        "optimizer: expected a GradientTransformation, got the factory sgd. Call it",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises_before_anything_compiles(name, compiled):
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=message) as raised:
        together(**arguments)
    assert has_hint(str(raised.value))
    assert has_compiled(compiled) == (0, 0)
