"""Pickle and copy: what fnn makes and returns comes back equal, and predicts to the same bits."""

import copy
import dataclasses
import multiprocessing
import pickle
import subprocess
import sys
import textwrap

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from experiments.derivatives import convolutions
from experiments.derivatives.activations import ACTIVATIONS
from experiments.derivatives.boxes import BOX_LOSSES
from experiments.derivatives.layers import LAYERS
from experiments.derivatives.losses import LOSSES, TRANSFORMED
from experiments.derivatives.penalties import PENALTIES
from tests.helpers import pickled

WAYS = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "pickle 2": lambda thing: pickle.loads(pickle.dumps(thing, 2)),
    "cloudpickle": lambda thing: pickle.loads(cloudpickle.dumps(thing)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
LABELS = fnn.losses.sparse_softmax_cross_entropy
X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
CLASSES = np.arange(40) % 2
NET = fnn.serial(fnn.dense(4), fnn.batch_norm(), fnn.tanh, jnp.sin, fnn.dense(2))

# ---- what factories make, and what fnn has under a name

PRODUCTS = [
    *(activation for _, activation in ACTIVATIONS),
    *(loss for _, loss in BOX_LOSSES),
    *(case.layer for case in (*LAYERS, *convolutions.LAYERS)),
    *(case.loss for case in (*LOSSES, *TRANSFORMED)),
    *(case.penalty for case in PENALTIES),
    NET,
    fnn.sparse_dense(5, 2),
    fnn.parallel(a=fnn.dense(2), b=fnn.relu),
    fnn.parallel(fnn.serial(), fnn.tanh),
    fnn.concatenate(),
    fnn.add(),
    fnn.select("a"),
    fnn.losses.joint(a=(1.0, fnn.losses.huber(0.5)), b=(0.5, fnn.losses.squared_error)),
    fnn.losses.masked(fnn.losses.squared_error, -1),
    fnn.as_layer(fnn.relu),
    fnn.as_layer(fnn.elu(0.5)),
    fnn.as_layer(jax.nn.relu),
    fnn.mixed_precision(NET, jnp.bfloat16),
    fnn.losses.smoothed(fnn.losses.class_weighted(LABELS, (1, 10)), 0.1),
    pickled.scale(3.0),
    fnn.serial(pickled.scale(2), pickled.scale(2.0)),
    pickled.power(4),
]
MADE_ANEW = [  # equal, but no memory holds what has functions of the user's own
    fnn.Layer("own", pickled.init, pickled.forward, pickled.backward),
    fnn.Loss("own", pickled.quartic, pickled.quartic_grad),
    fnn.Penalty("own", pickled.square, pickled.twice),
    fnn.losses.from_function(pickled.quartic),
    fnn.losses.from_function(pickled.quartic, pickled.quartic_grad, "by hand", "one-hot"),
    fnn.losses.from_function(pickled.quartic, targets="labels", outputs="logits"),
    fnn.Loss("own", pickled.quartic, pickled.quartic_grad, outputs="probabilities"),
    fnn.elementwise("square", pickled.square, pickled.twice),
    fnn.serial(fnn.dense(3), fnn.elementwise("square", pickled.square, pickled.twice)),
    fnn.Loss("own", pickled.quartic, pickled.quartic_grad)._with_doc("documented"),
]
# of the registry: for cloudpickle, and unequal to themselves made anew
WITH_LAMBDAS = {"from_function, by hand", "joint", "of_values(sparse_dense(6, 3))", "of_values(sparse_dense(3, 1))"}


def public(kind):
    """Products of fnn under their own names."""
    return [thing for module in (fnn, fnn.losses) for thing in vars(module).values() if isinstance(thing, kind)]


def name(thing):
    return f"{type(thing).__name__} {thing}"


@every_way
@pytest.mark.parametrize("thing", [*PRODUCTS, *public((fnn.Activation, fnn.Loss))], ids=name)
def test_products_come_back_as_themselves(thing, way):
    if str(thing) in WITH_LAMBDAS and way not in (copy.copy, copy.deepcopy):
        pytest.skip("has a lambda")
    back = way(thing)
    assert back == thing and hash(back) == hash(thing)


@every_way
def test_products_that_their_factory_has_forgotten_come_back_equal(way):
    net = fnn.serial(fnn.dense(4), fnn.tanh, jnp.sin, fnn.dense(2))
    loss = fnn.losses.huber(0.75)
    back = []
    for thing in (net, loss):
        written = pickle.dumps(thing)
        for i in range(1100):  # it remembers the last 1024
            fnn.serial(fnn.dense(i + 1))
            fnn.losses.huber(1.0 + i)
        back.append((pickle.loads(written), way(thing)))
    for thing, made in zip((net, loss), back, strict=True):
        assert all(one == thing and hash(one) == hash(thing) for one in made)
    assert way(net) != fnn.serial(fnn.dense(4), fnn.tanh, jnp.sin, fnn.dense(3))


# written before a loss said what it wants from the network
OLDER = (
    b"(lcfnn.factories\ncall_factory\np0\n(Vfnn.losses.smoothed\n(dVloss\ncfnn.factories\nfind_public\n"
    b"(Vfnn.losses.sparse_softmax_cross_entropy\ntRsVsmoothing\nF0.1\nstRacfnn\nLoss\n(Vown\np1\n"
    b"ctests.helpers.pickled\nquartic\np2\nctests.helpers.pickled\nquartic_grad\nNVone-hot\nNtRag0\n"
    b"(Vfnn.losses.from_function\n(dVvalue\ng2\nsVgrad\nNsVname\ng1\nsVtargets\nVbinary\nstRa."
)


def test_losses_of_older_pickles_come_back():
    found = pickle.loads(OLDER)
    assert found[0] == fnn.losses.smoothed(LABELS, 0.1) and found[0].outputs == "logits"
    assert found[1] == fnn.Loss("own", pickled.quartic, pickled.quartic_grad, None, "one-hot")
    assert found[2] == fnn.losses.from_function(pickled.quartic, name="own", targets="binary")


@every_way
@pytest.mark.parametrize("thing", MADE_ANEW, ids=name)
def test_things_of_the_users_own_functions_come_back_equal(thing, way):
    back = way(thing)
    assert type(back) is type(thing) and back == thing and hash(back) == hash(thing) and str(back) == str(thing)
    assert back.__doc__ == thing.__doc__


def test_every_factory_has_a_product_here():
    modules = (fnn, fnn.losses, fnn.penalties)
    factories = {n for m in modules for n, thing in vars(m).items() if getattr(thing, "is_factory", False)}
    assert len(factories) > 30 and factories - {str(thing).split("(")[0] for thing in PRODUCTS} <= {
        "from_function", "binary_accuracy"  # a metric
    }  # fmt: skip
    assert any(thing.spec.factory is fnn.from_function for thing in PRODUCTS if isinstance(thing, fnn.Layer)
               if not isinstance(thing.spec, str))  # fmt: skip


def test_a_pickle_names_what_a_user_writes():
    for thing in (NET, fnn.losses.huber(), fnn.penalties.l2(0.1), fnn.relu, fnn.Run({}, (), None, None)):
        text = pickle.dumps(thing, 0).decode("latin1")
        assert "fnn.layers" not in text and "fnn.losses.r" not in text and "fnn.types" not in text, text


# ---- arrays among the arguments, functions of one's own, things changed since


def forward(net, x=X):
    params, state, _ = net.init(jax.random.key(0), x.shape[1:])
    return np.asarray(net.forward(params, state, x, None, False)[0])


@every_way
def test_networks_with_arrays_in_them_compute_the_same(way):
    alpha = np.array([0.1, 0.2, 0.3], np.float32)
    net = fnn.serial(fnn.dense(3), fnn.leaky_relu(alpha), fnn.prelu(jnp.asarray(alpha)))
    np.testing.assert_array_equal(forward(way(net)), forward(net))
    loss = fnn.losses.softmax_focal(2.0, jnp.asarray(alpha))
    np.testing.assert_array_equal(way(loss)(X, np.eye(3)[[0] * 40]), loss(X, np.eye(3)[[0] * 40]))


def test_lambdas_go_by_cloudpickle_alone():
    net = fnn.serial(fnn.dense(3), lambda x: 2 * x)
    np.testing.assert_array_equal(forward(WAYS["cloudpickle"](net)), forward(net))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(net)


def test_what_was_changed_since_it_was_made_does_not_come_back_as_it_was():
    for changed in (
        fnn.dense(3)._replace(init=fnn.dense(4).init),
        fnn.Layer(fnn.dense(3).spec, fnn.dense(4).init, fnn.dense(3).forward, fnn.dense(3).backward),
    ):
        assert WAYS["cloudpickle"](changed).init(jax.random.key(0), (2,))[2] == (4,)
    changed = fnn.losses.huber()._replace(value=pickled.quartic)
    assert WAYS["cloudpickle"](changed).value is pickled.quartic and WAYS["copy"](changed) == changed
    assert changed != fnn.losses.huber()
    layer = fnn.as_layer(fnn.relu)._replace(backward=pickled.backward)
    assert WAYS["cloudpickle"](layer).backward is pickled.backward
    renamed = WAYS["cloudpickle"](fnn.relu._replace(spec="own"))
    assert str(renamed) == "own" and renamed(-1.0) == 0


def test_1_and_1_0_stay_apart():
    one, other = fnn.losses.huber(1), fnn.losses.huber(1.0)
    assert one != other and WAYS["pickle"](one) is one and WAYS["pickle"](other) is other


def test_factories_of_a_notebook_go_by_cloudpickle_to_another_process():
    program = """
        import cloudpickle, fnn, jax.numpy as jnp, sys

        @fnn.factory
        def scale(by):
            return fnn.Layer(None, lambda key, shape: ((), (), shape),
                             lambda params, state, x, key, train: (by * x, state, ()),
                             lambda params, cache, dy: ((), by * dy))

        net = fnn.serial(scale(3), fnn.relu)
        sys.stdout.write(cloudpickle.dumps(net).hex())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    net = pickle.loads(bytes.fromhex(done.stdout))
    assert str(net) == "serial(scale(3), relu)"
    np.testing.assert_array_equal(forward(net), np.maximum(3 * X, 0))


# ---- results


def fit(**more):
    kept = {"epochs": 2, "progress": False, "batch_size": 16} | more
    return fnn.fit(NET, LABELS, optax.adam(0.1), (X, CLASSES), **kept)


def study(function, optimizer, **more):
    return function(NET, LABELS, optimizer, (X, CLASSES), epochs=1, progress=False, **more)


def gradient_check():
    params, state, _ = fnn.dense(1).init(jax.random.key(0), (3,))
    return fnn.check_gradients(fnn.dense(1), fnn.losses.squared_error, params, state, X[:2], X[:2, :1], show=False)


def by_rate(settings):
    return optax.sgd(settings["lr"])


RESULTS = {
    "run": lambda: fit(validation=0.2, metrics={"accuracy": fnn.accuracy}),
    "run with a typed key": lambda: fnn.Run({"w": jnp.ones(2, jnp.bfloat16)}, jax.random.key(3), None, None),
    "sweep": lambda: study(fnn.sweep, by_rate, over={"lr": [0.1, 0.2]}),
    "cross-validation": lambda: study(fnn.cross_validate, by_rate, over={"lr": [0.1]}, folds=2, standardise=True),
    "ensemble": lambda: study(fnn.ensemble, optax.sgd(0.1), members=2, devices=jax.devices() * 2, width=1),
    "check of gradients": gradient_check,
    "standardiser": lambda: fnn.standardiser(X),
    "complexity": lambda: fnn.summary(NET, (3,)),
    "grid": lambda: fnn.grid({"lr": [0.1, 0.2]}),
    "range": lambda: fnn.log_uniform(0.1, 1),
    "folds": lambda: fnn.folds(40, 3),
    "evaluation": lambda: fnn.evaluate(NET, fit(), (X, CLASSES), {"loss": LABELS}),
    "data": lambda: fnn.Data(fnn.Part(jnp.asarray(X), jnp.asarray(CLASSES))),
}
_made = {}


def result(title):
    """Made once for all tests."""
    if title not in _made:
        _made[title] = RESULTS[title]()
    return _made[title]


def assert_same(got, expected):
    """Of one type, to the last bit; devices by their names."""
    if isinstance(expected, jax.Device):
        assert str(got) == str(expected)
        return
    assert type(got) is type(expected), (got, expected)
    if isinstance(expected, fnn.Layer):
        assert got == expected
    elif dataclasses.is_dataclass(expected) and not callable(expected):
        assert_same(vars(got), vars(expected))
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        assert_same(list(got.values()), list(expected.values()))
    elif isinstance(expected, (tuple, list)):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, (jax.Array, np.ndarray)):
        if isinstance(expected, jax.Array) and jnp.issubdtype(expected.dtype, jax.dtypes.prng_key):
            got, expected = jax.random.key_data(got), jax.random.key_data(expected)
        assert got.dtype == expected.dtype and got.shape == expected.shape
        assert np.asarray(got).tobytes() == np.asarray(expected).tobytes()
    else:
        assert got == expected


@every_way
@pytest.mark.parametrize("title", RESULTS)
def test_results_come_back_to_the_last_bit(title, way):
    thing = result(title)
    back = way(thing)
    assert_same(back, thing)
    assert repr(back) == repr(thing)


def test_a_copy_in_this_process_keeps_the_devices():
    plan = result("ensemble").plans[0]
    assert WAYS["deepcopy"](result("ensemble")).plans == [plan]
    assert WAYS["pickle"](plan).devices == (str(jax.devices()[0]),) * 2


@every_way
def test_results_that_come_back_predict_to_the_same_bits(way):
    for title in ("run", "sweep", "cross-validation"):
        run, back = (getattr(thing, "run", thing) for thing in (result(title), way(result(title))))
        assert_same(fnn.predict(way(NET), back, X), fnn.predict(NET, run, X))
    assert_same(way(result("ensemble")).predict(X), result("ensemble").predict(X))
    assert_same(way(result("standardiser"))(X), result("standardiser")(X))


def test_a_deep_copy_shares_no_numbers():
    run = result("run")
    other = copy.deepcopy(run)
    pairs = zip(jax.tree.leaves(other), jax.tree.leaves(run), strict=True)
    assert not any(one is two for one, two in pairs if isinstance(two, (np.ndarray, jax.Array)))


@every_way
def test_training_goes_on_from_what_comes_back(way):
    more = fit(params=way(result("run")).params, state=way(result("run")).state)
    assert_same(more.params, fit(params=result("run").params, state=result("run").state).params)


@every_way
def test_a_stream_of_files_opens_them_anew(way, tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "t.npy", CLASSES)
    stream = fnn.memory_mapped(tmp_path / "x.npy", tmp_path / "t.npy", chunk_rows=7)
    back = way(stream)
    assert str(back) == str(stream) and back.rows == 40 and len(pickle.dumps(stream)) < 1000
    assert_same(list(back.chunks((1,), 2, True)), list(stream.chunks((1,), 2, True)))


def test_errors_and_warnings_come_back():
    for kind in (fnn.ShapeError, fnn.DamagedFile, fnn.NotAnalytic, fnn.TrainingDiverged, fnn.TrainingInterrupted):
        error = kind("what it says")
        back = WAYS["pickle"](error)
        assert type(back) is kind and str(back) == "what it says"
    diverged = fnn.TrainingDiverged("here")
    diverged.run = result("run")
    assert_same(WAYS["pickle"](diverged).run, result("run"))


def test_another_process_predicts_to_the_same_bits():
    run, expected = result("run"), fnn.predict(NET, result("run"), X)
    own = fnn.serial(fnn.dense(3), lambda x: x * x)
    params, state, _ = own.init(jax.random.key(0), (3,))
    simple = fnn.Run(params, state, None, None)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        got, name = pool.apply(pickled.predict, (NET, run, X))
        theirs, _ = pool.apply(pickled.predict_pickled, (cloudpickle.dumps((own, simple, X)),))
        whole = pool.apply(pickled.predict, (result("ensemble").net, result("ensemble").member(0), X))[0]
        pool.close()
        pool.join()
    assert name == str(NET)
    assert_same(got, np.asarray(expected))
    assert_same(theirs, np.asarray(fnn.predict(own, simple, X)))
    assert_same(whole, np.asarray(fnn.predict(NET, result("ensemble").member(0), X)))
