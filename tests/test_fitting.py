"""`fit`: what it accepts, what it refuses, what it compiles, what it gives back."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

RNG = np.random.default_rng(1)
X = RNG.normal(size=(100, 4)).astype("float32")
LABELS = (X[:, 0] * X[:, 1] > 0).astype("int32")
LOSS = fnn.losses.sparse_softmax_cross_entropy


def net():
    """Built anew each time."""
    return fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(2))


def fit(x=X, t=LABELS, network=None, loss=LOSS, optimizer=None, **arguments):
    optimizer = optimizer or optax.sgd(0.1, momentum=0.9)
    arguments = {"epochs": 5, "batch_size": 32, "progress": False} | arguments
    return fnn.fit(network or net(), loss, optimizer, (x, t), **arguments)


def same_bits(a, b):
    return all(
        np.array_equal(p, q, equal_nan=True) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture
def compiled():
    """Names of what has been compiled since the start of the test."""
    names = []

    def listen(event, duration, **more):
        if "backend_compile" in event:
            names.append(more.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_compiles_once_whatever_the_settings_seed_and_data(compiled):
    def once(lr, momentum, key, x):
        make = lambda s: optax.sgd(s["lr"], momentum=s["momentum"])  # noqa: E731  made anew each time, on purpose
        settings = {"lr": lr, "momentum": momentum}
        return fit(x, optimizer=make, settings=settings, key=key, metrics={"accuracy": fnn.accuracy})

    first = once(0.1, 0.9, 0, X)
    # the run itself compiles exactly once, the last batch of 4 of 100 rows included
    assert sum("run" in name for name in compiled) == 1, compiled
    compiled.clear()
    others = [once(0.2, 0.9, 0, X), once(0.1, 0.5, 0, X), once(0.1, 0.9, 7, X), once(0.1, 0.9, 0, X[::-1])]
    assert compiled == []
    assert all(not same_bits(first.params, other.params) for other in others)
    assert same_bits(first, once(0.1, 0.9, 0, X))


def test_an_optimizer_made_anew_compiles_nothing(compiled):
    fit(optimizer=optax.adam(0.01))
    compiled.clear()
    fit(optimizer=optax.adam(0.01))
    assert compiled == []


def test_another_optimizer_is_not_mistaken_for_the_first():
    runs = [fit(optimizer=o) for o in (optax.adam(0.01), optax.adam(0.011), optax.sgd(0.01), optax.adam(0.01, b1=0.8))]
    assert all(not same_bits(runs[0].params, other.params) for other in runs[1:])
    schedules = [optax.piecewise_constant_schedule(0.1, {7: scale}) for scale in (0.5, 0.1)]
    assert not same_bits(*(fit(optimizer=optax.sgd(s)).params for s in schedules))


def test_containers_give_the_same_bits_and_are_left_alone():
    pandas = pytest.importorskip("pandas")
    frozen = X.copy()
    frozen.flags.writeable = False
    kinds = [X, X.tolist(), np.asfortranarray(X), frozen, X.astype(">f4"), jnp.asarray(X), pandas.DataFrame(X)]
    runs = [fit(kind, labels) for kind in kinds for labels in (LABELS, LABELS.tolist(), LABELS.astype(">i8"))]
    assert all(same_bits(runs[0], run) for run in runs[1:])
    assert np.array_equal(kinds[5], X)  # the user's device array was not donated


def test_given_parameters_are_the_start_and_stay_the_users():
    first = fit(epochs=3)
    kept = jax.tree.map(np.asarray, first.params)
    again = fit(epochs=0, params=first.params, state=first.state)
    assert same_bits(again.params, kept)
    assert not same_bits(fit(epochs=1, params=first.params).params, kept)
    assert same_bits(first.params, kept)


def test_no_epochs_give_the_initial_parameters_and_an_empty_history():
    run = fit(epochs=0, validation=(X, LABELS), metrics={"accuracy": fnn.accuracy})
    assert run.history.loss.shape == run.history.validation_metrics["accuracy"].shape == (0,)
    assert run.params[0]["w"].shape == (4, 8)


def test_segments_of_any_length_give_the_same_bits(monkeypatch):
    whole = fit(epochs=40, validation=(X[:20], LABELS[:20]))
    monkeypatch.setattr("fnn.fitting.SEGMENT_SECONDS", 1e-9)  # one step a segment
    assert same_bits(whole, fit(epochs=40, validation=(X[:20], LABELS[:20])))


def test_best_parameters_come_back_and_patience_stops():
    run = fit(X[:30], LABELS[:30], epochs=400, validation=(X[30:], LABELS[30:]), patience=10)
    losses = run.history.validation_loss
    best = int(np.argmin(losses))
    assert len(losses) == best + 11 < 400
    best_loss = fnn.evaluate(net(), run, (X[30:], LABELS[30:]), {"loss": LOSS})["loss"]
    assert best_loss == pytest.approx(losses[best], rel=1e-5)
    assert not same_bits(run.params, run.train_state.params)


def test_weights_count_as_copies():
    counts = RNG.integers(0, 3, len(X))
    copies = fit(np.repeat(X, counts, 0), np.repeat(LABELS, counts, 0), batch_size=None)
    weighted = fit(weights=counts, batch_size=None)
    assert np.allclose(weighted.history.loss, copies.history.loss, rtol=1e-5)


def test_divergence_warns_with_the_place_and_keeps_finite_parameters():
    with pytest.warns(fnn.TrainingDiverged, match=r"in epoch \d+, step \d+ .*settings {'lr': 1e\+30}.*Do lower"):
        run = fit(
            loss=fnn.losses.squared_error, t=X[:, :2], optimizer=lambda s: optax.sgd(s["lr"]), settings={"lr": 1e30}
        )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))
    assert np.isfinite(run.history.loss).all()
    assert len(run.history.loss) == int(run.train_state.diverged[0]) < 5


def test_float64_data_cut_to_float32_warn_once_and_lists_do_not():
    with pytest.warns(UserWarning, match=r"data\[0\]: float64 data are cut to float32. Do set"):
        fit(X.astype("float64"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(X.tolist())


def test_float64_throughout_when_asked_for(x64):
    run = fit(X.astype("float64"), LABELS.astype("int64"), validation=(X, LABELS))
    assert {a.dtype for a in jax.tree.leaves((run.params, run.history))} == {np.dtype("float64")}


def test_backprop_and_autodiff_agree_after_300_steps_in_float64(x64):
    runs = [fit(X.astype("float64"), epochs=75, gradient=g) for g in (fnn.autodiff, fnn.backprop)]  # 4 steps an epoch
    pairs = zip(*(jax.tree.leaves(run.params) for run in runs), strict=True)
    assert max(float(jnp.abs(a - b).max()) for a, b in pairs) < 1e-10


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("features", [1, 3])
def test_edge_sizes(rows, features):
    x, t = np.ones((rows, features), "float32"), np.zeros(rows, "int32")
    run = fit(x, t, batch_size=50)
    assert run.history.loss.shape == (5,)
    one_class = fit(x, t, fnn.serial(fnn.dense(1)), batch_size=None)
    assert one_class.history.loss.tolist() == [0.0] * 5


NAN = X.copy()
NAN[37, 2] = np.nan
BAD = {
    "nan in the inputs": (
        dict(x=NAN),
        ValueError,
        r"data\[0\]: expected finite numbers, got nan or inf in 1 of 100 rows, the first is row 37",
    ),
    "inf in the targets": (
        dict(t=np.full((100, 2), np.inf), loss=fnn.losses.squared_error),
        ValueError,
        r"data\[1\]: expected finite",
    ),
    "different lengths": (dict(t=LABELS[:99]), ValueError, "data: expected as many targets as inputs, got 99 and 100"),
    "empty": (
        dict(x=X[:0], t=LABELS[:0]),
        ValueError,
        r"data\[0\]: expected at least one row and one number, got shape \(0, 4\)",
    ),
    "inputs of one axis": (
        dict(x=X[:, 0]),
        ValueError,
        r"data\[0\]: expected shape \(rows, features\), got \(100,\). Do reshape",
    ),
    "a single number": (dict(x=3.0), ValueError, "expected a table of rows, got the single number"),
    "strings": (dict(t=["a"] * 100), TypeError, r"data\[1\]: expected numbers, got dtype <U1. Do convert"),
    "objects": (dict(x=np.full((100, 4), None)), TypeError, r"data\[0\]: expected numbers, got dtype object"),
    "ragged": (dict(x=[[1.0], [2.0, 3.0]]), ValueError, r"data\[0\]: expected a rectangular array"),
    "none": (dict(x=None), TypeError, r"data\[0\]: expected an array, got None"),
    "label -1": (
        dict(t=np.where(np.arange(100) == 3, -1, LABELS)),
        ValueError,
        "class numbers from 0 to 1, got -1 in row 3",
    ),
    "label K": (
        dict(t=np.where(np.arange(100) == 5, 2, LABELS)),
        ValueError,
        "class numbers from 0 to 1, got 2 in row 5",
    ),
    "label 2.5": (dict(t=LABELS + 0.5), TypeError, "expected integer class numbers, got float32. Do convert"),
    "label beyond int32": (
        dict(t=LABELS.astype("int64") + 2**40),
        ValueError,
        r"data\[1\]: expected integers that fit int32",
    ),
    "targets (n,1) for classes": (
        dict(t=LABELS[:, None]),
        fnn.ShapeError,
        r"got \(32, 1\). Do reshape the targets: targets\[:, 0\]",
    ),
    "targets (n,) for outputs (n,1)": (
        dict(t=X[:, 0], network=fnn.serial(fnn.dense(1)), loss=fnn.losses.squared_error),
        fnn.ShapeError,
        r"squared_error: expected targets of the shape of the outputs \(32, 1\), got \(32,\). Do reshape the targets: "
        r"targets\[:, None\]",
    ),
    "probabilities above 1": (
        dict(t=np.full((100, 2), 1.5), loss=fnn.losses.softmax_cross_entropy),
        ValueError,
        r"softmax_cross_entropy: expected targets in \[0, 1\], got 1.5 in row 0",
    ),
    "a bad validation label": (dict(validation=(X, LABELS + 1)), ValueError, "class numbers from 0 to 1, got 2"),
    "nan in validation": (dict(validation=(NAN, LABELS)), ValueError, r"validation\[0\]: expected finite"),
    "other features in validation": (
        dict(validation=(X[:, :3], LABELS)),
        fnn.ShapeError,
        r"expected x of shape \(batch, 4\), got \(100, 3\)",
    ),
    "weights of another length": (
        dict(weights=np.ones(99)),
        ValueError,
        r"weights: expected shape \(100,\), one weight a row, got \(99,\)",
    ),
    "a negative weight": (
        dict(weights=-np.ones(100)),
        ValueError,
        "weights: expected weights of at least 0, got -1.0 in row 0",
    ),
    "no weight": (dict(weights=np.zeros(100)), ValueError, "weights: expected a weight above 0"),
    "epochs": (dict(epochs=-1), ValueError, "epochs: expected a whole number, at least 0, got -1"),
    "epochs 1.5": (dict(epochs=1.5), ValueError, "epochs: expected a whole number, at least 0, got 1.5"),
    "batch size 0": (dict(batch_size=0), ValueError, "batch_size: expected a whole number, at least 1, got 0"),
    "reduction": (dict(reduction="average"), ValueError, "reduction: expected one of 'mean', 'sum', got 'average'"),
    "a setting nan": (
        dict(settings={"lr": float("nan")}),
        ValueError,
        r"settings\['lr'\]: expected a finite number, got nan",
    ),
    "a setting that is an array": (
        dict(settings={"lr": [1, 2]}),
        TypeError,
        r"settings\['lr'\]: expected one number, got list",
    ),
    "settings not a dict": (dict(settings=[1]), TypeError, "settings: expected a dict of numbers, got list"),
    "patience in settings": (
        dict(settings={"patience": 3}),
        ValueError,
        "settings: expected your own names, got 'patience'",
    ),
    "patience without validation": (
        dict(patience=3),
        ValueError,
        "patience: expected validation data to judge by, got none",
    ),
    "key": (dict(key=-1), ValueError, "key: expected a whole number, at least 0, got -1"),
    "a loss that reduces": (
        dict(loss=lambda y, t: (y**2).mean()),
        fnn.ShapeError,
        r"loss: expected one number a row, shape \(32,\), got \(\)",
    ),
    "a metric that reduces": (
        dict(metrics={"m": lambda y, t: (y**2).mean()}),
        fnn.ShapeError,
        r"metric m: expected one number a row, shape \(32,\), got \(\)",
    ),
    "a factory": (dict(network=fnn.dense), TypeError, "net: expected a Layer, got the factory dense. Do call it"),
    "an optimizer not called": (
        dict(optimizer=optax.sgd),
        TypeError,
        "optimizer: expected a GradientTransformation, got the factory sgd. Do call it",
    ),
    "a setting that is missing": (
        dict(optimizer=lambda s: optax.sgd(s["lr"])),
        ValueError,
        "settings: expected a number named 'lr', got .*Do pass settings={'lr': …}",
    ),
    "metrics in a list": (
        dict(metrics=[fnn.accuracy]),
        TypeError,
        "metrics: expected a dict, name -> function, got list",
    ),
    "gradient by name": (
        dict(gradient="backprop"),
        TypeError,
        "gradient: expected fnn.autodiff or fnn.backprop, got 'backprop'",
    ),
    "no optimizer": (dict(optimizer=0.1), TypeError, "optimizer: expected a GradientTransformation, got float"),
    "an image for a dense layer": (
        dict(x=X.reshape(100, 2, 2)),
        fnn.ShapeError,
        r"layer 0, dense\(8\): expected examples of shape \(fan_in,\), got \(2, 2\)",
    ),
    "parameters of another network": (
        dict(
            params=(
                {"w": np.zeros((3, 8), "float32"), "b": np.zeros(8, "float32")},
                (),
                {"w": np.zeros((8, 2), "float32"), "b": np.zeros(2, "float32")},
            )
        ),
        fnn.ShapeError,
        r"dense\(8\): expected x of shape \(batch, 3\), got \(32, 4\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises_before_anything_compiles(name, compiled):
    arguments, error, message = BAD[name]
    with warnings.catch_warnings(), pytest.raises(error, match=message) as raised:
        warnings.simplefilter("ignore")
        fit(**arguments)
    assert " got " in str(raised.value)
    assert " Do " in str(raised.value)
    assert not any("run" in n or "init" in n for n in compiled)


def test_data_must_be_a_pair():
    with pytest.raises(TypeError, match=r"data: expected a pair \(inputs, targets\), got ndarray"):
        fnn.fit(net(), LOSS, optax.sgd(0.1), X, epochs=1)
