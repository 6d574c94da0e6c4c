"""What a fit of an estimator is made of: network, loss, optimizer, checked rows, numbers; one epoch of it."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, validate_data

from fnn import activations, arguments
from fnn.activations import Activation
from fnn.data.loading import load_arrays
from fnn.data.warnings import warn
from fnn.fitting.segments import Pace, concatenate, segments, without_debug_nans
from fnn.fitting.setup import trace_run
from fnn.kernels.effort import choose_effort
from fnn.layers.combinators import serial
from fnn.layers.linear import dense
from fnn.layers.sparse import sparse_dense
from fnn.losses.regression import half_squared_error
from fnn.losses.transforms import as_loss
from fnn.penalties.norms import l2
from fnn.runs import History, Run, TrainingDiverged, TrainState
from fnn.sklearn.sparse import SparseScale, fit_sparse_scale, pad_rows
from fnn.sklearn.targets import ClassTargets, NumberTargets, Scale, Targets, class_targets, fit_scale, number_targets
from fnn.training.batches import batch_sizes
from fnn.training.config import loop_settings, trainer_config
from fnn.training.state import Start
from fnn.types import Layer, Loss, OfSettings, Params, Penalty, Settings, State

FLOATS = (np.float64, np.float32)  # inputs of other types become the first
AUTO_BATCH = 200  # rows per step at most, as scikit-learn's own networks have
ACTIVATIONS = {
    "identity": None,
    "logistic": activations.sigmoid,
    "tanh": activations.tanh,
    "relu": activations.relu,
    "elu": activations.elu(),
    "gelu": activations.gelu,
    "selu": activations.selu,
    "silu": activations.silu,
    "softplus": activations.softplus,
}


InputScale = Scale | SparseScale


class CheckedRows(NamedTuple):
    """The rows to fit to, as they came, without those of weight 0 where these are left out."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None  # the sample weights times those of the classes
    at: np.ndarray  # their places among those that were passed
    columns: int | None = None  # of a sparse matrix; `x` are then its rows, `(rows, 2, room)`


class PlannedRows(NamedTuple):
    """The rows of a fit, and how the network sees them."""

    rows: CheckedRows
    inputs: InputScale
    targets: Targets
    loss: Loss


class Plan(NamedTuple):
    """All that a fit needs, checked."""

    net: Layer
    loss: Loss
    optimizer: OfSettings[optax.GradientTransformation]
    settings: dict[str, float]  # numbers that may differ from fit to fit without compiling again
    rows: CheckedRows
    inputs: InputScale
    targets: Targets
    seed: int
    batch_size: int
    shuffle: bool
    epochs: int

    def encode_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of the network, in the dtype that JAX is set to."""
        t = self.targets.encode(self.rows.y)
        return as_floats(self.inputs(self.rows.x)), t if self.targets.form == "labels" else as_floats(t)


class Estimator(Protocol):
    """The parameters of an estimator."""

    hidden_layer_sizes: Any
    activation: Any
    alpha: Any
    batch_size: Any
    learning_rate_init: Any
    max_iter: Any
    shuffle: Any
    random_state: Any
    standardise: Any
    network: Any
    loss: Any
    optimizer: Any


def as_floats(a: np.ndarray) -> np.ndarray:
    """Numbers in the dtype that JAX is set to."""
    floats: np.ndarray = np.asarray(a, jnp.result_type(float))
    return floats


def adam(settings: Settings) -> optax.GradientTransformation:
    """The optimizer where none is passed."""
    return optax.adam(settings["learning_rate_init"])


def weight_decay(settings: Settings) -> Penalty:
    """`alpha/(2 n) Σ w²` for n rows per step, as scikit-learn's own networks have it."""
    return l2(settings["l2"])


def plan_rows(
    estimator: Estimator,
    x: object,
    y: object,
    sample_weight: object = None,
    classes: object = None,
    before: tuple[InputScale, Targets] | None = None,
) -> PlannedRows:
    """Check the rows to fit an estimator to: all of a plan that depends on no parameters but `READ_WITH_ROWS`.

    Args:
        estimator: a classifier or a regressor; it remembers the number and names of the columns.
        x, y, sample_weight: the rows.
        classes: all that there are, where not all are in `y`.
        before: how inputs and targets have been standardised so far, where the fit goes on from there.
    """
    rows = check_rows(estimator, x, y, sample_weight, before is None, before and isinstance(before[0], SparseScale))
    loss = None if estimator.loss is None else as_loss(estimator.loss)
    targets, loss = _targets(estimator, rows.y, loss, classes, None if before is None else before[1])
    batch_size = _batch_size(estimator.batch_size)
    if estimator.network is None and len(rows.x) <= min(batch_size, AUTO_BATCH):
        rows = merge_copies(rows, targets.encode(rows.y))
    if before is not None:
        inputs = before[0]
    else:
        standardise = arguments.flag("standardise", estimator.standardise)
        inputs = _fit_inputs(rows, standardise)
        if isinstance(targets, NumberTargets):
            targets = targets.fit(rows.y, rows.weights, standardise)
    return PlannedRows(rows, inputs, targets, loss)


