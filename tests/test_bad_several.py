"""Mistakes in several inputs and outputs: each raises before anything compiles, and says which array it is."""

import jax
import numpy as np
import optax
import pytest
from scipy import sparse

import fnn
from fnn import losses
from tests.helpers.branches import LOSS, METRICS, SHAPES, network, rows

NET = network()
PARAMS, STATE, _ = NET.init(jax.random.key(0), SHAPES)
RUN = fnn.Run(PARAMS, STATE, None, None, SHAPES)
X, T = rows(10)
MASKED = losses.joint(
    price=(1.0, losses.masked(losses.squared_error)), kind=(0.5, losses.sparse_softmax_cross_entropy, "trust")
)


def spoilt(tree, **others):
    """The arrays with others in place of some; None leaves one out."""
    return {name: leaf for name, leaf in {**tree, **others}.items() if leaf is not None}


def fit(x=X, t=T, net=NET, loss=LOSS, **training):
    return fnn.fit(net, loss, optax.sgd(0.1), (x, t), epochs=1, progress=False, **training)


MIXED = {"table": X["table"], "town": np.arange(10) % 3}
BRANCHES = {"table": fnn.dense(2), "town": fnn.embedding(3, 2), "words": fnn.sparse_dense(9, 2)}


def cross(standardise, **others):
    x = MIXED | others
    net = fnn.serial(fnn.parallel(**{name: BRANCHES[name] for name in x}), fnn.add(), fnn.dense(1))
    more = {"standardise": standardise, "epochs": 1, "refit": False, "progress": False}
    return fnn.cross_validate(net, losses.squared_error, optax.sgd(0.1), (x, T["price"]), **more)


def with_nan(a, row=3):
    a = a.copy()
    a[row] = np.nan
    return a


def chunks(x, t=T):
    return lambda: iter([(X, T), (x, t)])


