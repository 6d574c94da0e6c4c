"""Forty mistakes of people who come from other libraries: the one line that each gets, whole, and its hint followed."""

import inspect
import operator
import re
import warnings
from concurrent.futures import ProcessPoolExecutor

import jax
import numpy as np
import optax
import pandas as pd
import pytest

import fnn
from fnn import losses
from fnn.devices.pools import check_executor

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
C = np.arange(12) % 2
SUM = X.sum(1)
NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(2))
ONE = fnn.serial(fnn.dense(1))
SCE, SQUARED, ADAM = losses.sparse_softmax_cross_entropy, losses.squared_error, optax.adam(0.01)
PARAMS, STATE, _ = NET.init(jax.random.key(0), (3,))
QUIET = {"progress": False}


def fit(*given, net=NET, loss=SCE, optimizer=ADAM, data=(X, C), **more):
    return fnn.fit(net, loss, optimizer, data, *given, **({"epochs": 0} | QUIET | more))  # traced, not compiled


RUN = fit()
BRANCHES = fnn.parallel(a=fnn.dense(2), b=fnn.dense(2))
JOINT = losses.joint(a=(1.0, SCE), b=(1.0, SCE))
OF_ONE = {"accuracy": fnn.metrics.of("a", fnn.accuracy), "f1": fnn.metrics.of("a", fnn.metrics.f1())}
ACCURACY = {"accuracy": fnn.accuracy}
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "word": ["up", "down"] * 6, "t": SUM})
TABLE, SCALE = fnn.Table.fit(FRAME, target="t"), fnn.standardiser(FRAME[["a", "b"]])
NAMED = "4 arguments without a name, net, loss, optimizer, data, got 5. Write inputs and targets as a pair: (x, t)."
PAIR = "data: expected a pair (inputs, targets), got ndarray float32[12, 3]. Write data=(x, t)."
LOW = {"lr": 0.1}
READS = "which none of them reads. Write optimizer=lambda s: optax.sgd(s['lr']), say, or leave it out."