READ_WITH_ROWS = ("batch_size", "class_weight", "loss", "network", "standardise")


def complete_plan(estimator: Estimator, planned: PlannedRows) -> Plan:
    """The whole plan, of rows that have been planned for this estimator, or for one with equal `READ_WITH_ROWS`."""
    rows, inputs, targets, loss = planned
    batch_size = _batch_size(estimator.batch_size)
    return Plan(
        net=_network(estimator, targets.size, rows.columns),
        loss=loss,
        optimizer=adam if estimator.optimizer is None else estimator.optimizer,
        settings=_settings(estimator, rows, batch_size),
        rows=rows,
        inputs=inputs,
        targets=targets,
        seed=int(check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max)),
        batch_size=batch_size,
        shuffle=arguments.flag("shuffle", estimator.shuffle),
        epochs=arguments.whole_number("max_iter", estimator.max_iter, 1),
    )


def _fit_inputs(rows: CheckedRows, standardise: bool) -> InputScale:
    """How inputs are standardised."""
    if rows.columns is None:
        return fit_scale(rows.x, rows.weights, standardise)
    return fit_sparse_scale(rows.x, rows.columns, rows.weights, standardise)


def as_rows(x: Any, sparse: bool) -> np.ndarray:
    """Checked inputs, dense or sparse, as the network takes them: one of sparse rows or another."""
    if sparse:
        return pad_rows(x)
    rows: np.ndarray = x.toarray() if issparse(x) else x
    return rows


def check_rows(
    estimator: Estimator, x: object, y: object, sample_weight: object, reset: bool, sparse: bool | None = None
) -> CheckedRows:
    """Inputs and targets as arrays, the weights of rows and classes as one.

    Args:
        estimator, x, y, sample_weight: as for `plan_rows`.
        reset: whether the estimator is to remember the number and names of the columns.
        sparse: whether the network is one of sparse rows; None: if `x` is sparse.
    """
    classifies = is_classifier(estimator)
    inputs, targets = validate_data(
        estimator,
        x,
        y,
        reset=reset,
        accept_sparse="csr",
        dtype=FLOATS,
        multi_output=True,
        y_numeric=not classifies,
        allow_nd=estimator.network is not None,
    )
    targets = targets.toarray() if hasattr(targets, "toarray") else targets
    weights = None if sample_weight is None else _check_weights(sample_weight, inputs)
    if not classifies:
        targets = np.asarray(targets, np.float64)
    elif targets.ndim == 2 and targets.shape[1] == 1:
        targets = column_or_1d(targets, warn=True)
    class_weight = getattr(estimator, "class_weight", None)
    if class_weight is not None:
        factors = compute_sample_weight(class_weight, targets)
        weights = factors if weights is None else weights * factors
    sparse = issparse(inputs) if sparse is None else sparse
    columns = inputs.shape[1] if sparse else None
    return CheckedRows(as_rows(inputs, sparse), targets, weights, np.arange(len(targets)), columns)


def _targets(
    estimator: Estimator, y: np.ndarray, loss: Loss | None, classes: object, before: Targets | None
) -> tuple[Targets, Loss]:
    """How targets are encoded, and the loss."""
    if not is_classifier(estimator):
        return before or number_targets(y), loss or half_squared_error
    if isinstance(before, ClassTargets) and before.kind == "multiclass":
        classes = before.classes[0]
    targets, loss = class_targets(y, classes, loss)
    if isinstance(before, ClassTargets) and targets.kind != before.kind:
        hint = "Call fit of a new estimator for others."
        raise ValueError(f"y: expected {before.kind} targets, as before, got {targets.kind} ones. {hint}")
    return before or targets, loss


def merge_copies(rows: CheckedRows, t: np.ndarray) -> CheckedRows:
    """Equal rows as one, with the sum of their weights; those of weight 0 left out; all in an order of their own.

    A step that uses all rows is the same to rounding. So a row of weight k, k copies of the row, and any order of the
    rows give the same network to the bit.

    >>> import numpy as np
    >>> from fnn.sklearn.plans import CheckedRows, merge_copies
    >>> y = np.array([1.0, 0.0, 1.0])
    >>> merged = merge_copies(CheckedRows(np.array([[3.0], [2.0], [3.0]]), y, None, np.arange(3)), y)
    >>> print(merged.x.ravel(), merged.weights, merged.at)
    [2. 3.] [1. 2.] [1 0]
    """
    weights = np.ones(len(t)) if rows.weights is None else rows.weights
    real = np.flatnonzero(weights)
    columns = np.concatenate([rows.x[real].reshape(len(real), -1), t[real].reshape(len(real), -1)], 1)
    _, first, group = np.unique(columns, axis=0, return_index=True, return_inverse=True)
    total, first = np.bincount(group.ravel(), weights[real]), real[first]
    merged = None if (total == 1).all() else total
    return CheckedRows(rows.x[first], rows.y[first], merged, rows.at[first], rows.columns)


