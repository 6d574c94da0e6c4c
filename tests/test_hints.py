"""Each kind of hint, followed once: what it says works."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pandas as pd
import pytest
import sklearn.model_selection

import fnn
from fnn import losses, schedules

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
LABELS = np.arange(12) % 2
SUM = X.sum(1)
FRAME = pd.DataFrame(X, columns=list("abc"))
SERIES = pd.Series(SUM)
SCE, SQUARED, SGD = losses.sparse_softmax_cross_entropy, losses.squared_error, optax.sgd(0.1)
NET = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(2))
ONE = fnn.serial(fnn.dense(1))
IMAGES = fnn.serial(fnn.conv2d(2, 3), fnn.flatten(), fnn.dense(2))
PICTURES = np.ones((4, 6, 6, 1), "float32")
RUN = fnn.Run(*NET.init(jax.random.key(0), (3,))[:2], None, None, (3,))
OF_IMAGES = fnn.Run(*IMAGES.init(jax.random.key(0), (6, 6, 1))[:2], None, None, (6, 6, 1))
STEPS = optax.MultiSteps(optax.sgd(0.1), 2)
FOLDS = sklearn.model_selection.KFold(4)
GROUPED, GROUPS = sklearn.model_selection.GroupKFold(3), np.arange(12) % 3


def fit(data=(X, LABELS), net=NET, loss=SCE, optimizer=SGD, **more):
    return fnn.fit(net, loss, optimizer, data, **{"epochs": 1, "progress": False} | more)


def folds(value, **more):
    return fnn.cross_validate(NET, SCE, SGD, (X, LABELS), epochs=1, folds=value, progress=False, **more)


def swept(over, net=NET):
    return fnn.sweep(net, SCE, SGD, (X, LABELS), over=over, epochs=1, progress=False)


def act(s):
    return fnn.serial(fnn.dense(4), {"relu": fnn.relu, "tanh": fnn.tanh}[s["act"]], fnn.dense(2))


def chosen(s):
    return fnn.serial(fnn.dense(4), [fnn.relu, fnn.tanh][s["act"]], fnn.dense(2))


def chunks(epoch):
    return iter([(X, LABELS)])


def accuracy(outputs, targets):
    return np.float32(np.asarray(outputs).argmax(-1) == np.asarray(targets))


def accuracy_of_jax(outputs, targets):
    return jnp.float32(jnp.asarray(outputs).argmax(-1) == jnp.asarray(targets))


def looks(outputs, targets):
    return outputs[:, 0] if targets[0] > 0 else outputs[:, 1]


def selects(outputs, targets):
    return jnp.where(targets > 0, outputs[:, 0], outputs[:, 1])


own = fnn.Layer("mine", lambda key, s: ((), (), s), lambda p, s, a, key, train: (a, s), None)
whole = fnn.Layer("mine", lambda key, s: ((), (), s), lambda p, s, a, key, train: (a, s, ()), None)

HINTS = {  # what is wrong, what is said, and what works when the hint is followed
    "one row": (
        lambda: fnn.predict(NET, RUN, X[0]),
        "x[None, :] for one row",
        lambda: fnn.predict(NET, RUN, X[0][None, :]),
    ),
    "one row, a list": (
        lambda: fnn.predict(NET, RUN, [1.0, 2.0, 3.0]),
        "[x] for one row",
        lambda: fnn.predict(NET, RUN, [[1.0, 2.0, 3.0]]),
    ),
    "one row of a frame": (
        lambda: fnn.predict(NET, RUN, FRAME.iloc[0]),
        "x.to_numpy()[None, :] for one row",
        lambda: fnn.predict(NET, RUN, FRAME.iloc[0].to_numpy()[None, :]),
    ),
    "one image": (
        lambda: fnn.predict(IMAGES, OF_IMAGES, PICTURES[0]),
        "x[None, :] for one row",
        lambda: fnn.predict(IMAGES, OF_IMAGES, PICTURES[0][None, :]),
    ),
    "inputs as a Series": (
        lambda: fit((SERIES, SUM[:, None]), ONE, SQUARED),
        "data[0].to_numpy()[:, None]",
        lambda: fit((SERIES.to_numpy()[:, None], SUM[:, None]), ONE, SQUARED),
    ),
    "targets as a Series": (
        lambda: fit((X, SERIES), ONE, SQUARED),
        "of a Series targets.to_numpy()[:, None]",
        lambda: fit((X, SERIES.to_numpy()[:, None]), ONE, SQUARED),
    ),
    "targets as a list": (
        lambda: fit((X, SUM.tolist()), ONE, SQUARED),
        "of a list [[t] for t in targets]",
        lambda: fit((X, [[t] for t in SUM.tolist()]), ONE, SQUARED),
    ),
    "classes as a frame": (
        lambda: fit((X, pd.DataFrame({"k": LABELS}))),
        "targets[:, 0]; np.ravel(targets), of a frame",
        lambda: fit((X, np.ravel(pd.DataFrame({"k": LABELS})))),
    ),
    "floats as classes": (
        lambda: fit((X, LABELS.astype(float).tolist())),
        "np.asarray(targets, 'int32'), of a list",
        lambda: fit((X, np.asarray(LABELS.astype(float).tolist(), "int32"))),
    ),
    "KFold": (lambda: folds(FOLDS), "folds=list(folds.split(x, t))", lambda: folds(list(FOLDS.split(X, LABELS)))),
    "GroupKFold": (
        lambda: folds(GROUPED, groups=GROUPS),
        "folds=list(folds.split(x, t, groups))",
        lambda: folds(list(GROUPED.split(X, LABELS, GROUPS))),
    ),
    "a stream without batch_size": (lambda: fit(chunks), "Write batch_size=32", lambda: fit(chunks, batch_size=32)),
    "MultiSteps": (
        lambda: fit(optimizer=STEPS),
        "Pass its .gradient_transformation()",
        lambda: fit(optimizer=STEPS.gradient_transformation()),
    ),
    "a schedule as optimizer": (
        lambda: fit(optimizer=schedules.cosine_decay(0.1, 9)),
        "Pass optax.sgd(schedule)",
        lambda: fit(optimizer=optax.sgd(schedules.cosine_decay(0.1, 9))),
    ),
    "an optimizer not called": (lambda: fit(optimizer=optax.sgd), "Call it", lambda: fit(optimizer=optax.sgd(0.1))),
    "a layer not called": (
        lambda: fit(net=fnn.serial(fnn.flatten)),
        "flatten(",
        lambda: fit(net=fnn.serial(fnn.flatten(), NET)),
    ),
    "a metric of NumPy": (
        lambda: fit(metrics={"m": accuracy}),
        "Use jnp in place of np",
        lambda: fit(metrics={"m": accuracy_of_jax}),
    ),
    "a loss that looks": (
        lambda: fit(loss=looks),
        "Use jnp.where or jax.lax.cond in place of if",
        lambda: fit(loss=selects),
    ),
    "names in a sweep": (
        lambda: swept({"act": ["relu", "tanh"]}, act),
        "over={…: [0, 1]} and [a, b][s['act']]",
        lambda: swept({"act": [0, 1]}, chosen),
    ),
    "two inputs": (
        lambda: fit(((X, X[:, :2]), LABELS)),
        "Put select, concatenate or parallel before it",
        lambda: fit(((X, X[:, :2]), LABELS), net=fnn.serial(fnn.concatenate(), NET)),
    ),
    "two inputs alike": (
        lambda: fit(((X, X), LABELS)),
        "Put select, concatenate or parallel before it",
        lambda: fit(((X, X), LABELS), net=fnn.serial(fnn.select(1), NET)),
    ),
    "activations in a sweep": (
        lambda: swept({"act": [fnn.relu, fnn.tanh]}, lambda s: fnn.serial(fnn.dense(4), s["act"], fnn.dense(2))),
        "over={…: [0, 1]} and [a, b][s['act']]",
        lambda: swept({"act": [0, 1]}, chosen),
    ),
    "weights as a column": (
        lambda: fit(weights=np.ones((12, 1), "float32")),
        "Pass np.ravel(weights)",
        lambda: fit(weights=np.ravel(np.ones((12, 1), "float32"))),
    ),
    "MultiSteps of a setting": (
        lambda: fit(optimizer=lambda s: optax.MultiSteps(optax.sgd(s["lr"]), 2), settings={"lr": 0.1}),
        "Return its .gradient_transformation()",
        lambda: fit(
            optimizer=lambda s: optax.MultiSteps(optax.sgd(s["lr"]), 2).gradient_transformation(), settings={"lr": 0.1}
        ),
    ),
    "a schedule of optax": (
        lambda: fit(optimizer=optax.cosine_decay_schedule(0.1, 9)),
        "Pass optax.sgd(schedule)",
        lambda: fit(optimizer=optax.sgd(optax.cosine_decay_schedule(0.1, 9))),
    ),
    "an optimizer that needs the gradient of each row": (
        lambda: fit(optimizer=optax.contrib.differentially_private_aggregate(1.0, 0.1, 0)),
        "Use another optimizer",
        lambda: fit(optimizer=optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())),
    ),
    "a dict of columns": (
        lambda: fit(({"a": SUM, "b": SUM}, LABELS)),
        "np.column_stack(list(values))",
        lambda: fit((np.column_stack(list({"a": SUM, "b": SUM}.values())), LABELS)),
    ),
    "a layer that returns two things": (
        lambda: fit(net=fnn.serial(own, fnn.dense(2))),
        "Return these 3",
        lambda: fit(net=fnn.serial(whole, fnn.dense(2))),
    ),
    "no derivative": (
        lambda: fit(net=fnn.serial(whole, fnn.dense(2)), gradient=fnn.backprop),
        "train with gradient=fnn.autodiff",
        lambda: fit(net=fnn.serial(whole, fnn.dense(2)), gradient=fnn.autodiff),
    ),
    "half an epoch": (lambda: fit(epochs=1.5), "Write epochs=10", lambda: fit(epochs=10)),
    "no inputs in shape": (lambda: fnn.summary(NET, 3), "such as (3,)", lambda: fnn.summary(NET, (3,))),
    "a ufunc": (lambda: fnn.as_layer(np.sin), "Write jnp.sin", lambda: fnn.as_layer(jnp.sin)),
    "layers in a list": (
        lambda: fnn.as_layer([fnn.dense(2)]),
        "Write serial(*layers)",
        lambda: fnn.serial(*[fnn.dense(2)]),
    ),
    "a plan for one epoch": (lambda: fnn.folds(12, 1), "Write k=2", lambda: fnn.folds(12, 2)),
}


# each has its like among the others
LATER = ["MultiSteps of a setting", "GroupKFold", "a schedule of optax", "inputs as a Series"]
LATER = dict.fromkeys(LATER, pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in HINTS])
def test_what_a_hint_says_works(name):
    wrong, hint, right = HINTS[name]
    with pytest.raises((TypeError, ValueError)) as raised:
        wrong()
    assert hint in str(raised.value)
    right()


TRANSFORMS = {
    "jit": lambda call: jax.jit(call)(X),
    "grad": lambda call: jax.grad(lambda a: call(a).sum())(X),
    "vmap": lambda call: jax.vmap(call)(X[None]),
    "scan": lambda call: jax.lax.scan(lambda carry, a: (carry, call(a)), 0.0, X[None]),
}
CALLS = {
    "data[0]": lambda a: fit((a, LABELS)).history.loss,
    "params": lambda a: fit(params=jax.tree.map(lambda p: p * a.sum(), RUN.params)).history.loss,
    "x": lambda a: fnn.predict(NET, RUN, a),
    "run": lambda a: fnn.predict(NET, RUN._replace(params=jax.tree.map(lambda p: p * a.sum(), RUN.params)), X),
    "data, x": lambda a: jnp.asarray(fnn.evaluate(NET, RUN, (a, LABELS), {"m": fnn.accuracy})["m"]),
    "settings['lr']": lambda a: fit(optimizer=lambda s: optax.sgd(s["lr"]), settings={"lr": a.sum()}).history.loss,
    "net, loss, optimizer": lambda a: fit(optimizer=optax.sgd(a.sum())).history.loss,
    "data[0] of a sweep": lambda a: fnn.sweep(NET, SCE, SGD, (a, LABELS), over={"seed": [0]}, epochs=1).run.params[0][
        "w"
    ],
    "data[0] of folds": lambda a: fnn.cross_validate(NET, SCE, SGD, (a, LABELS), epochs=1).table["loss"],
    "data[0] of members": lambda a: fnn.ensemble(NET, SCE, SGD, (a, LABELS), epochs=1).params[0]["w"],
    "x of members": lambda a: fnn.hold_out(a, LABELS)[0][0],
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", CALLS)
def test_a_function_of_the_host_inside_of_a_compiled_one_is_named(name, transform):
    with pytest.raises(
        TypeError,
        match=r"^[a-z]+[^:]*: expected .* got .*\. (Call this outside .*|Use )fnn.trainer(, or net.f| inside of jit)",
    ):
        TRANSFORMS[transform](CALLS[name])


@pytest.mark.parametrize("transform", [jax.jit, lambda call: lambda key: jax.vmap(call)(key[None])])
def test_a_traced_key_is_named(transform):
    with pytest.raises(
        TypeError, match=r"^(key: expected a known key, got a traced key|data: expected known numbers, got a)"
    ):
        transform(lambda key: fit(key=key).history.loss)(jax.random.key(0))


def test_inside_of_jit_a_trainer_and_forward_work():
    training = fnn.trainer(NET, SCE, SGD)

    @jax.jit
    def loss(x):
        data = fnn.Data(fnn.Part(x, jnp.asarray(LABELS)))
        return training.run(training.init(0, data), data, 2)[1].loss, NET.forward(
            RUN.params, RUN.state, x, None, False
        )[0]

    assert loss(X)[0].shape == (2,)
