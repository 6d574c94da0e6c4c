"""The abstractions, all of them: a layer, a loss, a penalty, a training run, and the data and states they pass around.

Each is a few pure functions under names, as an optax optimizer is. Who has understood one has understood all.
"""

import csv
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, TypeVar

import jax
import numpy as np
import numpy.typing

Array = jax.Array
Tree = Any  # a pytree, of whatever
Params = Any  # a pytree of arrays: dicts and tuples, nothing else in it
State = Any  # a pytree of arrays that only `forward` changes; `()` if there is none
Cache = Any  # what `forward` keeps for `backward`
Key = Any  # a jax.random key, or None
Shape = tuple[int, ...]
DType = np.dtype  # what `array.dtype` is
HasShape = Array | np.ndarray | jax.ShapeDtypeStruct  # what has a shape and a dtype
# what a user hands over
ArrayLike = numpy.typing.ArrayLike  # what becomes an array: of NumPy or JAX, a list, a frame, a tensor
Numbers = jax.typing.ArrayLike  # what the functions of JAX take: arrays of NumPy and JAX, and numbers
Scalar = float | Array  # a number, or a traced one
KeyLike = int | Array  # a seed, or a jax.random key
DTypeLike = jax.typing.DTypeLike  # a dtype, or its name
T = TypeVar("T")
Settings = Mapping[str, Array]  # numbers of a run that may differ from run to run, by name
OfSettings: TypeAlias = T | Callable[[Settings], T]  # the thing itself, or how the settings make it
Jaxpr = Any  # a program that JAX has traced
Equation = Any  # one operation of it
OptimizerState = Any  # the state of an optax optimizer


class ShapeError(ValueError):
    """What was joined does not fit: a layer on inputs of the wrong shape, outputs on targets of another shape."""


class TrainingDiverged(UserWarning):
    """A cost or a parameter became non-finite; the run stopped at the last finite parameters.

    A warning, or with `fit(..., on_nan="raise")` an exception, whose `run` is what `fit` would have returned.
    """

    run: "Run | None" = None


class TrainingInterrupted(UserWarning):
    """Ctrl-C or SIGTERM ended a run early; what there was of it came back."""


class Rows(NamedTuple):
    """Training mode in which some rows of the batch are padding. Truthy, so `if train:` works everywhere.

    `mask` is `(batch,)`, True where the row is real. Layers that mix rows (batch_norm) leave the others out.
    """

    mask: Array


class PathObject(Protocol):
    """A path that is not text: what `os.PathLike` is, which the pure half does not import."""

    def __fspath__(self) -> str: ...


PathLike = str | PathObject  # where a file is
Train = bool | Rows  # whether a layer trains


class InitFn(Protocol):
    """How a layer begins: `(key, in_shape) -> (params, state, out_shape)`, shapes of ONE example."""

    def __call__(self, key: Key, in_shape: Shape, /) -> tuple[Params, State, Shape]:
        """Begin."""


class ForwardFn(Protocol):
    """What a layer computes of a batch: `(params, state, x, key, train) -> (y, new_state, cache)`."""

    def __call__(self, params: Params, state: State, x: Array, key: Key, train: Train, /) -> tuple[Array, State, Cache]:
        """Compute."""


class BackwardFn(Protocol):
    """The derivative of the scalar loss, from that by the outputs: `(params, cache, dy) -> (dparams, dx)`."""

    def __call__(self, params: Params, cache: Cache, dy: Array, /) -> tuple[Params, Array]:
        """Go back."""