def _settings(estimator: Estimator, rows: CheckedRows, batch_size: int) -> dict[str, float]:
    """The numbers of a fit."""
    count = float(len(rows.x) if rows.weights is None else rows.weights.sum())
    settings = {"l2": arguments.number("alpha", estimator.alpha, 0) / (2 * min(batch_size, count))}
    if estimator.optimizer is None:
        settings["learning_rate_init"] = float(arguments.number("learning_rate_init", estimator.learning_rate_init, 0))
    return settings


def _check_weights(sample_weight: object, x: np.ndarray) -> np.ndarray:
    weights: np.ndarray = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("sample_weight: expected one above 0, got zeros only. Pass rows that count.")
    return weights


def _batch_size(batch_size: object) -> int:
    if isinstance(batch_size, str) and batch_size == "auto":
        return AUTO_BATCH
    return arguments.whole_number("batch_size", batch_size, 1, "Pass a whole number or 'auto'.")


def _network(estimator: Estimator, outputs: int, columns: int | None) -> Layer:
    """The network: the one passed, else dense layers with an activation between them; the first of sparse columns."""
    if estimator.network is not None:
        return arguments.instance("network", estimator.network, Layer, "Pass fnn.serial(…).")
    known = isinstance(estimator.activation, str) and estimator.activation in ACTIVATIONS
    if not known:
        wanted, got = ", ".join(map(repr, ACTIVATIONS)), arguments.describe_value(estimator.activation)
        raise ValueError(f"activation: expected one of {wanted}, got {got}. Pass network= for others.")
    sizes = estimator.hidden_layer_sizes
    sizes = [sizes] if isinstance(sizes, (int, np.integer)) else list(sizes)
    layers: list[Layer | Activation] = []
    for size in sizes:
        layers.append(_linear(arguments.whole_number("hidden_layer_sizes", size, 1, "Pass (100,), say."), columns))
        columns = None  # of the inputs alone
        if (activation := ACTIVATIONS[estimator.activation]) is not None:
            layers.append(activation)
    return serial(*layers, _linear(outputs, columns))


def _linear(size: int, columns: int | None) -> Layer:
    """A dense layer; of sparse rows with so many columns one that begins with the same weights as it would."""
    return dense(size) if columns is None else sparse_dense(columns, size, weight_init=columns**-0.5)


# ---- one epoch


def train_epoch(plan: Plan, before: TrainState | None, params: Params = None, state: State = None) -> Run:
    """Use every row once more: after `before`, with its optimizer, else from these parameters or fresh ones."""
    config = trainer_config(
        plan.net,
        plan.loss,
        plan.optimizer,
        penalty=weight_decay,
        batch_size=plan.batch_size,
        shuffle=plan.shuffle,
    )
    key = arguments.key(plan.seed)
    data, _, _ = load_arrays(plan.encode_rows(), None, plan.rows.weights, key, params)
    start = Start(key, data, plan.settings | loop_settings(None, 0.0), params, state)
    with without_debug_nans():
        config, start, program = trace_run(config, start)
        batches = batch_sizes(len(plan.rows.x), plan.batch_size)[1]
        effort = choose_effort(program.work, EPOCHS_EXPECTED, EPOCHS_EXPECTED * batches)
        if before is None:
            now = program.init(*start)
        else:
            now = jax.tree.map(lambda a: jnp.array(a, copy=True), before)  # the program overwrites it
            now = now._replace(settings=jax.tree.map(jnp.asarray, start.settings))
        histories: list[History] = []
        following = segments(program.run(effort), now, data, int(now.epoch) + 1, plan.batch_size, Pace(SECONDS))
        for segment in following:
            now = segment.state
            histories.append(segment.history)
    if not bool(now.active):
        warn("partial_fit: expected finite costs, got one that is not. Lower learning_rate_init.", TrainingDiverged)
    history = concatenate(histories) if histories else History(jnp.zeros(0), {}, None, {})
    return Run(now.params, now.state, history, now, data.train.x.shape[1:])


EPOCHS_EXPECTED = 20  # calls with rows of this shape: for so many a program is compiled
SECONDS = 0.5  # a piece of an epoch
