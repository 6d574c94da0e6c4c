"""Mistakes of people who are new here, and what they are told: the argument, what was expected, the hint."""

import pickle
import signal
from inspect import signature

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import losses
from fnn.arguments.calls import NAMED
from fnn.fitting.segments import segments
from tests.helpers.compare import has_hint
from tests.helpers.signals import ending_of, handler

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (60, 2)).astype("float32")
C = (np.hypot(*X.T) < 1.2).astype(int)
NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(2))
SCE, ADAM = losses.sparse_softmax_cross_entropy, optax.adam(0.01)
PARAMS, STATE, _ = NET.init(jax.random.key(0), (2,))
RUN = fnn.Run(PARAMS, STATE, None, None, (2,))
DATA = fnn.Data(fnn.Part(X, C))


def fit(net=NET, loss=SCE, optimizer=ADAM, **more):
    return fnn.fit(net, loss, optimizer, (X, C), epochs=1, **more)


def swept(**more):
    return fnn.sweep(NET, SCE, ADAM, (X, C), epochs=1, progress=False, **more)


def own(dparams, dx):
    """A layer that multiplies by a number, with another backward."""
    init = lambda key, shape: ({"a": jnp.ones(shape)}, (), shape)  # noqa: E731
    layer = fnn.Layer("scale", init, lambda p, s, x, key, train: (p["a"] * x, s, x), lambda p, x, dy: (dparams, dx))
    return fnn.serial(layer, fnn.dense(2))


def checked(net, loss=SCE, x=X, t=C):
    params, state, _ = net.init(jax.random.key(0), (2,))
    return fnn.check_gradients(net, loss, params, state, x, t, show=False)


def trained(data=DATA, **more):
    training = fnn.trainer(NET, SCE, ADAM, batch_size=10, **more)
    return training.run(training.init(0, data), data, 2)