class Layer(NamedTuple):
    """A layer, and so a whole network: three pure functions and how it was made.

    - `init(key, in_shape) -> (params, state, out_shape)`: shapes of ONE example, without the batch axis.
    - `forward(params, state, x, key, train) -> (y, new_state, cache)`: `x` has a leading batch axis; `train` is
      False, True or `Rows(mask)`; `key` may be None when nothing random happens.
    - `backward(params, cache, dy) -> (dparams, dx)`: the derivative of the scalar loss by the parameters and by `x`,
      given its derivative `dy` by the outputs; derived by hand.
    - `spec`: how it was made; a `Spec` for those of fnn's factories, any name for your own.

    Example: a layer of one's own that multiplies each feature by a learned number, `y = a x`, `da = Σ_rows x dy`,
    `dx = a dy`.

    >>> import fnn, jax, jax.numpy as jnp
    >>> def init(key, in_shape):
    ...     return {"a": jnp.ones(in_shape)}, (), in_shape
    >>> def forward(params, state, x, key, train):
    ...     return params["a"] * x, state, x
    >>> def backward(params, x, dy):
    ...     return {"a": (x * dy).sum(0)}, params["a"] * dy
    >>> scale = fnn.Layer("scale", init, forward, backward)
    >>> fnn.serial(fnn.dense(3), scale)
    serial(dense(3), scale)
    """

    spec: Any
    init: InitFn
    forward: ForwardFn
    backward: BackwardFn

    def __repr__(self) -> str:
        return str(self.spec)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:  # it never changes: as Python copies functions
        return self


class Record:
    """Functions with names, of which one is called; unpacked, replaced and compared as a named tuple is.

    No tuple, since those cannot be weakly referenced, which `jax.jit` wants of what it compiles. Two that were made by
    the same call are equal as well: so is one that comes back from pickle.
    """

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, field.name) for field in dataclasses.fields(self))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = vars(self).get("_call"), vars(other).get("_call")
        return (mine is not None and mine == theirs) or tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash((type(self), next(iter(self))))  # its name, or how it was made

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def _replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def _with_doc(self, text: str | None) -> Self:
        """With this docstring, so that `help` of the object tells its formula."""
        object.__setattr__(self, "__doc__", text or "")
        return self

    def _with_origin(self, spec: Any, call: Any) -> Self:
        """That remembers the call that made it, for pickle; `_replace` forgets it. `call`: what equality goes by."""
        object.__setattr__(self, "_origin", spec)
        object.__setattr__(self, "_call", call)
        return self


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Loss(Record):
    """A loss: one number per row, never reduced, and its derivative by hand. Itself callable.

    - `value(outputs, targets) -> (batch,)`
    - `grad(outputs, targets)`: the derivative of row i's value by row i's outputs, of the shape of `outputs`.
    - `check(outputs, targets)`: optional; raises for targets whose VALUES are wrong (labels out of range). It is run
      on the host, on NumPy targets, before anything compiles; `outputs` is only a shape and a dtype.
    - `targets`: optional; what they are, where they are classes: "one-hot" rows (or distributions), "binary" (one
      probability an output), or "labels" (class numbers). `smoothed` and `class_weighted` go by it.
    - `dense`: optional; for "labels", the same loss on one-hot rows.
    """

    name: str
    value: Callable[[Any, Any], Array]
    grad: Callable[[Any, Any], Array]
    check: Callable[[HasShape, np.ndarray], None] | None = None
    targets: str | None = None
    dense: "Loss | None" = None

    def __call__(self, outputs: Numbers, targets: Numbers) -> Array:
        """`value(outputs, targets)`."""
        return self.value(outputs, targets)

    def __repr__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Penalty(Record):
    """A number added to the cost for the size of the parameters, and its derivative by hand. Itself callable.

    - `value(params) -> scalar`
    - `grad(params)`: a pytree like `params`.
    """

    spec: Any
    value: Callable[[Params], Array]
    grad: Callable[[Params], Params]

    def __call__(self, params: Params) -> Array:
        """`value(params)`."""
        return self.value(params)

    def __repr__(self) -> str:
        return str(self.spec)


