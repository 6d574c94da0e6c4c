"""What `fit` refuses, before anything compiles: the argument, what was expected, what was got, and the hint."""

import warnings

import jax
import numpy as np
import optax
import pytest
from scipy import sparse

import fnn
from tests.helpers.compare import has_hint
from tests.helpers.problems import LABELS, LOSS, X, fit, net

NAN = X.copy()
NAN[37, 2] = np.nan
CODES, TABLE = np.arange(100)[:, None] % 5, fnn.serial(fnn.embedding(5, 3), fnn.flatten(), fnn.dense(2))
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
        r"data\[0\]: expected shape \(rows, features\), got \(100,\). Reshape",
    ),
    "a single number": (dict(x=3.0), ValueError, "expected a table of rows, got the single number"),
    "strings": (dict(t=["a"] * 100), TypeError, r"data\[1\]: expected numbers, got dtype <U1. Convert"),
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
    "label 2.5": (dict(t=LABELS + 0.5), TypeError, "expected integer class numbers, got float32. Convert"),
    "label beyond int32": (
        dict(t=LABELS.astype("int64") + 2**40),
        ValueError,
        r"data\[1\]: expected integers that fit int32",
    ),
    "targets (n,1) for classes": (
        dict(t=LABELS[:, None]),
        fnn.ShapeError,
        r"got \(100, 1\). Reshape the targets: targets\[:, 0\]",
    ),
    "targets (n,) for outputs (n,1)": (
        dict(t=X[:, 0], network=fnn.serial(fnn.dense(1)), loss=fnn.losses.squared_error),
        fnn.ShapeError,
        r"squared_error: expected targets of the shape of the outputs \(100, 1\), got \(100,\). "
        r"Reshape the targets: targets\[:, None\]",
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
        r"weights: expected shape \(100,\), one weight per row, got \(99,\)",
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
        r"loss: expected one number per row, shape \(32,\), got \(\)",
    ),
    "a metric that reduces": (
        dict(metrics={"m": lambda y, t: (y**2).mean()}),
        fnn.ShapeError,
        r"metric m: expected one number per row, shape \(32,\), got \(\)",
    ),
    "a factory": (dict(network=fnn.dense), TypeError, "net: expected a Layer, got the factory dense. Call it"),
    "an optimizer of fnn not called": (
        dict(optimizer=fnn.optimizers.levenberg_marquardt),
        TypeError,
        "optimizer: expected a GradientTransformation, got the factory levenberg_marquardt. Call it",
    ),
    "an optimizer not called": (
        dict(optimizer=optax.sgd),
        TypeError,
        "optimizer: expected a GradientTransformation, got the factory sgd. Call it",
    ),
    "a setting that is missing": (
        dict(optimizer=lambda s: optax.sgd(s["lr"])),
        ValueError,
        "settings: expected a number named 'lr', got .*Pass settings={'lr': …}",
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
    "a metric that is no function": (
        dict(metrics={"m": 0.5}),
        TypeError,
        r"metrics\['m'\]: expected a function of outputs and targets, got float",
    ),
    "a metric not called": (
        dict(metrics={"m": fnn.binary_accuracy}),
        TypeError,
        r"metrics\['m'\]: expected a function, got the factory binary_accuracy. Call it",
    ),
    "a penalty that is a number": (dict(penalty=0.01), TypeError, "penalty: expected a Penalty, got float"),
    "a masked array": (dict(x=np.ma.masked_less(X, 0)), TypeError, r"data\[0\]: expected an array, got a masked one"),
    "a sparse matrix": (
        dict(x=sparse.csr_matrix(X)),
        fnn.ShapeError,
        r"dense\(8\): expected examples of shape .* for sparse rows write fnn.sparse_dense in its place",
    ),
    "complex numbers": (dict(x=X + 0j), TypeError, r"data\[0\]: expected numbers, got dtype complex64"),
    "dates": (
        dict(t=np.full(100, "2020-01-01", "datetime64[D]")),
        TypeError,
        r"data\[1\]: expected numbers, got dtype d",
    ),
    "integer inputs beyond int32": (
        dict(x=np.full((100, 4), 2**40)),
        ValueError,
        r"data\[0\]: expected integers that fit int32, got 1099511627776 to 1099511627776. Scale them",
    ),
    "inputs beyond float32": (
        dict(x=np.full((100, 4), 1e300)),
        ValueError,
        r"data\[0\]: expected numbers that fit float32, got 1e\+300. Scale them",
    ),
    "label nan": (dict(t=np.where(np.arange(100) == 9, np.nan, LABELS)), ValueError, "the first is row 9"),
    "targets (n,) for outputs (n,2)": (
        dict(t=X[:, 0], loss=fnn.losses.squared_error),
        fnn.ShapeError,
        "got .100,.. Use one-hot targets, or a sparse_ loss for class numbers",
    ),
    "one-hot for a sparse loss": (
        dict(t=np.eye(2, dtype="int32")[LABELS]),
        fnn.ShapeError,
        "Use the loss without 'sparse_' for one-hot targets",
    ),
    "class weights of another number": (
        dict(loss=fnn.losses.class_weighted(LOSS, (1.0, 2.0, 3.0))),
        ValueError,
        "expected .* 2 .* got .*3",
    ),
    "a share of 0": (dict(validation=0.0), ValueError, "validation: expected a share between 0 and 1, got 0.0"),
    "a share of 20": (dict(validation=20), ValueError, "validation: expected a share between 0 and 1, got 20"),
    "a share of all": (
        dict(validation=0.999),
        ValueError,
        "validation: expected rows to be left to train on, got 0",
    ),
    "validation by name": (
        dict(validation="test"),
        TypeError,
        r"validation: expected a pair .*got str",
    ),
    "validation weights": (
        dict(validation=(X, LABELS, np.ones(3))),
        ValueError,
        r"validation\[2\]: expected shape \(100,\), one weight per row, got \(3,\)",
    ),
    "monitor without validation": (
        dict(monitor="m"),
        ValueError,
        "monitor: expected validation data to judge by",
    ),
    "mode without validation": (dict(mode="max"), ValueError, "mode: expected validation data to judge by, got none"),
    "an unknown monitor": (
        dict(validation=0.2, monitor="f1", metrics={"m": fnn.accuracy}),
        ValueError,
        r"monitor: expected 'loss' or a metric's name \('m'\), got 'f1'",
    ),
    "a metric without a direction": (
        dict(validation=0.2, monitor="m", metrics={"m": fnn.accuracy}),
        ValueError,
        "mode: expected 'min' or 'max' for the metric 'm', got None. Say mode='max' if more is better",
    ),
    "mode": (dict(validation=0.2, mode="up"), ValueError, "mode: expected one of 'min', 'max', got 'up'"),
    "patience 0": (
        dict(validation=0.2, patience=0),
        ValueError,
        "patience: expected a whole number, at least 1",
    ),
    "min_delta": (dict(min_delta=-0.1), ValueError, "min_delta: expected a number of at least 0, got -0.1"),
    "min_delta by name": (dict(min_delta="0"), ValueError, "min_delta: expected a number of at least 0, got '0'"),
    "on_nan": (dict(on_nan="ignore"), ValueError, "on_nan: expected one of 'warn', 'raise', got 'ignore'"),
    "checkpoint_seconds": (
        dict(checkpoint_seconds=float("nan")),
        ValueError,
        "checkpoint_seconds: expected a number of at least 0, got nan",
    ),
    "a key that is a number": (dict(key=1.5), TypeError, r"key: expected a seed or one key<fry>, got float"),
    "two keys": (dict(key=jax.random.split(jax.random.key(0))), TypeError, "key: expected a seed or one key"),
    "another kind of key": (dict(key=jax.random.key(0, impl="rbg")), TypeError, "key: expected a seed or one key"),
    "parameters without a layer": (
        dict(params=({"w": np.zeros((4, 8), "float32"), "b": np.zeros(8, "float32")},)),
        fnn.ShapeError,
        r"params/2/w: expected float32\(8, 2\), got none",
    ),
    "layer state of another network": (
        dict(state=({"mean": np.zeros(3, "float32")}, (), ())),
        fnn.ShapeError,
        r"state/0/mean: expected none, got float32\(3,\)",
    ),
    "a checkpoint in a list": (dict(checkpoint=["a"]), TypeError, "checkpoint: expected a folder, got list"),
    "a category beyond the table": (
        dict(x=CODES + 1, network=TABLE),
        ValueError,
        r"data\[0\]: expected whole numbers from 0 to 4, the categories of embedding\(5, 3\), got 5 in row 4. Use emb",
    ),
    "a negative category": (
        dict(x=CODES - 1, network=TABLE),
        ValueError,
        "the categories of .* got -1 in row 0. Number the categories from 0",
    ),
    "half a category": (dict(x=CODES / 2, network=TABLE), ValueError, "the categories of .* got 0.5 in row 1. Number"),
    "a category of validation": (
        dict(x=CODES, validation=(CODES + 1, LABELS), network=TABLE),
        ValueError,
        r"validation\[0\]: expected whole numbers from 0 to 4",
    ),
    "more categories than bfloat16 tells apart": (
        dict(x=CODES, network=fnn.mixed_precision(fnn.serial(fnn.embedding(300, 3), fnn.flatten(), fnn.dense(2)))),
        TypeError,
        r"embedding\(300, 3\): expected numbers that tell 300 categories apart, got bfloat16. Put the embedding before",
    ),
    "images for conv1d": (
        dict(x=X.reshape(100, 2, 2, 1), network=fnn.serial(fnn.conv1d(2, 3), fnn.flatten(), fnn.dense(2))),
        fnn.ShapeError,
        r"layer 0, conv1d\(2, 3\): expected sequences of shape \(steps, channels\), got \(2, 2, 1\). Use conv2d",
    ),
    "sequences too short": (
        dict(x=X[..., None], network=fnn.serial(fnn.conv1d(2, 5, padding="VALID"), fnn.flatten(), fnn.dense(2))),
        fnn.ShapeError,
        r"layer 0, conv1d\(2, 5\): expected at least 5 steps, got 4 from \(4, 1\). Use a smaller window",
    ),
    "vectors for conv_transpose2d": (
        dict(network=fnn.serial(fnn.conv_transpose2d(2, 3), fnn.flatten(), fnn.dense(2))),
        fnn.ShapeError,
        r"layer 0, conv_transpose2d\(2, 3\): expected images of shape .* got \(4,\)",
    ),
    "padding that cuts off everything": (
        dict(
            x=X.reshape(100, 2, 2, 1),
            network=fnn.serial(fnn.conv_transpose2d(2, 2, padding=((1, 2), (0, 0))), fnn.flatten(), fnn.dense(2)),
        ),
        fnn.ShapeError,
        r"expected padding that leaves an image, got \(\(1, 2\), \(0, 0\)\) for images of 2 × 2. Pad less",
    ),
    "channels that are no groups": (
        dict(network=fnn.serial(fnn.group_norm(3), fnn.dense(2))),
        fnn.ShapeError,
        r"layer 0, group_norm\(3\): expected channels that can be cut into 3 groups, got 4 from \(4,\)",
    ),
    "vectors for upsample": (
        dict(network=fnn.serial(fnn.upsample(), fnn.flatten(), fnn.dense(2))),
        fnn.ShapeError,
        r"layer 0, upsample\(2\): expected images of shape .* got \(4,\)",
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
        r"params: expected those of serial\(dense\(8\), tanh, dense\(2\)\), got 1 that differ:\n"
        r"  params/0/w: expected float32\(4, 8\), got float32\(3, 8\)\nPass",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("folder", [None, "checkpoint"])
def test_bad_input_raises_before_anything_compiles(name, folder, tmp_path, compiled):
    arguments, error, message = BAD[name]
    kept = {} if folder is None else {"checkpoint": tmp_path / folder}
    with warnings.catch_warnings(), pytest.raises(error, match=message) as raised:
        warnings.simplefilter("ignore")
        fit(**kept | arguments)
    assert has_hint(str(raised.value))
    assert not any("run" in n or "init" in n for n in compiled)
    assert not list(tmp_path.iterdir())  # no folder for a run that cannot be


def test_a_message_without_a_hint_is_seen():
    assert has_hint("x: expected 1, got 2. Pass 1.") and has_hint("x: expected these, got 2 that differ:\n  a\nPass 1.")
    assert not has_hint("x: expected 1, got 2.") and not has_hint("Expected 1. Pass 1.")


def test_data_must_be_a_pair():
    with pytest.raises(TypeError, match=r"data: expected a pair \(inputs, targets\), got ndarray"):
        fnn.fit(net(), LOSS, optax.sgd(0.1), X, epochs=1)
