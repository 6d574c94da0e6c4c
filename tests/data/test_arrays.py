"""The border to JAX: what a user hands over, in whatever form, becomes the right numbers in memory of our own, or an
error or a warning that names it."""

import itertools
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import fnn
from fnn.data import arrays, checks
from fnn.kernels import memory
from fnn.studies import folds
from tests.helpers.problems import LABELS, LOSS, X, fit, net, same_bits

FULL = dict(batch_size=None, epochs=1)
MIXED = np.stack([X[:, 0], X[:, 1] > 0, X[:, 2], np.arange(100) % 7], 1).astype("float32")
FRAME = pd.DataFrame({"a": MIXED[:, 0], "b": MIXED[:, 1] > 0, "c": MIXED[:, 2], "d": np.arange(100) % 7})


@pytest.fixture(scope="module")
def run():
    """Trained on a frame."""
    return fit(x=FRAME, **FULL)


RUN = fnn.Run(*net().init(jax.random.key(0), (4,))[:2], None, None)


# ---- frames and tensors of other libraries; those that are no test dependency, by classes with their methods


class Column:
    """As of polars and pyarrow."""

    def __init__(self, values):
        self.values, self.dtype = np.asarray(values), "f32"

    def to_numpy(self):
        return self.values


class Polars:
    shape = 50, 4

    def __len__(self):
        return 50

    def __getitem__(self, rows):
        return Polars(**{name: values[rows] for name, values in self.held.items()})

    def __init__(self, **columns):
        self.held, self.columns = columns, list(columns)

    def get_columns(self):
        return [Column(values) for values in self.held.values()]

    def to_numpy(self):
        raise AssertionError("column by column")


class Arrow:
    def __init__(self, **columns):
        self.columns, self.column_names = [Column(v) for v in columns.values()], list(columns)

    def __array__(self, *of, **more):
        raise AssertionError("column by column")


class Tensor:
    """As of torch: wants a gradient, and NumPy has no such dtype."""

    def __init__(self, values, dtype="torch.float32", grad=True):
        self.values, self.dtype, self.grad = np.asarray(values), dtype, grad

    def detach(self):
        return Tensor(self.values, self.dtype, False)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.values, "torch.float32", self.grad)

    def __array__(self, dtype=None, copy=None):
        if self.grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values