TargetCheck = Callable[[HasShape, np.ndarray], None]  # raises for targets whose values are wrong
Metric = Callable[[Array, Array], Array]  # (outputs, targets) -> one number per row; a loss is one
LayerLike = Layer | Callable[[Array], Array]  # a layer, or a function of its inputs, such as an activation
LossLike = Loss | Metric  # a loss, or a function that is one


class Gradients(NamedTuple):
    """What one batch gives: weighted sum of the losses (penalty apart), sum of the weights, derivatives, new state."""

    total: Array
    weight: Array
    grads: Params
    state: State
    outputs: Array


class RowSelection(NamedTuple):
    """Which rows of the arrays a part has, so that many runs share the arrays: the folds of a cross-validation.

    - `rows`: their numbers, `(room,)`; from `length` on filling, any row.
    - `length`: how many are real.
    - `mean`, `deviation`: inputs are standardised, `(x - mean)/deviation`, by those of the training rows; or None.
    """

    rows: Array
    length: Array
    mean: Array | None = None
    deviation: Array | None = None


class Part(NamedTuple):
    """Rows to train on or to evaluate on: inputs, targets, and a weight per row (None: all rows count 1).

    `view` says which of the rows, None: all.
    """

    x: Array
    t: Array
    weight: Array | None = None
    view: RowSelection | None = None


class Data(NamedTuple):
    """What a training run is given: rows to train on, rows to validate on (or None)."""

    train: Part
    validation: Part | None = None


class RunningSums(NamedTuple):
    """Running weighted sums over rows, from which true means come: the loss, the weights, each metric."""

    loss: Array
    weight: Array
    metrics: dict[str, Array]
    lost: Any = ()  # what rounding took from these three, where many are added


class TrainState(NamedTuple):
    """Everything a training run is made of, in one pytree: save it, go on later, and the bits are the same."""

    params: Params
    state: State
    optimizer: Any  # the optax state
    key: Array  # raw key data, which any file can hold
    settings: dict[str, Array]  # numbers that may differ from run to run without compiling again
    epoch: Array  # whole epochs done
    step: Array  # steps done of the epoch under way
    sums: RunningSums  # of the epoch under way
    best: Any  # (params, state) with the lowest validation loss; () without validation
    best_value: Array
    best_epoch: Array  # counted from 0; -1: none yet
    wait: Array  # epochs since the best
    active: Array  # False: stopped early, or diverged; frozen from then on
    diverged: Array  # (epoch, step) of the first non-finite value, counted from 0; (-1, -1): none


class History(NamedTuple):
    """One value per epoch: `loss` is the mean over the epoch's rows as they were trained on, penalty apart."""

    loss: Array
    metrics: dict[str, Array]
    validation_loss: Array | None
    validation_metrics: dict[str, Array]

    def figures(self) -> dict[str, Array]:
        """The figures under the names that they have in a table: `loss`, the metrics, these with `validation_`."""
        held = [] if self.validation_loss is None else [self.validation_loss, *self.validation_metrics.values()]
        names = history_columns(self.metrics, self.validation_loss is not None)[1:]
        return dict(zip(names, [self.loss, *self.metrics.values(), *held], strict=True))

    def to_csv(self, path: PathLike) -> None:
        """Write a table: a row an epoch, counted from 0; columns epoch, loss, metrics, then these with `validation_`.

        Numbers with all their digits, so that reading them back gives the same ones. Raises a ValueError where two
        columns have one name.

        >>> import fnn, numpy as np, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "history.csv")
        >>> fnn.History(np.float32([0.5, 0.1]), {}, np.float32([0.6, 0.3]), {}).to_csv(path)
        >>> print(path.read_text())
        epoch,loss,validation_loss
        0,0.5,0.6
        1,0.1,0.3
        """
        names = history_columns(self.metrics, self.validation_loss is not None)
        check_distinct(names)
        columns = self.figures().values()
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(zip(range(len(self.loss)), *map(np.asarray, columns), strict=True))


