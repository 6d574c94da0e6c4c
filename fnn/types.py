"""The abstractions, all of them: a layer, a loss, a penalty, a training run, and the data and states they pass around.

Each is a few pure functions under names, as an optax optimizer is. Who has understood one has understood all.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
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
Shape = tuple[int, ...]  # of several arrays a dict or a tuple of such, which `fnn.arguments.leaves` takes apart
DType = np.dtype  # what `array.dtype` is
HasShape = Array | np.ndarray | jax.ShapeDtypeStruct  # what has a shape and a dtype
# what a user hands over
ArrayLike = numpy.typing.ArrayLike  # what becomes an array: of NumPy or JAX, a list, a frame, a tensor
Named = Mapping[str, object]  # arrays by their names, also in dicts of dicts, which mypy takes for dicts of objects
Arrays = ArrayLike | Named | tuple[ArrayLike | Named, ...]  # inputs or targets: an array, a dict or a tuple of arrays
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


class Rows(NamedTuple):
    """Training mode in which some rows of the batch are padding. Truthy, so `if train:` works everywhere.

    `mask` is `(batch,)`, True where the row is real. Layers that mix rows (batch_norm) leave the others out.
    """

    mask: Array


class Frame(Protocol):
    """A frame of pandas or polars."""

    @property
    def columns(self) -> object:
        """The names of its columns."""

    def __len__(self) -> int: ...


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


class Record:
    """Functions with names; unpacked, indexed, replaced and compared as a named tuple is. A `Layer` has layers there.

    No tuple, since those cannot be weakly referenced, which `jax.jit` wants of what it compiles. Two that were made by
    the same call are equal as well: so is one that comes back from pickle.
    """

    def parts(self) -> tuple[Any, ...]:
        """Its functions and what else it has, in their order."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts())

    def __getitem__(self, at: Any) -> Any:
        return self.parts()[at]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = vars(self).get("_call"), vars(other).get("_call")
        return (mine is not None and mine == theirs) or self.parts() == other.parts()

    def __hash__(self) -> int:
        known: int | None = vars(self).get("_hash")
        if known is None:  # of a deep network it takes a while
            known = hash((type(self), self.parts()[0]))  # its name, or how it was made
            object.__setattr__(self, "_hash", known)
        return known

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
class Layer(Record):
    """A layer, and so a whole network: three pure functions and how it was made.

    - `init(key, in_shape) -> (params, state, out_shape)`: shapes of ONE example, without the batch axis.
    - `forward(params, state, x, key, train) -> (y, new_state, cache)`: `x` has a leading batch axis; `train` is
      False, True or `Rows(mask)`; `key` may be None when nothing random happens.
    - `backward(params, cache, dy) -> (dparams, dx)`: the derivative of the scalar loss by the parameters and by `x`,
      given its derivative `dy` by the outputs; derived by hand.
    - `spec`: how it was made; a `Spec` for those of fnn's factories, any name for your own.

    Example: your own layer that multiplies each feature by a learned number, `y = a x`, `da = Σ_rows x dy`,
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

    @property
    def layers(self) -> "tuple[Layer, ...]":
        """Those that it is made of, in the order in which inputs pass through them; none for a single layer."""
        return getattr(self.spec, "children", None) or ()

    def __getitem__(self, at: Any) -> "Layer":
        """A layer of `serial(…)`, or with a slice, such as `net[:-1]`, a `serial(…)` of some of its layers."""
        factory: Any = getattr(self.spec, "factory", None)
        if not isinstance(at, (int, slice)) or getattr(factory, "__name__", "") != "serial":
            got = f"[{at}] of {self}" if isinstance(at, (int, slice)) else f"[{at!r}]"
            raise TypeError(f"net: expected [number] or [slice] of serial(…), got {got}. Use its .layers.")
        layers = self.layers
        if isinstance(at, slice):
            some: Layer = factory(*self.spec.arguments[0][1][at])  # as they were given, so that it equals another
            return some
        if not -len(layers) <= at < len(layers):
            raise IndexError(f"net: expected one of its {len(layers)} layers, got [{at}]. Use net[-1] for the last.")
        return layers[at]

    def __iter__(self) -> "Iterator[Layer]":
        """The layers of `serial(…)`."""
        return iter(self[:].layers)

    def __repr__(self) -> str:
        return str(self.spec)


def explain_attributes(kind: type, hints: dict[str, str]) -> None:
    """Let objects of a class say what to write where those of other libraries have an attribute of that name."""

    def refuse(self: object, name: str) -> None:
        if name in hints:
            got = f"expected an attribute that it has, got .{name}. {hints[name]}"
            raise AttributeError(f"{kind.__name__}: {got}", name=name, obj=self)
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}", name=name, obj=self)

    kind.__getattr__ = refuse  # type: ignore[attr-defined]  # here, since types of attributes are known otherwise


explain_attributes(
    Layer,
    {
        "fit": "Call fnn.fit(net, loss, optimizer, (x, t), epochs=10).",
        "predict": "Call fnn.predict(net, run, x).",
        "evaluate": "Call fnn.evaluate(net, run, (x, t), metrics).",
        "summary": "Call fnn.summary(net, in_shape).",
        "save": "Call fnn.save(path, net, run).",
    }
    | dict.fromkeys(("params", "parameters", "weights"), "A run has parameters: use run.params."),
)


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
    - `outputs`: optional; what it wants from the network, "logits" or "probabilities". `fit` warns where the network
      ends with the other; an ensemble makes probabilities of logits, where `targets` says by softmax or sigmoid.
    - `residuals(outputs, targets) -> (batch, k)`: optional; of a loss that is the sum of their squares.
    - `missing`: optional; what stands for a target that is missing, nan or a number; of named outputs a dict of these.
    """

    name: str
    value: Callable[[Any, Any], Array]
    grad: Callable[[Any, Any], Array]
    check: Callable[[HasShape, np.ndarray], None] | None = None
    targets: str | None = None
    dense: "Loss | None" = None
    outputs: str | None = None
    residuals: Callable[[Any, Any], Array] | None = None
    missing: Any = None

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
    - `mean`, `deviation`: inputs are standardised, `(x - mean)/deviation`, by those of the training rows; or None. Of
      several inputs like these, None for a leaf that stays.
    """

    rows: Array
    length: Array
    mean: Tree | None = None
    deviation: Tree | None = None


class Part(NamedTuple):
    """Rows to train on or to evaluate on: inputs, targets, and a weight per row (None: all rows count 1).

    Inputs and targets are an array each, or a dict or a tuple of arrays with as many rows. `view` says which of the
    rows, None: all.
    """

    x: Tree
    t: Tree
    weight: Array | None = None
    view: RowSelection | None = None


class Data(NamedTuple):
    """What a training run is given: rows to train on, rows to validate on (or None)."""

    train: Part
    validation: Part | None = None


@jax.tree_util.register_static  # no arrays in it: trees of runs have none more for it
@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of the columns of inputs and of targets, where these were frames, else None.

    Of several inputs they are pairs: the way to a leaf, such as "table" or "people/0", and the names of its columns.
    """

    x: tuple[Any, ...] | None
    t: tuple[Any, ...] | None = None


class Buffer(NamedTuple):
    """A part of an epoch. `part` has a fixed number of rows, whole batches; the first `count` are real.

    With `mask` it is one of several processes: `part` has the axes `(batches, places of a batch, ...)`, and `count` are
    the places of all batches that have a row.
    """

    part: Part
    first: Any  # the number, in its epoch, of its first batch
    count: Any
    last: Any  # whether the epoch ends with it
    check_sum: Any  # of the rows of its epoch, up to its end
    mask: Any = None  # (batches, places of a batch): which have a row