CONTAINERS = {
    "booleans and floats": lambda: FRAME,
    "nullable": lambda: FRAME.astype({"a": "Float32", "b": "boolean", "c": "Float64", "d": "Int64"}),
    "float32 and int64, float64 among them": lambda: FRAME.astype({"c": "float64"}),
    "small integers": lambda: FRAME.astype({"d": "int8"}),
    "objects of pandas' own": lambda: FRAME.convert_dtypes(),
    "polars": lambda: Polars(**FRAME),
    "pyarrow": lambda: Arrow(**FRAME),
    "tensor": lambda: Tensor(MIXED),
    "tensors in a list": lambda: [Tensor(row) for row in MIXED],
    "columns first": lambda: np.asfortranarray(MIXED),
    "big-endian": lambda: MIXED.astype(">f4"),
    "every other row": lambda: np.repeat(MIXED, 2, 0)[::2],
    "long double": lambda: MIXED.astype(np.longdouble),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_hold_the_same_numbers(name, run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float64 among them is named
        x = arrays.owned_array(fnn.data.checks.inputs("x", CONTAINERS[name](), "float32", fnn.data.checks.LostDigits()))
    assert x.dtype == "float32"
    np.testing.assert_array_equal(x, MIXED)


def test_a_run_on_a_frame_has_the_bits_of_one_on_its_numbers(run):
    assert same_bits(run.history, fit(x=MIXED, **FULL).history)
    bfloat16 = Tensor(np.asarray(jnp.asarray(MIXED).astype("bfloat16").astype("float32")), "torch.bfloat16")
    np.testing.assert_array_equal(arrays.read("x", bfloat16), bfloat16.values)
    weights = pd.Series(np.arange(100) % 3, dtype="Int64")
    target = pd.Series(LABELS, dtype="Int64")
    both = [fit(t=t, weights=w, **FULL).history for t, w in ((target, weights), (LABELS, weights.to_numpy(float)))]
    assert same_bits(*both)


def without(row, frame):
    return frame.where(pd.Series(np.arange(100) != row), axis=0)


BAD_FRAMES = {
    "missing": (without(3, FRAME[["a"]].astype("Float32")), "got nan or inf in 1 of 100 rows, .* row 3"),
    "missing boolean": (without(7, FRAME[["b"]].astype("boolean")), "in 1 of 100 rows, .* row 7"),
    "names": (FRAME.assign(e="x"), "expected numbers, got .* in column 'e'. Use fnn.Table"),
    "objects": (FRAME.assign(e=np.full(100, 1.5, object)), "got object in column 'e'. Use fnn.Table"),
    "dates": (FRAME.assign(e=pd.Timestamp("2020-01-01")), "got datetime64.* in column 'e'"),
    "no columns": (FRAME[[]], "expected at least one row and one number"),
    "fields": (np.zeros(100, [("a", "f4"), ("b", "f4")]), "expected numbers, got dtype"),
    "keys": (jax.random.split(jax.random.key(0), (100, 4)), "expected numbers, got dtype key"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_what_is_no_number_is_refused_with_its_place(name):
    value, message = BAD_FRAMES[name]
    with pytest.raises((ValueError, TypeError), match=r"data\[0\].*" + message):
        fit(x=value, **FULL)


def test_compiled_functions_are_told_from_arrays(run):
    with pytest.raises(TypeError, match=r"x: expected numbers, got a traced array\. .*net\.forward"):
        jax.jit(lambda x: fnn.predict(net(), run, x))(MIXED)
    with pytest.raises(ValueError, match=r"got \(4,\)\. Write x\[None, :\] for one row"):
        fnn.predict(net(), run, MIXED[0])


# ---- columns in another order, or of other names


OTHER = {
    "order": FRAME[["c", "b", "a", "d"]],
    "names": FRAME.rename(columns={"a": "z"}),
    "fewer": FRAME[["a", "b", "c"]],
    "more": FRAME.assign(e=1.0),
    "of another library": Polars(d=MIXED[:, 0], b=MIXED[:, 1], c=MIXED[:, 2], a=MIXED[:, 3]),
}


@pytest.mark.parametrize("name", OTHER)
def test_a_frame_with_other_columns_is_refused(name, run):
    other, refused = OTHER[name], pytest.raises(fnn.ShapeError, match="columns of the training in their order")
    with refused:
        fnn.predict(net(), run, other)
    with refused:
        fnn.predict(net(), run, lambda: iter([other]))
    with refused:
        fnn.evaluate(net(), run, (other, LABELS), {"loss": LOSS})
    with refused:
        fit(x=FRAME, validation=(other, LABELS), **FULL)
    with refused:
        frames = lambda: iter([(FRAME[:50], LABELS[:50]), (other[50:], LABELS[50:])])  # noqa: E731
        fnn.fit(net(), LOSS, optax.sgd(0.1), frames, epochs=1, batch_size=50, progress=False)


def test_a_frame_with_the_same_columns_and_arrays_are_taken(run):
    assert run.columns == fnn.types.Columns(("a", "b", "c", "d"))
    frames = lambda: iter([(FRAME[:50], LABELS[:50]), (FRAME[50:], LABELS[50:])])  # noqa: E731
    streamed = fnn.fit(net(), LOSS, optax.sgd(0.1), frames, epochs=1, batch_size=50, progress=False)
    assert streamed.columns == run.columns
    y = fnn.predict(net(), run, MIXED)
    for x in (FRAME, FRAME[::-1][::-1], pd.DataFrame(MIXED), Arrow(**FRAME)):
        np.testing.assert_array_equal(fnn.predict(net(), run, x), y)
    unnamed = fit(x=pd.DataFrame(MIXED), **FULL)
    fnn.predict(net(), unnamed, FRAME)  # numbers are no names
    with pytest.raises(fnn.ShapeError, match="column 0 is '3' instead of '0'"):
        fnn.predict(net(), unnamed, pd.DataFrame(MIXED)[[3, 1, 2, 0]])
    assert all(hasattr(leaf, "dtype") or isinstance(leaf, int) for leaf in jax.tree.leaves(run))  # no text in a tree


def test_columns_of_targets_too():
    t = pd.DataFrame(X[:, :2], columns=["u", "v"])
    loss, other = fnn.losses.squared_error, t[["v", "u"]]
    found = fit(t=t, loss=loss, **FULL)
    for call in (
        lambda: fnn.evaluate(net(), found, (X, other), {"loss": loss}),
        lambda: fit(t=t, loss=loss, validation=(X, other), **FULL),
    ):
        with pytest.raises(fnn.ShapeError, match="column 0 is 'v' instead of 'u'"):
            call()


@pytest.mark.slow
def test_columns_are_kept_by_studies_and_files(run, tmp_path):
    wrong, common = OTHER["order"], dict(epochs=1, progress=False)
    data, sgd = (FRAME, LABELS), optax.sgd(0.1)
    ensemble = fnn.ensemble(net(), LOSS, sgd, data, members=2, **common)
    sweep = fnn.sweep(net(), LOSS, lambda s: optax.sgd(s["lr"]), data, over={"lr": [0.1, 0.2]}, **common)
    validated = fnn.cross_validate(net(), LOSS, sgd, data, folds=2, **common)
    fnn.save(tmp_path / "run", net(), run)
    for kept in (sweep.run, validated.run, ensemble.member(0), fnn.load(tmp_path / "run")[1]):
        assert kept.columns == run.columns
    with pytest.raises(fnn.ShapeError, match="columns of the training"):
        ensemble.predict(wrong)


def test_a_standardiser_knows_its_columns():
    scale = fnn.standardiser(FRAME)
    np.testing.assert_array_equal(scale(FRAME), scale(MIXED))
    with pytest.raises(fnn.ShapeError, match="columns of the training"):
        scale(OTHER["order"])
    with pytest.raises(fnn.ShapeError, match="columns of the training"):
        fnn.standardise(FRAME, OTHER["names"])


# ---- one caster


def everywhere(x, t=LABELS, dtype=None):
    """Calls that take these rows, by name."""
    params, state, _ = net().init(jax.random.key(0), (4,))
    params = params if dtype is None else jax.tree.map(lambda a: a.astype(dtype), params)
    ready = fnn.Run(params, state, None, None)
    chunks = lambda: iter([(x, t)])  # noqa: E731
    return {
        "fit": lambda: fit(x=x, t=t, params=params, **FULL),
        "validation": lambda: fit(params=params, validation=(x, t), **FULL),
        "a stream": lambda: fnn.fit(net(), LOSS, optax.sgd(0.1), chunks, epochs=1, batch_size=50, progress=False),
        "predict": lambda: fnn.predict(net(), ready, x),
        "predict a stream": lambda: fnn.predict(net(), ready, lambda: iter([x])),
        "evaluate": lambda: fnn.evaluate(net(), ready, (x, t), {"loss": LOSS}),
        "evaluate a stream": lambda: fnn.evaluate(net(), ready, chunks, {"loss": LOSS}),
    }


PLACES = list(everywhere(X))


@pytest.mark.parametrize("place", PLACES)
def test_numbers_beyond_the_dtype_are_refused_everywhere(place):
    for dtype, large in ((None, 1e300), ("float16", 1e5)):
        if dtype and place == "a stream":
            continue  # its parameters are its own
        x = X.astype("float64" if dtype is None else "float32")
        x[3, 1] = large
        with pytest.raises(ValueError, match=r"expected numbers that fit float(32, got 1e\+300|16, got 100000)"):
            everywhere(x, dtype=dtype)[place]()
    with pytest.raises(ValueError, match=r"expected integers that fit int32, got 0 to 1099511627776"):
        everywhere(np.eye(100, 4, dtype="int64") * 2**40)[place]()


@pytest.mark.parametrize("place", PLACES)
def test_integers_that_lose_digits_are_named_everywhere(place):
    seconds = (1_700_000_000 + np.arange(400)).reshape(100, 4)
    for x in (seconds, seconds.tolist()):
        with pytest.warns(UserWarning, match=r"integers beyond 2\^24 lose digits in float32\. Standardise them"):
            everywhere(x)[place]()


def test_digits_that_a_later_chunk_loses_are_named_once():
    seconds = (1_700_000_000 + np.arange(400)).reshape(100, 4)
    parts = [np.zeros((100, 4), int), seconds, seconds]
    pairs = lambda: iter([(x, LABELS) for x in parts])  # noqa: E731
    for take in (
        lambda: fnn.fit(net(), LOSS, optax.sgd(1e-20), pairs, epochs=2, batch_size=50, progress=False),
        lambda: fnn.predict(net(), RUN, lambda: iter(parts)),
        lambda: fnn.evaluate(net(), RUN, pairs, {"loss": LOSS}),
    ):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            take()
        named = [str(w.message) for w in said if "lose digits" in str(w.message)]
        assert len(named) == 1 and "chunk 1" in named[0]


def test_integers_that_are_floats_as_they_are_are_not_named():
    for x in (np.full((100, 4), 2**30), np.arange(400).reshape(100, 4) - 2**24 + 400, np.uint8(X > 0)):
        everywhere(x)["predict"]()
    with jax.enable_x64(True):
        everywhere((1_700_000_000 + np.arange(400)).reshape(100, 4))["predict"]()
        with pytest.warns(UserWarning, match=r"beyond 2\^53"):
            everywhere(2**60 + np.arange(400).reshape(100, 4))["predict"]()


def test_targets_that_lose_digits_are_named():
    t = (1_700_000_000 + np.arange(200)).reshape(100, 2)
    with pytest.warns(UserWarning, match=r"data\[1\]: integers beyond"):
        fit(t=t, loss=fnn.losses.squared_error, **FULL, on_nan="warn")


def test_parameters_of_a_float64_run_are_cut_with_a_warning(run):
    with jax.enable_x64(True):
        wide = fit(x=MIXED.astype("float64"), **FULL)
        y = fnn.predict(net(), wide, MIXED)
    assert y.dtype == "float64"
    for given in (wide, wide._replace(params=jax.tree.map(np.asarray, wide.params))):
        checks.said_in_process.clear()
        with pytest.warns(UserWarning, match="run: float64 data are cut to float32"):
            z = fnn.predict(net(), given, MIXED)
        assert z.dtype == "float32" and np.allclose(z, y, atol=1e-5)
        checks.said_in_process.clear()
        with pytest.warns(UserWarning, match="run: float64 data are cut"):
            fnn.evaluate(net(), given, (MIXED, LABELS), {"loss": LOSS})
        checks.said_in_process.clear()
        with pytest.warns(UserWarning, match="params: float64 data are cut to float32"):
            again = fit(x=MIXED, params=given.params, state=given.state, **FULL)
        assert {a.dtype.name for a in jax.tree.leaves(again.params)} == {"float32"}


# ---- memory


def aligned(rows, columns):
    """Memory that a CPU would take as it is, without a copy."""
    return memory.aligned_copy(np.zeros((rows, columns), "float32"))


DEEP = fnn.serial(*[fnn.dense(512), fnn.relu] * 4, fnn.dense(1))


def test_predict_is_done_with_the_callers_memory_when_it_goes_on():
    params, state, _ = DEEP.init(jax.random.key(0), (64,))
    run = fnn.Run(params, state, None, None)
    rows = np.random.default_rng(0).normal(size=(8, 512, 64)).astype("float32")
    buffer = aligned(512, 64)

    def chunks():
        for part in rows:
            buffer[...] = part
            yield buffer

    right = fnn.predict(DEEP, run, rows.reshape(-1, 64), 512)
    np.testing.assert_array_equal(fnn.predict(DEEP, run, chunks, 512), right)
    for _ in range(3):
        buffer[...] = rows[0]
        got = fnn.predict(DEEP, run, buffer, 512, device=True)
        buffer[...] = 0
        np.testing.assert_array_equal(got, right[:512])
    mine = jax.tree.map(lambda a: memory.aligned_copy(np.asarray(a)), params)
    got = fnn.predict(DEEP, run._replace(params=mine), rows[0], 512, device=True)
    for leaf in jax.tree.leaves(mine):
        leaf[...] = 0
    np.testing.assert_array_equal(got, right[:512])


def test_fit_and_trainer_keep_none_of_the_callers_memory():
    x, t, w = memory.aligned_copy(X), memory.aligned_copy(LABELS), memory.aligned_copy(np.ones(100, "float32"))
    mine = [x, t, w, *map(memory.aligned_copy, jax.tree.leaves(fit(**FULL).params))]
    tree = jax.tree.unflatten(jax.tree.structure(fit(**FULL).params), mine[3:])
    training = fnn.trainer(net(), LOSS, optax.sgd(0.0))
    start = training.init(0, fnn.Data(fnn.Part(x, t, w)), params=tree)
    run = fit(x=x, t=t, weights=w, params=tree, optimizer=optax.sgd(0.0), **FULL)
    before = [np.array(a) for a in jax.tree.leaves((run.params, start.params))]
    for array in mine:
        array[...] = 0
    assert same_bits(before, jax.tree.leaves((run.params, start.params)))


def test_rows_on_several_devices_are_taken():
    code = """
        import jax, numpy as np, optax, fnn
        from jax.sharding import NamedSharding, PartitionSpec
        assert len(jax.devices()) == 2
        mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
        rng = np.random.default_rng(0)
        x, t = rng.normal(size=(40, 3)).astype("float32"), np.arange(40) % 2
        put = lambda a: jax.device_put(a, NamedSharding(mesh, PartitionSpec("rows")))
        everywhere = lambda a: jax.device_put(a, NamedSharding(mesh, PartitionSpec()))
        net, loss = fnn.serial(fnn.dense(2)), fnn.losses.sparse_softmax_cross_entropy
        fit = lambda x, t, **more: fnn.fit(net, loss, optax.sgd(0.1), (x, t), epochs=1, progress=False, **more)
        one, two = fit(x, t), fit(put(x), put(t.astype("int32")), weights=put(np.ones(40, "float32")))
        assert one.history.loss == two.history.loss
        again = fit(x, t, params=jax.tree.map(everywhere, one.params), validation=(put(x), put(t.astype("int32"))))
        shared = one._replace(params=jax.tree.map(everywhere, one.params))
        for run, rows in ((one, put(x)), (shared, x), (shared, put(x))):
            np.testing.assert_array_equal(fnn.predict(net, run, rows), fnn.predict(net, one, x))
            assert fnn.evaluate(net, run, (rows, t), {"l": loss}) == fnn.evaluate(net, one, (x, t), {"l": loss})
    """
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


# ---- weights


ALIKE = [1e37, 3e38, 1e300, 1e-40, 1e-300, 5e-324]


@pytest.mark.parametrize("weight", ALIKE)
def test_weights_that_are_all_alike_change_nothing_in_a_mean(weight):
    kept = np.asarray(fnn.data.checks.weights("w", np.full(100, weight), 100, "float32"))
    assert np.ptp(kept) == 0 and 0.5 <= kept[0] <= 2
    ratios = np.asarray(fnn.data.checks.weights("w", np.array([1.0, 3.0]) * min(weight, 1e307), 2, "float32"))
    assert ratios[1] / ratios[0] == pytest.approx(3, rel=1e-6 if weight > 1e-300 else 1)


def test_extreme_weights_in_a_run():
    plain = fit(validation=(X, LABELS), **FULL).history
    many = np.full(100, 1e37)
    both = fit(weights=many, validation=(X, LABELS, many / 1e77), **FULL).history
    np.testing.assert_allclose(both.loss, plain.loss, rtol=1e-6)
    np.testing.assert_allclose(both.validation_loss, plain.validation_loss, rtol=1e-6)
    plainly = fnn.evaluate(net(), RUN, (X, LABELS), {"loss": LOSS})["loss"]
    for weight in (1e308, 1e37, 1e-40, 1e-320):
        weighted = (X, LABELS, np.full(100, weight))
        for data in (weighted, lambda weighted=weighted: iter([weighted])):
            assert fnn.evaluate(net(), RUN, data, {"loss": LOSS})["loss"] == pytest.approx(plainly, rel=1e-6)
    with pytest.raises(ValueError, match="data: expected weights whose sum is finite"):
        fnn.evaluate(
            net(), RUN, lambda: iter([(X, LABELS, np.full(100, w)) for w in (1.0, 1.7e308)]), {"loss": LOSS}, 100
        )
    with pytest.raises(ValueError, match=r"weights: expected weights whose sum over 100 rows fits float32, got 1e\+37"):
        fit(weights=many, reduction="sum", **FULL)
    with pytest.raises(ValueError, match=r"weights: expected weights whose sum"):
        fit(weights=np.full(100, 1e-40), reduction="sum", **FULL)
    with pytest.raises(ValueError, match=r"chunk 0, weights: expected weights whose sum"):
        chunks = lambda: iter([(X, LABELS, many)])  # noqa: E731
        fnn.fit(net(), LOSS, optax.sgd(0.1), chunks, epochs=1, batch_size=50, progress=False)


def test_ordinary_weights_keep_their_bits_and_far_smaller_ones_count_as_0():
    weights = np.random.default_rng(0).uniform(1e-10, 1e10, 100)
    np.testing.assert_array_equal(fnn.data.checks.weights("w", weights, 100, "float32"), weights.astype("float32"))
    for scalable in (True, False):
        kept = fnn.data.checks.weights("w", np.array([1.0, 1e-60, 0.0]), 3, "float32", scalable)
        np.testing.assert_array_equal(kept, [1, 0, 0])


@pytest.mark.parametrize("seed", range(3))
def test_a_share_is_of_rows_that_weigh_something(seed):
    weights = np.zeros(100)
    real = np.random.default_rng(seed).permutation(100)[:12]
    weights[real] = 1
    arguments = dict(validation=0.25, weights=weights, key=seed, **FULL)
    run = fit(**arguments)
    assert len(run.validation_rows) == 3 and set(run.validation_rows) <= set(real)
    assert run.history.validation_loss[0] > 0
    sweep = fnn.sweep(
        net(), LOSS, lambda s: optax.sgd(s["lr"]), (X, LABELS), over={"lr": [0.1]}, epochs=1, progress=False,
        validation=0.25, weights=weights, key=seed,
    )  # fmt: skip
    assert set(sweep.run.validation_rows) == set(run.validation_rows)
    with pytest.raises(ValueError, match="validation: expected rows to be left to train on"):
        fit(**arguments | dict(weights=np.eye(100)[0]))


# ---- splits: one reading of classes for `folds` and `hold_out`


CLASSES = np.repeat([0, 1, 2], [20, 12, 8])
STRATA = {
    "numbers": CLASSES,
    "a list": CLASSES.tolist(),
    "floats that are whole": CLASSES.astype(float),
    "bytes": CLASSES.astype("uint8"),
    "names": np.array(["x", "y", "z"])[CLASSES],
    "names in objects": np.array(["x", "y", "z"], object)[CLASSES],
    "a series": pd.Series(CLASSES, dtype="Int64"),
    "one-hot": np.eye(3)[CLASSES],
    "a column of 0 and 1": (CLASSES > 0)[:, None].astype(int),
    "a column of booleans": (CLASSES > 0)[:, None],
    "a column": CLASSES[:, None],
    "a column of names": np.array(["x", "y", "z"])[CLASSES][:, None],
    "probabilities": np.eye(3)[CLASSES] * 0.8 + 0.1,
    "numbers between": CLASSES + 0.5,
    "too few": CLASSES[:-1],
    "none among names": [None, *np.array(["x", "y", "z"])[CLASSES[1:]]],
    "nan": np.where(np.arange(40) == 3, np.nan, CLASSES),
}


@pytest.mark.parametrize("name", STRATA)
def test_hold_out_reads_classes_as_folds_does(name):
    def refused(call):
        try:
            return call(), None
        except (ValueError, TypeError) as error:
            return None, f"{type(error).__name__}: {error}"

    rows, given = np.arange(40), STRATA[name]
    _, by_folds = refused(lambda: fnn.folds(40, 4, key=0, stratify=given))
    held, by_hold_out = refused(lambda: fnn.hold_out(rows, rows, 0.25, key=0, stratify=given)[1][1])
    assert by_hold_out == by_folds
    if held is not None:
        kinds, counts = (CLASSES > 0, [5, 5]) if "column" in name else (CLASSES, [5, 3, 2])
        assert np.bincount(kinds[held]).tolist() == counts


# ---- seeds and keys


def test_seeds_count_with_all_their_bits(run):
    seeds = [0, 2**32, 2**40, 2**63, 2**64 - 1]
    words = fnn.arguments.seed_words(seeds)
    assert len({tuple(word) for word in words.tolist()}) == len(seeds)
    assert not same_bits(fit(key=0, **FULL).params, fit(key=2**32, **FULL).params)
    made = [folds.make_folds(2, 1, None, None, seed, LABELS) for seed in (*seeds[1:], 5, jax.random.key(5))]
    assert not any(same_bits(a, b) for a, b in itertools.pairwise(made[:-1])) and same_bits(*made[-2:])
    assert same_bits(fit(key=np.uint64(2**63), **FULL).params, fit(key=2**63, **FULL).params)


@pytest.mark.parametrize("seed", [-1, 2**64, 10**30])
def test_seeds_that_are_none_are_refused_everywhere(seed):
    common = dict(epochs=1, progress=False)
    for call in (
        lambda: fit(key=seed, **FULL),
        lambda: fnn.sweep(net(), LOSS, optax.sgd(0.1), (X, LABELS), over={"seed": [0, seed]}, **common),
        lambda: fnn.ensemble(net(), LOSS, optax.sgd(0.1), (X, LABELS), key=seed, **common),
        lambda: fnn.cross_validate(net(), LOSS, optax.sgd(0.1), (X, LABELS), key=seed, **common),
    ):
        with pytest.raises(ValueError, match=r"(key|seed): expected .*, got " + str(seed)):
            call()
    with pytest.raises(ValueError, match=r"key: expected a seed below 2\^64"):
        fnn.ensemble(net(), LOSS, optax.sgd(0.1), (X, LABELS), key=2**64 - 1, members=2, **common)


# ---- True and False


WORDS = ["no", "False", 0, 1, None, np.array([True]), np.int64(1)]


@pytest.mark.parametrize("word", WORDS, ids=repr)
def test_what_is_neither_true_nor_false_is_refused(word, run):
    data, sgd = (X, LABELS), optax.sgd(0.1)
    for name, call in {
        "shuffle": lambda: fit(shuffle=word),
        "progress": lambda: fit(progress=word),
        "shuffle ": lambda: fnn.trainer(net(), LOSS, sgd, shuffle=word),
        "progress ": lambda: fnn.ensemble(net(), LOSS, sgd, data, epochs=1, progress=word),
        "standardise": lambda: fnn.cross_validate(net(), LOSS, sgd, data, epochs=1, standardise=word),
        "refit": lambda: fnn.cross_validate(net(), LOSS, sgd, data, epochs=1, refit=word),
        "device": lambda: fnn.predict(net(), run, X, device=word),
    }.items():
        with pytest.raises(TypeError, match=f"{name.strip()}: expected True or False, got .*Pass {name.strip()}=True"):
            call()


def test_booleans_of_numpy_are_taken():
    a, b = (fit(shuffle=value, epochs=2).params for value in (False, np.False_))
    assert same_bits(a, b)


@pytest.mark.parametrize("value", [np.int64(2), np.array(2), jnp.int32(2)], ids=lambda v: type(v).__name__)
def test_whole_numbers_of_other_libraries_are_taken(value):
    assert fnn.arguments.whole_number("n", value, 1) == 2
    assert fnn.arguments.number("n", value, 0) == 2.0


@pytest.mark.parametrize("value", [True, np.True_, jnp.asarray(True), 2.0, "2", None, np.array([2])], ids=repr)
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="n: expected a whole number"):
        fnn.arguments.whole_number("n", value, 1)


# ---- settings of JAX and NumPy


def in_float64(x):
    """With a number that is 0 in float32."""
    return np.where(np.arange(100)[:, None] == 5, 1e-50, x.astype("float64"))


SETTINGS = {
    "rbg keys": lambda: jax.default_prng_impl("rbg"),
    "unsafe_rbg keys": lambda: jax.default_prng_impl("unsafe_rbg"),
    "no transfers": lambda: jax.transfer_guard("disallow"),
    "NumPy raises": lambda: np.errstate(all="raise"),
}


MARKS = dict.fromkeys(["unsafe_rbg keys", "rbg keys", "no transfers"], pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in SETTINGS])
def test_settings_of_jax_and_numpy(name):
    x, common = in_float64(X), dict(epochs=2, batch_size=32, progress=False)
    noisy = fnn.serial(fnn.dense(8), fnn.dropout(0.1), fnn.tanh, fnn.dense(2))
    chunks = lambda: iter([(x, LABELS)])  # noqa: E731
    with warnings.catch_warnings(), SETTINGS[name]():
        warnings.simplefilter("ignore")
        run = fit(x=x, network=noisy, epochs=20, validation=0.2, weights=np.arange(100.0))
        assert run.history.loss[-1] < run.history.loss[0]
        assert np.isfinite(fnn.fit(noisy, LOSS, optax.sgd(0.1), chunks, **common).history.loss).all()
        for size in (32, 1024):
            y = fnn.predict(noisy, run, x, size)
            np.testing.assert_array_equal(fnn.predict(noisy, run, x, size, device=True), y)
        assert fnn.evaluate(noisy, run, (x, LABELS), {"loss": LOSS})["loss"] > 0
        sweep = fnn.sweep(noisy, LOSS, lambda s: optax.sgd(s["lr"]), (x, LABELS), over={"lr": [0.1, 0.2]}, **common)
        validated = fnn.cross_validate(noisy, LOSS, optax.sgd(0.1), (x, LABELS), folds=2, standardise=True, **common)
        members = fnn.ensemble(noisy, LOSS, optax.sgd(0.1), (x, LABELS), members=2, **common)
    assert np.isfinite(sweep.table["loss"]).all() and np.isfinite(validated.table["loss"]).all()
    assert np.isfinite(members.table["loss"]).all()


def test_studies_run_where_jit_is_off():
    def losses():
        over = {"lr": [0.01, 0.02]}
        found = fnn.sweep(
            fnn.serial(fnn.dense(2)), LOSS, lambda s: optax.sgd(s["lr"]), (X, LABELS), over=over, epochs=2,
            progress=False, devices=jax.devices()[:1],
        )  # fmt: skip
        return found.table["loss"]

    with jax.disable_jit():
        looked_into = losses()
    np.testing.assert_allclose(looked_into, losses(), rtol=1e-5)