CASES = {  # what is wrong: the call, and what the message says
    "nan in an input": (lambda: fit(spoilt(X, table=with_nan(X["table"]))), r'data\[0\]\["table"\]: .* row 3'),
    "an input with a row less": (
        lambda: fit(spoilt(X, table=X["table"][1:])),
        r'data\[0\]\["table"\]: expected 10 rows, as data\[0\]\["image"\] has, got 9',
    ),
    "text in an input": (
        lambda: fit(spoilt(X, table=np.full((10, 4), "a"))),
        r'data\[0\]\["table"\]: expected numbers',
    ),
    "None for an input": (lambda: fit({**X, "table": None}), r'data\[0\]\["table"\]: expected'),
    "a number for an input": (lambda: fit(spoilt(X, table=3.0)), r'data\[0\]\["table"\]: expected a table of rows'),
    "an empty dict": (lambda: fit(spoilt(X, table={})), r'data\[0\]\["table"\]: expected at least one array'),
    "a key that is no text": (lambda: fit({3: X["table"]}), r"data\[0\]: expected text as keys"),
    "an integer beyond int32": (
        lambda: fit(spoilt(X, table=np.full((10, 4), 2**40))),
        r'data\[0\]\["table"\]: expected integers that fit int32',
    ),
    "an input missing": (lambda: fit(spoilt(X, table=None)), "parallel: expected inputs named image, table"),
    "an input too many": (lambda: fit({**X, "age": X["table"]}), "parallel: expected inputs named image, table"),
    "one array": (lambda: fit(X["table"]), "image: layer 0, conv2d.*expected images"),
    "a tuple of rows": (lambda: fit(tuple(X["table"])), r"np.stack"),
    "a list of inputs": (lambda: fit([X["image"], X["table"]]), "data.0.: expected one array.*tuple or a dict"),
    "nan in a target": (lambda: fit(t=spoilt(T, price=with_nan(T["price"]))), r'data\[1\]\["price"\]: .* row 3'),
    "inf in a target that may be missing": (
        lambda: fit(t={**T, "price": np.full((10, 1), np.inf), "trust": np.ones(10)}, loss=MASKED),
        r'data\[1\]\["price"\]: expected finite numbers, got inf',
    ),
    "fewer targets": (
        lambda: fit(t={name: leaf[1:] for name, leaf in T.items()}),
        r'data: expected as many targets as inputs, got 9 in \["kind"\] and 10 in \["image"\]',
    ),
    "a target with a row less": (
        lambda: fit(t=spoilt(T, price=T["price"][1:])),
        r'data\[1\]\["price"\]: expected 10 rows, as data\[1\]\["kind"\] has, got 9',
    ),
    "a label out of range": (
        lambda: fit(t=spoilt(T, kind=T["kind"] + 1)),
        r'targets\["kind"\]: .*class numbers from 0 to 2, got 3 in row',
    ),
    "a target missing": (lambda: fit(t=spoilt(T, kind=None)), "joint: expected targets named price, kind"),
    "a target too many": (lambda: fit(t={**T, "age": T["kind"]}), "joint: expected targets named price, kind"),
    "targets of another shape": (
        lambda: fit(t=spoilt(T, price=T["price"][:, 0])),
        r'targets\["price"\]: squared_error: .* got \(10,\)',
    ),
    "one array of targets": (lambda: fit(t=T["price"]), "joint: expected targets named price, kind"),
    "weights below 0": (
        lambda: fit(t={**T, "trust": np.arange(-1.0, 9.0, dtype="f4")}, loss=MASKED),
        r'targets\["trust"\]: expected weights of at least 0, got -1.0 in row 0',
    ),
    "validation without an input": (
        lambda: fit(validation=(spoilt(X, table=None), T)),
        r'validation\[0\]\["table"\]: expected the arrays of the training',
    ),
    "validation of another shape": (
        lambda: fit(validation=(spoilt(X, table=X["table"][:, 1:]), T)),
        r'validation\[0\]\["table"\]: expected examples of shape \(4,\), got \(3,\)',
    ),
    "a chunk of another shape": (
        lambda: fnn.fit(
            NET,
            LOSS,
            optax.sgd(0.1),
            chunks(spoilt(X, table=X["table"][:, 1:])),
            epochs=1,
            batch_size=4,
            progress=False,
        ),
        r'data, chunk 1, x\["table"\]: expected rows of shape \(4,\).*as in the first chunk',
    ),
    "a chunk with nan": (
        lambda: fnn.fit(
            NET,
            LOSS,
            optax.sgd(0.1),
            chunks(X, spoilt(T, price=with_nan(T["price"]))),
            epochs=1,
            batch_size=4,
            progress=False,
        ),
        r'data, chunk 1, t\["price"\]: .* row 3',
    ),
    "predict without an input": (
        lambda: fnn.predict(NET, RUN, spoilt(X, table=None)),
        r'x\["table"\]: expected the arrays',
    ),
    "predict of one array": (lambda: fnn.predict(NET, RUN, X["table"]), r'x\["image"\]: expected the arrays'),
    "predict of another shape": (
        lambda: fnn.predict(NET, RUN, spoilt(X, image=X["image"][:, 1:])),
        r'x\["image"\]: expected examples of shape',
    ),
    "evaluate with nan": (
        lambda: fnn.evaluate(NET, RUN, (spoilt(X, table=with_nan(X["table"])), T), METRICS),
        r'data, x\["table"\]: .* row 3',
    ),
    "rows of no length in a check": (
        lambda: fnn.check_gradients(NET, LOSS, PARAMS, STATE, spoilt(X, table=X["table"][1:]), T),
        r'x\["table"\]: expected 10',
    ),
    "a standardiser of others": (
        lambda: fnn.standardiser(X)(spoilt(X, table=None)),
        r'x\["table"\]: expected the arrays that the standardiser',
    ),
    "a name that is none": (
        lambda: fnn.standardiser(X, leaves=["tables"]),
        "leaves: expected some of the inputs image, table",
    ),
    "folds by no target": (
        lambda: fnn.cross_validate(NET, LOSS, optax.sgd(0.1), (X, T), epochs=1, stratify=True),
        "stratify: expected one of the targets, kind, price, got True",
    ),
    "categories standardised": (
        lambda: cross(["table", "town"]),
        r'got data\[0\]\["town"\], which an embedding or sparse_dense reads\. Write standardise=\[.table.\]',
    ),
    "categories of floats standardised": (
        lambda: cross(True, town=MIXED["town"].astype("f4")),
        r'got data\[0\]\["town"\], which an embedding .* Write standardise=\[.table.\]',
    ),
    "sparse rows standardised": (
        lambda: cross(True, words=np.zeros((10, 2, 3), "f4")),
        r'got data\[0\]\["words"\], which an embedding .* Write standardise=\[.table.\]',
    ),
    "inf in an input": (
        lambda: fit(spoilt(X, table=np.full((10, 4), np.inf))),
        r'data\[0\]\["table"\]: expected finite numbers, got nan or inf in 10 of 10 rows',
    ),
    "nan in an input of an input": (
        lambda: fit(spoilt(X, table={"old": with_nan(X["table"], 0)})),
        r'data\[0\]\["table"\]\["old"\]: .* row 0',
    ),
    "objects in an input": (
        lambda: fit(spoilt(X, table=np.full((10, 4), None))),
        r'data\[0\]\["table"\]: expected numbers, got dtype object',
    ),
    "complex numbers in an input": (
        lambda: fit(spoilt(X, table=X["table"] + 1j)),
        r'data\[0\]\["table"\]: expected numbers, got dtype complex',
    ),
    "a masked array": (
        lambda: fit(spoilt(X, table=np.ma.masked_less(X["table"], 0))),
        r'data\[0\]\["table"\]: .* got a masked one',
    ),
    "no rows in an input": (
        lambda: fit(spoilt(X, table=X["table"][:0])),
        r'data\[0\]\["table"\]: expected at least one row',
    ),
    "a sparse matrix among inputs": (
        lambda: fit(spoilt(X, table=sparse.csr_array(X["table"]))),
        r'data\[0\]\["table"\]: .* got the sparse csr_array',
    ),
    "text in a target": (lambda: fit(t=spoilt(T, kind=np.full(10, "red"))), r'data\[1\]\["kind"\]: expected numbers'),
    "validation with nan in a target": (
        lambda: fit(validation=(X, spoilt(T, price=with_nan(T["price"], 2)))),
        r'validation\[1\]\["price"\]: .* row 2',
    ),
    "validation with text": (
        lambda: fit(validation=(spoilt(X, table=np.full((10, 4), "a")), T)),
        r'validation\[0\]\["table"\]: expected numbers',
    ),
    "a chunk without an input": (
        lambda: fnn.fit(
            NET, LOSS, optax.sgd(0.1), chunks(spoilt(X, table=None)), epochs=1, batch_size=4, progress=False
        ),
        r'data, chunk 1, x\["table"\]: expected',
    ),
    "predict with nan": (
        lambda: fnn.predict(NET, RUN, spoilt(X, table=with_nan(X["table"], 7))),
        r'x\["table"\]: .* row 7',
    ),
    "predict with text": (
        lambda: fnn.predict(NET, RUN, spoilt(X, table=np.full((10, 4), "a"))),
        r'x\["table"\]: expected numbers',
    ),
    "evaluate with nan in a target": (
        lambda: fnn.evaluate(NET, RUN, (X, spoilt(T, price=with_nan(T["price"], 1))), METRICS),
        r'data, t\["price"\]: .* row 1',
    ),
    "evaluate with a label out of range": (
        lambda: fnn.evaluate(NET, RUN, (X, spoilt(T, kind=T["kind"] + 3)), {"loss": LOSS}),
        r'targets\["kind"\]: .*class numbers from 0 to 2',
    ),
    "a sweep with nan": (
        lambda: fnn.sweep(
            NET,
            LOSS,
            lambda s: optax.sgd(s["lr"]),
            (spoilt(X, table=with_nan(X["table"])), T),
            over={"lr": [0.1]},
            epochs=1,
            progress=False,
        ),
        r'data\[0\]\["table"\]: .* row 3',
    ),
    "an ensemble with fewer rows": (
        lambda: fnn.ensemble(
            NET, LOSS, optax.sgd(0.1), (spoilt(X, table=X["table"][1:]), T), members=2, epochs=1, progress=False
        ),
        r'data\[0\]\["table"\]: expected 10 rows',
    ),
    "folds with nan in a target": (
        lambda: fnn.cross_validate(
            NET, LOSS, optax.sgd(0.1), (X, spoilt(T, price=with_nan(T["price"]))), epochs=1, progress=False
        ),
        r'data\[1\]\["price"\]: .* row 3',
    ),
    "laplace": (
        lambda: fnn.laplace(NET, RUN, (X, T), LOSS),
        "laplace: expected one array of inputs and one of targets",
    ),
    "a file of C": (lambda: fnn.export_c("net.c", NET, RUN), "Use fnn.predictor to serve it, or export"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_names_the_array(case, monkeypatch):
    call, wanted = CASES[case]
    if "chunk" not in case:  # a stream's are read when the state has been made
        monkeypatch.setattr(fnn.fitting.host_loop, "precompile", lambda *given: pytest.fail("it compiles"))
    with pytest.raises((ValueError, TypeError), match=wanted):
        call()