# what is written; what is said, whole; what works when the hint is followed
MISTAKES = {
    # arguments as other libraries have them
    "inputs and targets apart": (lambda: fit(C, data=X), f"fit: expected {NAMED}", fit),
    "apart, in a sweep": (
        lambda: fnn.sweep(NET, SCE, ADAM, X, C, over={"seed": [1]}, epochs=0),
        f"sweep: expected {NAMED}",
        lambda: fnn.sweep(NET, SCE, ADAM, (X, C), over={"seed": [1]}, epochs=0, **QUIET),
    ),
    "apart, to evaluate": (
        lambda: fnn.evaluate(NET, RUN, X, C, ACCURACY),
        PAIR,
        lambda: fnn.evaluate(NET, RUN, (X, C), ACCURACY),
    ),
    "inputs alone": (lambda: fit(data=X), PAIR, fit),
    "no number of epochs": (
        lambda: fnn.fit(NET, SCE, ADAM, (X, C)),
        "fit: expected the argument 'epochs', got none. Pass epochs=10.",
        lambda: fit(epochs=10),
    ),
    "n_epochs": (
        lambda: fnn.fit(NET, SCE, ADAM, (X, C), n_epochs=5),
        "fit: expected arguments of its own, got n_epochs=5. Pass epochs=10.",
        lambda: fit(epochs=10),
    ),
    "lr": (
        lambda: fit(lr=0.1),
        "fit: expected arguments of its own, got lr=0.1. Pass the rate to the optimizer: optax.adam(0.001).",
        lambda: fit(optimizer=optax.adam(0.001)),
    ),
    "lr of a study": (
        lambda: fnn.ensemble(NET, SCE, ADAM, (X, C), epochs=0, members=2, lr=0.1),
        "ensemble: expected arguments of its own or of fit, got lr=0.1. "
        "Pass the rate to the optimizer: optax.adam(0.001).",
        lambda: fnn.ensemble(NET, SCE, optax.adam(0.001), (X, C), epochs=0, members=2, **QUIET),
    ),
    "seed": (
        lambda: fit(seed=1),
        "fit: expected arguments of its own, got seed=1. Pass key=0.",
        lambda: fit(key=0),
    ),
    "validation_split": (
        lambda: fit(validation_split=0.1),
        "fit: expected arguments of its own, got validation_split=0.1. "
        "Pass validation=(x, t), or a share: validation=0.2.",
        lambda: fit(validation=0.2),
    ),
    "a number of rows to validate on": (
        lambda: fit(validation=20),
        "validation: expected a share between 0 and 1, got 20. Write validation=0.2.",
        lambda: fit(validation=0.2),
    ),
    "callbacks": (
        lambda: fit(callbacks=[]),
        "fit: expected arguments of its own, got callbacks=[]. "
        "Pass a function as on_segment=; patience= ends a run early.",
        lambda: fit(on_segment=lambda progress: None, validation=0.25, patience=3),
    ),
    "a name with a slip": (
        lambda: fit(batch_sise=4),
        "fit: expected arguments of its own, got batch_sise=4. Write batch_size= instead.",
        lambda: fit(batch_size=4),
    ),
    "patience without rows to judge by": (
        lambda: fit(patience=3),
        "patience: expected validation data to judge by, got none. Pass validation=(x, t) or a share.",
        lambda: fit(patience=3, validation=0.25),
    ),
    "the run without the network": (
        lambda: fnn.save(RUN, "net.fnn"),
        "save: expected the argument 'run', got none. Call help(fnn.save).",
        lambda: fnn.save("net.fnn", NET, RUN),
    ),
    "a summary without a shape": (
        lambda: fnn.summary(NET, 3),
        "in_shape: expected the shape of one example, got int 3. Pass a tuple, such as (3,).",
        lambda: fnn.summary(NET, (3,)),
    ),
    # parts of a run
    "a network as a list": (
        lambda: fnn.serial([fnn.dense(2)]),
        "layer: expected a layer or a function, got tuple (dense(2),). Write serial(*layers).",
        lambda: fit(net=fnn.serial(*[fnn.dense(2)])),
    ),
    "an activation by its name": (
        lambda: fnn.serial(fnn.dense(3), "relu", fnn.dense(2)),
        "layer: expected a layer or a function, got str 'relu'. Write fnn.relu.",
        lambda: fit(net=fnn.serial(fnn.dense(3), fnn.relu, fnn.dense(2))),
    ),
    "an activation as an argument": (
        lambda: fnn.dense(10, activation=fnn.relu),
        "dense: expected the arguments (features, bias, weight_init, bias_init), got a call of others: got an "
        "unexpected keyword argument 'activation'. Put it after the layer: fnn.serial(fnn.dense(10), fnn.relu).",
        lambda: fit(net=fnn.serial(fnn.dense(10), fnn.relu)),
    ),
    "an optimizer by its name": (
        lambda: fit(optimizer="sgd"),
        "optimizer: expected a GradientTransformation, got str 'sgd'. Pass an optimizer, such as optax.sgd(0.1); a "
        "learning rate goes into one.",
        lambda: fit(optimizer=optax.sgd(0.1)),
    ),
    "a learning rate as the optimizer": (
        lambda: fit(optimizer=0.1),
        "optimizer: expected a GradientTransformation, got float 0.1. Pass an optimizer, such as optax.sgd(0.1); a "
        "learning rate goes into one.",
        lambda: fit(optimizer=optax.sgd(0.1)),
    ),
    "an optimizer that was not called": (
        lambda: fit(optimizer=optax.adam),
        "optimizer: expected a GradientTransformation, got the factory adam. Call it.",
        lambda: fit(optimizer=optax.adam(0.1)),
    ),
    "a loss by its name": (
        lambda: fit(loss="cross_entropy"),
        "loss: expected a loss, got str 'cross_entropy'. Pass one of fnn.losses.",
        lambda: fit(loss=losses.sparse_softmax_cross_entropy),
    ),
    "metrics by their names": (
        lambda: fit(metrics=["accuracy"]),
        "metrics: expected a dict, name -> function, got list ['accuracy']. Write {'accuracy': fnn.accuracy}.",
        lambda: fit(metrics={"accuracy": fnn.accuracy}),
    ),
    "dropout in per cent": (
        lambda: fnn.dropout(50),
        "dropout: expected a rate below 1, got 50. Pass the probability of dropping, in [0, 1).",
        lambda: fnn.dropout(0.5),
    ),
    "a setting that is missing": (
        lambda: fit(optimizer=lambda s: optax.sgd(s["lr"])),
        "settings: expected a number named 'lr', got none. Pass settings={'lr': …}.",
        lambda: fit(optimizer=lambda s: optax.sgd(s["lr"]), settings=LOW),
    ),
    # data
    "targets of shape (n,) for outputs (n, 1)": (
        lambda: fit(net=ONE, loss=SQUARED, data=(X, SUM)),
        "squared_error: expected targets of the shape of the outputs (12, 1), got (12,). Reshape the targets: "
        "targets[:, None]; of a Series targets.to_numpy()[:, None], of a list [[t] for t in targets].",
        lambda: fit(net=ONE, loss=SQUARED, data=(X, SUM[:, None])),
    ),
    "classes as words": (
        lambda: fit(data=(X, np.where(C, "yes", "no"))),
        "data[1]: expected numbers, got dtype <U3. Convert to numbers, classes to 0, 1, ….",
        lambda: fit(data=(X, np.unique(np.where(C, "yes", "no"), return_inverse=True)[1])),
    ),
    "classes from 1": (
        lambda: fit(data=(X, C + 1)),
        "sparse_softmax_cross_entropy: expected class numbers from 0 to 1, got 2 in row 1. Renumber the classes, or "
        "give the network more than 2 outputs.",
        lambda: fit(data=(X, C + 1 - 1)),
    ),
    "one-hot rows for a sparse loss": (
        lambda: fit(data=(X, np.eye(2, dtype="float32")[C])),
        "sparse_softmax_cross_entropy: expected one class number per row, targets of shape (12,), got (12, 2). Use the "
        "loss without 'sparse_' for one-hot targets.",
        lambda: fit(loss=losses.softmax_cross_entropy, data=(X, np.eye(2, dtype="float32")[C])),
    ),
    "class numbers for a loss of one-hot rows": (
        lambda: fit(loss=losses.softmax_cross_entropy),
        "softmax_cross_entropy: expected targets of the shape of the outputs (12, 2), got (12,). Use one-hot targets, "
        "or a sparse_ loss for class numbers.",
        fit,
    ),
    "a cell without a number": (
        lambda: fit(data=(np.where(X > 1.2, np.nan, X), C)),
        "data[0]: expected finite numbers, got nan or inf in 2 of 12 rows, the first is row 2. Remove or impute them.",
        lambda: fit(data=(np.where(X > 1.2, 0, X), C)),
    ),
    "images without channels": (
        lambda: fit(net=fnn.serial(fnn.conv2d(2, 3), fnn.flatten(), fnn.dense(2)), data=(np.ones((12, 6, 6)), C)),
        "layer 0, conv2d(2, 3): expected images of shape (height, width, channels), got (6, 6). Add an axis of one "
        "channel: x[..., None]. (shapes up to here: (6, 6))",
        lambda: fit(
            net=fnn.serial(fnn.conv2d(2, 3), fnn.flatten(), fnn.dense(2)),
            data=(np.ones((12, 6, 6), "float32")[..., None], C),
        ),
    ),
    # what comes back
    "one row to predict": (
        lambda: fnn.predict(NET, RUN, X[0]),
        "x: expected shape (rows, features), got (3,). Write x[None, :] for one row.",
        lambda: fnn.predict(NET, RUN, X[0][None, :]),
    ),
    "run and network exchanged": (
        lambda: fnn.predict(RUN, NET, X),
        "net: expected a Layer, got Run. Pass the network first.",
        lambda: fnn.predict(NET, RUN, X),
    ),
    "a run that predicts by itself": (
        lambda: RUN.predict(X),
        "Run: expected an attribute that it has, got .predict. Call fnn.predict(net, run, x).",
        lambda: fnn.predict(NET, RUN, X),
    ),
    "a network that trains by itself": (
        lambda: NET.fit(X, C),
        "Layer: expected an attribute that it has, got .fit. Call fnn.fit(net, loss, optimizer, (x, t), epochs=10).",
        lambda: fit(epochs=10),
    ),
    "parameters of a network": (
        lambda: NET.params,
        "Layer: expected an attribute that it has, got .params. A run has parameters: use run.params.",
        lambda: RUN.params,
    ),
    "a history with names as keys": (
        lambda: RUN.history["loss"],
        "history: expected a name as an attribute, got ['loss']. Write history.loss.",
        lambda: RUN.history.loss,
    ),
    "a whole run to begin with": (
        lambda: fit(params=RUN),
        "params: expected arrays, got a Run. Pass run.params.",
        lambda: fit(params=RUN.params),
    ),
    # several inputs and outputs
    "layers in a list, side by side": (
        lambda: fnn.parallel([fnn.relu, fnn.tanh]),
        "parallel: expected layers, got tuple (relu, tanh). Write parallel(*layers).",
        lambda: fnn.parallel(*[fnn.relu, fnn.tanh]),
    ),
    "layers in a dict": (
        lambda: fnn.parallel({"a": fnn.relu}),
        "parallel: expected layers, got dict {'a': relu}. Write parallel(**layers).",
        lambda: fnn.parallel(**{"a": fnn.relu}),
    ),
    "a shortcut around several": (
        lambda: fit(net=fnn.serial(BRANCHES, fnn.residual(BRANCHES), fnn.add())),
        "layer 1, residual(parallel(a=dense(2), b=dense(2))): expected one array, got several, examples of shape "
        "{'a': (2,), 'b': (2,)}. Put select, concatenate or parallel before it. "
        "(shapes up to here: (3,) -> {'a': (2,), 'b': (2,)})",
        lambda: fit(net=fnn.serial(BRANCHES, fnn.add(), fnn.residual(fnn.dense(2)))),
    ),
    "several, again and again": (
        lambda: fit(net=fnn.serial(BRANCHES, fnn.repeat(BRANCHES, 2), fnn.add())),
        "layer 1, repeat(parallel(a=dense(2), b=dense(2)), 2): expected one array, got several, examples of shape "
        "{'a': (2,), 'b': (2,)}. Put select, concatenate or parallel before it. "
        "(shapes up to here: (3,) -> {'a': (2,), 'b': (2,)})",
        lambda: fit(net=fnn.serial(BRANCHES, BRANCHES, BRANCHES, fnn.add())),
    ),
    "a loss of several outputs": (
        lambda: fit(net=BRANCHES, data=(X, {"a": C, "b": C})),
        'sparse_softmax_cross_entropy: expected one array of outputs, got several, "a", "b". Write '
        "fnn.losses.joint(a=(1.0, loss), …); as a metric fnn.metrics.of('a', …).",
        lambda: fit(net=BRANCHES, data=(X, {"a": C, "b": C}), loss=JOINT),
    ),
    "accuracy of several outputs": (
        lambda: fit(net=BRANCHES, data=(X, {"a": C, "b": C}), loss=JOINT, metrics=ACCURACY),
        'accuracy: expected one array of outputs, got several, "a", "b". Write fnn.metrics.of(\'a\', …), a metric of '
        "that one.",
        lambda: fit(net=BRANCHES, data=(X, {"a": C, "b": C}), loss=JOINT, metrics=OF_ONE),
    ),
    "F1 of several outputs": (
        lambda: fit(net=BRANCHES, data=(X, {"a": C, "b": C}), loss=JOINT, metrics={"f1": fnn.metrics.f1()}),
        'f1: expected one array of outputs, got several, "a", "b". Write fnn.metrics.of(\'a\', …), a metric '
        "of that one.",
        lambda: fit(net=BRANCHES, data=(X, {"a": C, "b": C}), loss=JOINT, metrics=OF_ONE),
    ),
    # metrics
    "no classes to look among": (
        lambda: fnn.metrics.top_k_accuracy(0),
        "top_k_accuracy: expected a whole number, at least 1, got 0. Write top_k_accuracy(3).",
        lambda: fnn.metrics.top_k_accuracy(3),
    ),
    "a metric of no rows": (
        lambda: fnn.metrics.r2()(X[:0], X[:0]),
        "r2: expected at least one row, got outputs of shape (0, 3). Pass rows.",
        lambda: fnn.metrics.r2()(X, X),
    ),
    "a metric of words": (
        lambda: fnn.metrics.f1()(X, np.array(["cat", "dog"] * 6)),
        "f1(): expected real targets, got <U3. Convert them to numbers, classes to 0, 1, ….",
        lambda: fnn.metrics.f1()(X, C),
    ),
    "a weight too few": (
        lambda: fnn.metrics.r2()(X, X, SUM[1:]),
        "weight: expected one number per row, shape (12,), got (11,). Pass one per row.",
        lambda: fnn.metrics.r2()(X, X, SUM),
    ),
    "a class of pools": (
        lambda: fnn.sweep(NET, SCE, ADAM, (X, C), over={"seed": [1]}, epochs=0, executor=ProcessPoolExecutor),
        "executor: expected an executor, or a function that makes one, got the class ProcessPoolExecutor. Pass "
        "lambda: ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn')).",
        lambda: check_executor(lambda: ProcessPoolExecutor(2)),
    ),
    # frames
    "a frame without a table": (
        lambda: fit(data=FRAME),
        "data: expected a pair (inputs, targets), got DataFrame. Write data=(x, t). Of a frame fnn.Table makes one.",
        lambda: fit(data=TABLE(FRAME), net=fnn.network_for(TABLE), loss=TABLE.loss),
    ),
    "words among the columns": (
        lambda: fit(data=(FRAME[["a", "word"]], C)),
        "data[0]: expected numbers, got object in column 'word'. Use fnn.Table, which takes words and dates, or leave "
        "the column out.",
        lambda: fit(data=(FRAME[["a"]], C)),
    ),
    "new rows without a target": (
        lambda: TABLE(FRAME.drop(columns="t")),
        "table: expected the target 't' in the frame, got none. Add the column, or call table.inputs(frame), which "
        "needs none.",
        lambda: TABLE.inputs(FRAME.drop(columns="t")),
    ),
    "columns moved before standardising": (
        lambda: SCALE(FRAME[["b", "a"]]),
        "x: expected the 2 columns of the training in their order, got 2, of which column 0 is 'b' instead of 'a'. "
        "Pass frame[list(standardiser.columns.x)], or an array.",
        lambda: SCALE(FRAME[list(SCALE.columns.x)]),
    ),
    "one row to standardise": (
        lambda: SCALE([1.0, 2.0]),
        "x: expected rows of shape (2,), as the standardiser was fitted to, got (). Write x[None, :] for one row, of a "
        "list [x].",
        lambda: SCALE([[1.0, 2.0]]),
    ),
    "a target too few": (
        lambda: fit(net=BRANCHES, data=(X, {"a": C}), loss=JOINT),
        "joint: expected targets named a, b, got those named a. Pass targets named b too, or leave the terms of that "
        "name out.",
        lambda: fit(net=BRANCHES, data=(X, {"a": C, "b": C}), loss=JOINT),
    ),
    "layers of a single layer": (
        lambda: fnn.dense(3)[:2],
        "net: expected [number] or [slice] of serial(…), got [slice(None, 2, None)] of dense(3). Use its .layers.",
        lambda: fnn.dense(3).layers,
    ),
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_its_line_and_the_hint_works(name):
    mistake, line, followed = MISTAKES[name]
    with warnings.catch_warnings():  # of float64 data, in a line of the table that is about something else
        warnings.simplefilter("ignore")
        with pytest.raises((TypeError, ValueError, AttributeError)) as raised:
            mistake()
    assert str(raised.value) == line
    assert raised.value.__cause__ is None and (raised.value.__suppress_context__ or raised.value.__context__ is None)
    followed()


def test_there_are_forty():
    assert len(MISTAKES) >= 40


HELPED = "fit predict predictor evaluate sweep cross_validate ensemble hold_out folds check_gradients trainer"


@pytest.mark.parametrize("name", HELPED.split())
def test_help_shows_types_by_their_names(name):
    shown = str(inspect.signature(getattr(fnn, name)))
    assert len(shown) < 1500 and "numpy._typing" not in shown and "collections.abc" not in shown


# ---- what is warned of


def read_late(s):
    """A network that reads its setting only when it is traced."""
    return fnn.serial(fnn.from_function(lambda x: x * s["scale"]), fnn.dense(2))


def read_whole(s):
    return optax.sgd(**{**s}["nothing"]) if "nothing" in s else optax.sgd(dict(s)["lr"])


UNREAD = {
    "nothing": ({}, {"lr": 0.1}, ["lr"]),
    "a slip": ({"optimizer": lambda s: optax.sgd(s["lr"])}, {"lr": 0.1, "moment": 0.9}, ["moment"]),
    "by the optimizer": ({"optimizer": lambda s: optax.sgd(s["lr"])}, LOW, []),
    "when it is traced": ({"net": read_late}, {"scale": 2.0}, []),
    "all together": ({"optimizer": read_whole}, LOW, []),
    "by the penalty": ({"penalty": lambda s: fnn.penalties.l2(s["l2"])}, {"l2": 0.1}, []),
    "by the penalty when it is traced": (
        {"penalty": lambda s: fnn.Penalty("own", lambda p: s["l2"] * p[0]["w"].sum(), lambda p: p)},
        {"l2": 0.1},
        [],
    ),
    "by the loss": ({"loss": lambda s: losses.smoothed(SCE, s["smoothing"])}, {"smoothing": 0.1}, []),
    "a state of the optimizer": (
        {"optimizer": lambda s: optax.inject_hyperparams(optax.sgd)(learning_rate=s.get("lr", 1.0))},
        LOW,
        [],
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_settings_that_nothing_reads_are_warned_of_and_no_others(name):
    parts, settings, unread = UNREAD[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(**parts, settings=settings)
    named = [str(warning.message) for warning in caught]
    start = "settings: expected numbers that net, loss, optimizer or penalty reads, got"
    assert [text.partition(" got ")[2].split(",")[0] for text in named] == [repr(name) for name in unread]
    assert all(text.startswith(start) for text in named)
    if unread == ["lr"]:
        assert named == [f"{start} 'lr', {READS}"]


# ---- networks of other libraries


def linen():
    module = pytest.importorskip("flax.linen")

    class Small(module.Module):
        @module.compact
        def __call__(self, x):
            return module.Dense(2)(x)

    return Small(), "from_flax_linen"


def nnx():
    module = pytest.importorskip("flax.nnx")
    return module.Linear(3, 2, rngs=module.Rngs(0)), "from_flax_nnx"


def equinox():
    module = pytest.importorskip("equinox")
    return module.nn.MLP(3, 2, 4, 1, key=jax.random.key(0)), "from_equinox"


def haiku():
    module = pytest.importorskip("haiku")
    return module.transform(lambda x: module.Linear(2)(x)), "from_haiku"


@pytest.mark.filterwarnings("ignore")  # of other libraries
@pytest.mark.parametrize("make", [linen, nnx, equinox, haiku])
def test_a_network_of_another_library_is_told_its_adapter(make):
    theirs, adapter = make()
    said = rf"expected a .*, got .*\. Pass fnn\.{adapter}\(…\)\.$"
    for call in (
        lambda: fit(net=theirs),
        lambda: fnn.serial(theirs, fnn.dense(2)),
        lambda: fnn.predict(theirs, RUN, X),
        lambda: fnn.ensemble(theirs, SCE, ADAM, (X, C), epochs=0, members=2),
    ):
        with pytest.raises(TypeError, match=said):
            call()
    if make is linen:
        with pytest.raises(TypeError, match=r"got the class Small\. Pass fnn\.from_flax_linen\(Small\(…\)\)\.$"):
            fit(net=type(theirs))
    fit(net=getattr(fnn, adapter)(theirs))


def test_a_module_of_equinox_without_arrays_is_a_function():
    module = pytest.importorskip("equinox")
    assert fit(net=fnn.serial(module.nn.Lambda(jax.numpy.sin), fnn.dense(2))).history.loss.shape == (0,)


def test_a_network_of_pytorch_has_no_adapter():
    module = type("Module", (), {"__module__": "torch.nn.modules.module", "__call__": lambda self, x: x})
    with pytest.raises(TypeError, match=r"Build it from fnn's layers, or use a network of Flax, Equinox or Haiku\.$"):
        fit(net=type("Linear", (module,), {"__module__": "mine"})())


# ---- layers of a network


def test_layers_of_a_network_are_taken_with_their_parameters():
    assert NET[:2] == fnn.serial(fnn.dense(4), fnn.tanh) and NET[-1] is NET.layers[2] and NET[-1] == fnn.dense(2)
    assert list(NET) == list(NET.layers) and str(NET[1]) == "tanh"
    hidden = fnn.predict(NET[:2], fnn.Run(RUN.params[:2], RUN.state[:2], None, None), X)
    np.testing.assert_allclose(hidden, np.tanh(X @ RUN.params[0]["w"] + RUN.params[0]["b"]), atol=1e-6)
    assert fnn.repeat(fnn.dense(3), 2).layers == (fnn.dense(3),) * 2 and fnn.dense(3).layers == ()
    with pytest.raises(IndexError, match=r"net: expected one of its 3 layers, got \[3\]"):
        NET[3]
    for wrong in (lambda: NET["dense"], lambda: fnn.residual(fnn.dense(3))[0], lambda: list(fnn.dense(3))):
        with pytest.raises(TypeError, match=r"net: expected \[number\] or \[slice\] of serial"):
            wrong()


def test_an_error_within_a_call_is_its_own():
    """A TypeError of a function that has been called is no mistake in how it was called."""

    def broken(s):
        raise TypeError("broken() takes 4 positional arguments")

    with pytest.raises(TypeError, match="net: expected a function of the settings, got function broken, which raises"):
        fit(net=broken)

    class Rows:
        problem = TypeError("predict() takes 2 positional arguments but 3 were given")

        def __iter__(self):
            raise self.problem

    with pytest.raises(TypeError) as raised:
        fnn.predict(NET, RUN, Rows())
    assert Rows.problem in (raised.value, raised.value.__cause__) and raised.traceback[-1].name == "__iter__"
    help(fnn.fit)
    assert fnn.fit.__name__ == "fit" and "epochs" in fnn.fit.__doc__


@pytest.mark.parametrize("place", [fnn, fnn.losses, fnn.metrics, fnn.penalties, fnn.optimizers], ids=str)
def test_the_help_that_a_wrong_call_names_is_there(place):
    found = []
    for name, thing in vars(place).items():
        try:
            thing(no_such_argument=1)
        except Exception as error:
            found += [(path, thing) for path in re.findall(r"Call help\((.*?)\)", str(error)) if name[0] != "_"]
    assert [path for path, thing in found if operator.attrgetter(path.removeprefix("fnn."))(fnn) is not thing] == []
    assert len(found) > 1