class Trainer(NamedTuple):
    """A training run, pure and un-jitted: `jit` fuses it into one program, `vmap` makes many runs of it.

    - `init(key, data, settings) -> train_state`
    - `run(train_state, data, epochs) -> (train_state, history)`
    """

    init: Callable[..., TrainState]
    run: Callable[..., tuple[TrainState, History]]


@jax.tree_util.register_static  # no arrays in it: trees of runs have none more for it
@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of the columns of inputs and of targets, where these were frames, else None."""

    x: tuple[str, ...] | None
    t: tuple[str, ...] | None = None


class Run(NamedTuple):
    """What `fit` returns: the best parameters and their layer state, the history, and the state to go on from."""

    params: Params
    state: State
    history: History
    train_state: TrainState
    in_shape: Shape | None = None  # of one example, so that a saved run can be checked against its network
    validation_rows: Any = None  # which rows `fit(..., validation=0.2)` held back, as NumPy indices
    columns: Columns | None = None  # of the frames that it was trained with, so that others are refused

    @property
    def best_epoch(self) -> int | None:
        """The epoch that `params` are from, counted from 0, if validation has chosen one."""
        if self.train_state is None or int(self.train_state.best_epoch) < 0:
            return None
        return int(self.train_state.best_epoch)

    def __repr__(self) -> str:
        """A few lines: how large it is, each figure from the first epoch to the last, and how it ended."""
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self)):
            return "run, traced"
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        lines = [f"run: parameters {count:,}" + ("" if self.in_shape is None else f", inputs {tuple(self.in_shape)}")]
        if isinstance(self.history, History) and np.ndim(self.history.loss) == 1:  # else none, or those of many runs
            figures = {name: np.asarray(values) for name, values in self.history.figures().items() if np.size(values)}
            lines += [f"epochs: {len(self.history.loss)}"]
            lines += [f"{name}: {values[0]:.4g} -> {values[-1]:.4g}" for name, values in figures.items()]
        if isinstance(self.train_state, TrainState) and np.shape(self.train_state.diverged) == (2,):
            lines += [] if self.best_epoch is None else [f"best epoch: {self.best_epoch}, counted from 0"]
            epoch, step = np.asarray(self.train_state.diverged).tolist()
            lines += ["diverged: no" if epoch < 0 else f"diverged: in epoch {epoch}, step {step}"]
        return "\n  ".join(lines)


def history_columns(metrics: Iterable[str], validates: bool = True) -> list[str]:
    """Those of a history: `epoch`, then figures, `loss` and the metrics, then these with `validation_`.

    >>> from fnn.types import history_columns
    >>> history_columns(["accuracy"])
    ['epoch', 'loss', 'accuracy', 'validation_loss', 'validation_accuracy']
    """
    names = ["loss", *metrics]
    return ["epoch", *names, *(f"validation_{name}" for name in names if validates)]


def check_distinct(columns: Iterable[str], settings: Iterable[str] = ()) -> None:
    """Raise a ValueError where a metric, or a setting, has the name of another column: one would overwrite the other.

    >>> from fnn.types import check_distinct
    >>> from fnn.studies.tables import study_columns
    >>> check_distinct(study_columns(["error", "error_std"], True, deviations=True))
    Traceback (most recent call last):
    ...
    ValueError: metrics: expected names of your own, got 'error_std', a column of the result. Rename it.
    """
    seen: set[str] = set()
    for name in columns:
        if name in seen:
            raise ValueError(f"metrics: expected names of your own, got {name!r}, a column of the result. Rename it.")
        seen.add(name)
    for name in sorted(seen.intersection(settings)):
        raise ValueError(f"over: expected names of your own, got {name!r}, a column of the result. Rename it.")


class Buffer(NamedTuple):
    """A part of an epoch. `part` has a fixed number of rows, whole batches; the first `count` are real."""

    part: Part
    first: Any  # the number, in its epoch, of its first batch
    count: Any
    last: Any  # whether the epoch ends with it
    check_sum: Any  # of the rows of its epoch, up to its end