MISTAKES = {
    # arguments that changed places
    "loss and net": (lambda: fit(SCE, NET), "net: expected a Layer, got Loss"),
    "optimizer and loss": (lambda: fit(NET, ADAM, SCE), "optimizer: expected a GradientTransformation, got Loss"),
    "a proximal step as a penalty": (
        lambda: fit(penalty=fnn.penalties.proximal_l1(0.1, 0.1)),
        "penalty: expected a Penalty, got GradientTransformation",
    ),
    # settings
    "a setting that nothing reads": (
        lambda: swept(over={"lr": [0.001, 0.1]}),
        "over: expected a function that reads 'lr' as net, loss, optimizer or penalty, got none. Write optimizer=la",
    ),
    "a name that is a number": (lambda: fit(settings={1: 2.0}), "settings: expected names as keys, got 1"),
    # what is best
    "the largest loss": (
        lambda: fit(validation=0.2, mode="max"),
        "mode: expected 'min' for the loss, got 'max', .*Name what more of is better: monitor='accuracy'",
    ),
    "a metric called loss": (
        lambda: fit(metrics={"loss": fnn.accuracy}),
        "metrics: expected names of your own, got 'loss', a column of the result",
    ),
    # data on the host
    "a column too few": (
        lambda: fnn.standardiser(X)(X[:, :1]),
        r"x: expected rows of shape \(2,\), as the standardiser was fitted to, got \(1,\)",
    ),
    "classes of other rows": (
        lambda: fnn.hold_out(X, C, stratify=C[:8]),
        "stratify: expected one for each of 60 rows, got 8",
    ),
    "a key for NumPy": (lambda: fnn.hold_out(X, C, key=jax.random.key(0)), "key: expected a whole number, at least 0"),
    # predict and evaluate
    "a run of another network": (
        lambda: fnn.predict(fnn.serial(fnn.dense(5), fnn.tanh, fnn.dense(2)), RUN, X),
        r"(?s)run: expected the parameters of serial.*params/0/w: expected float32\(2, 5\), got float32\(2, 4\)",
    ),
    "a layer less": (
        lambda: fnn.evaluate(fnn.serial(fnn.dense(4)), RUN, (X, C), {"a": fnn.accuracy}),
        r"(?s)run: expected the parameters of serial\(dense\(4\)\)",
    ),
    "parameters alone": (lambda: fnn.predict(NET, PARAMS, X), "run: expected what fit returned, got tuple"),
    "a network of the settings": (
        lambda: fnn.predict(lambda s: NET, RUN, X),
        r"net: expected a Layer, got function. Pass net\(found.settings\)",
    ),
    "a metric that was not called": (
        lambda: fnn.evaluate(NET, RUN, (X, C), {"m": fnn.binary_accuracy}),
        "expected a function, got the factory binary_accuracy. Call it",
    ),
    "a bare metric": (lambda: fnn.evaluate(NET, RUN, (X, C), fnn.accuracy), "metrics: expected a dict"),
    # the trainer
    "fewer targets than inputs": (
        lambda: trained(fnn.Data(fnn.Part(X, C[:5]))),
        r"data.train.t: expected 60 rows, as many as inputs, got shape \(5,\)",
    ),
    "a pair": (lambda: trained((X, C)), r"data: expected a Data, got tuple. Write fnn.Data\(fnn.Part\(x, t\)\)"),
    "metrics in a list": (lambda: trained(metrics=[fnn.accuracy]), "metrics: expected a dict"),
    "no rows a batch": (
        lambda: fnn.trainer(NET, SCE, ADAM, batch_size=0),
        "batch_size: expected a whole number, at least 1, got 0",
    ),
    # derivatives of one's own
    "a sum over the rows forgotten": (
        lambda: checked(own({"a": jnp.ones((60, 2))}, jnp.ones((60, 2)))),
        r"(?s)backward of .*params?/?.*0/a: expected float32\(2,\), got float32\(60, 2\).*sum over the rows",
    ),
    "dx of another shape": (
        lambda: checked(own({"a": jnp.ones(2)}, jnp.ones(2))),
        r"backward of .*: expected dx of shape \(60, 2\), as x, got \(2,\)",
    ),
    "a loss whose derivative is summed": (
        lambda: checked(NET, losses.from_function(lambda y, t: y.sum(-1), lambda y, t: y.sum(-1))),
        r"loss.grad of .*: expected shape \(60, 2\), as the outputs, got \(60,\)",
    ),
    "no rows to check": (lambda: checked(NET, x=X[:0], t=C[:0]), "x: expected at least one row, got shape"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_mend(name):
    call, message = MISTAKES[name]
    with pytest.raises((TypeError, ValueError), match=message) as raised:
        call()
    assert has_hint(str(raised.value))


# ---- what looks like a mistake, and works


AS_THEY_ARE = "autodiff", "backprop", "standardise", "accuracy"  # handed over as functions, or of several forms


def public_functions():
    """Those that have to be given something."""
    for name in fnn.__all__:
        thing = getattr(fnn, name)
        asks = callable(thing) and not isinstance(thing, type) and name not in AS_THEY_ARE
        if asks and any(p.default is p.empty and p.kind in NAMED for p in signature(thing).parameters.values()):
            yield name


@pytest.mark.parametrize("name", [*public_functions(), *("relu", "softmax", "gelu")])
def test_a_call_without_arguments_is_named(name):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected .*, got .*\. ") as error:
        getattr(fnn, name)()
    assert has_hint(str(error.value))


def test_a_run_in_the_place_of_its_parameters_is_named():
    with pytest.raises(TypeError, match=r"Pass run\.params, run\.state in place of the run\."):
        fnn.check_gradients(NET, SCE, fit(progress=False), X, C)


def test_losses_activations_and_penalties_can_be_jitted_again_and_again():
    """JAX refers weakly to what it compiles, and where it cannot it ends the process at the second time."""
    for thing, arguments in (
        (losses.squared_error, (X, X)),
        (losses.huber(1.0), (X, X)),
        (fnn.tanh, (X,)),
        (fnn.penalties.l2(0.1), (PARAMS,)),
    ):
        assert np.array_equal(jax.jit(thing)(*arguments), jax.jit(thing)(*arguments))
        _, value, *_ = thing  # unpacked as a named tuple is
        assert callable(value) and thing == thing._replace() and hash(thing) == hash(thing._replace())


def test_a_trainer_takes_numpy_arrays_and_an_integer_key():
    (state, history), arrays = trained(), jax.tree.map(jnp.asarray, DATA)
    training = fnn.trainer(NET, SCE, ADAM, batch_size=10)
    same = training.run(training.init(jax.random.key(0), arrays), arrays, 2)[1]
    assert np.array_equal(history.loss, same.loss) and int(state.epoch) == 2


@pytest.mark.parametrize("make", [lambda: fit(), lambda: swept(over={"seed": [1, 2]}).run], ids=["fit", "sweep"])
def test_the_searches_of_jax_for_nan_and_inf_find_nothing_in_a_healthy_run(make):
    before = make()
    with jax.debug_nans(True), jax.debug_infs(True):
        assert np.array_equal(make().history.loss, before.history.loss)


def test_standardised_columns_have_mean_0_in_any_precision():
    far = (1e6 + 3 * RNG.normal(size=(20_000, 1))).astype("float32")
    made = fnn.standardise(far)
    assert made.dtype == np.float32 and abs(made.mean(dtype=float)) < 1e-4 and abs(made.std(dtype=float) - 1) < 1e-4
    half = fnn.standardise(np.array([[60000.0], [59000.0], [100.0]], "float16"))
    assert half.dtype == np.float16 and np.isfinite(half).all() and half[0, 0] > half[1, 0] > 0 > half[2, 0]


def test_classes_to_hold_out_by_may_be_one_hot_rows():
    wanted = fnn.hold_out(X, C, 0.25, stratify=C)[1][0]
    for classes in (np.eye(2)[C], C[:, None]):
        held = fnn.hold_out(X, C, 0.25, stratify=classes)[1][1]
        assert abs(held.mean() - C.mean()) < 1 / 15 and len(held) == len(wanted)


def signal_before_the_first_epoch(monkeypatch):
    """A signal that comes when the members have begun, and done no epoch."""

    def signalling(*args):
        signal.raise_signal(signal.SIGINT)
        yield from segments(*args)

    monkeypatch.setattr("fnn.studies.jobs.segments", signalling)
    return {"epochs": 10**6, "progress": False, "devices": jax.devices()[:1], "width": 1}


def test_of_a_study_that_has_done_nothing_nothing_is_best(monkeypatch):
    more = signal_before_the_first_epoch(monkeypatch)
    study = {"optimizer": lambda s: optax.sgd(s["lr"]), "data": (X, C), "over": {"lr": [0.1, 0.2]}, **more}
    for result in (ending_of(fnn.sweep, NET, SCE, **study).run, ending_of(fnn.cross_validate, NET, SCE, **study).run):
        assert result.best == -1
        with pytest.raises(ValueError, match=r"got none: it ended too early. Call it again."):
            result.settings  # noqa: B018


def test_an_ensemble_that_has_done_nothing_says_nothing(monkeypatch):
    more = signal_before_the_first_epoch(monkeypatch)
    assert ending_of(fnn.ensemble, NET, SCE, ADAM, (X, C), members=2, **more).run is None
    with handler(signal.SIGINT, lambda *of: None), pytest.raises(KeyboardInterrupt, match="when 0 of them had begun"):
        fnn.ensemble(NET, SCE, ADAM, (X, C), members=2, **more)


def test_results_of_studies_can_be_pickled():
    found = swept(over={"seed": [1, 2]})
    again = pickle.loads(pickle.dumps(found))
    assert again.best == found.best and np.array_equal(again.run.history.loss, found.run.history.loss)
    assert str(again) == str(found) and str(again.plans[0]) == str(found.plans[0])
