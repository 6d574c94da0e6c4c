"""The linear layer."""

from collections.abc import Callable
from typing import overload

import jax
import jax.numpy as jnp

from fnn import arguments
from fnn.factories import factory
from fnn.kernels import matmul
from fnn.kernels.operations import add_to_rows
from fnn.types import (
    Array,
    ArrayLike,
    Cache,
    DType,
    Key,
    Layer,
    Params,
    Record,
    Scalar,
    Shape,
    ShapeError,
    State,
    Train,
)

# how a parameter begins: a standard deviation, or (key, shape, dtype) -> values
Initial = Scalar | Callable[[Array, Shape, DType], ArrayLike]


@factory
def dense(features: int, *, bias: bool = True, weight_init: Initial | None = None, bias_init: Initial = 0.0) -> Layer:
    """A fully connected layer, `y = x w + b`.

    Backward: `dw = xᵀ dy`, `db = Σ_rows dy`, `dx = dy wᵀ`. Source document 2's table.

    Args:
        features: number of outputs, at least 1. `x` is `(batch, fan_in)`, `y` is `(batch, features)`.
        bias: whether there is a `b`.
        weight_init: the weights' initial values: None draws them from a normal distribution (not truncated) with
            mean 0 and standard deviation `sqrt(1/fan_in)`, source document 3's advice; a number is the standard
            deviation to use instead; anything else is a `jax.nn.initializers` function `(key, shape, dtype) -> array`.
        bias_init: likewise; the default 0.0 starts them at zero.

    Returns:
        A layer with params `{"w": (fan_in, features), "b": (features,)}`. Integer inputs are converted.

    Raises:
        ShapeError: one example is not a vector, or another length than the weights are made for.
        ValueError, TypeError: features is not a whole number of at least 1, a standard deviation not one of at least 0.

    >>> import fnn, jax
    >>> params, state, out_shape = fnn.dense(2).init(jax.random.key(0), (3,))
    >>> print(params["w"].shape, params["b"], out_shape)
    (3, 2) [0. 0.] (2,)
    """
    hint = "Write dense(10)."
    features = arguments.whole_number("dense", features, 1, hint, what="a whole number of features")
    bias = arguments.flag("bias", bias, "dense")
    weight_init = initial_deviation("dense", "weight_init", weight_init)
    bias_init = initial_deviation("dense", "bias_init", bias_init, False)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        if len(in_shape) != 1 or in_shape[0] < 1:
            sparse = "; for sparse rows write fnn.sparse_dense in its place" if in_shape[:1] == (2,) else ""
            raise ShapeError(
                f"dense({features}): expected examples of shape (fan_in,), got {in_shape}. "
                f"Put fnn.flatten() before it{sparse}."
            )
        shape = (in_shape[0], features)
        deviation = shape[0] ** -0.5 if weight_init is None else weight_init
        params = {"w": initial_values("dense: weight_init", deviation, jax.random.fold_in(key, 0), shape)}
        if bias:
            params["b"] = initial_values("dense: bias_init", bias_init, jax.random.fold_in(key, 1), (features,))
        return params, (), (features,)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        w = params["w"]
        if x.ndim != 2 or x.shape[1] != w.shape[0]:
            raise ShapeError(
                f"dense({features}): expected x of shape (batch, {w.shape[0]}), got {x.shape}. "
                "Use the inputs that these parameters were made for."
            )
        if not jnp.issubdtype(x.dtype, jnp.floating):
            x = x.astype(w.dtype)
        y = matmul.forward(x, w)
        return (add_to_rows(y, params["b"]) if bias else y), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        dparams = {"w": matmul.weight_gradient(x, dy)}
        if bias:
            dparams["b"] = dy.sum(0)
        return dparams, matmul.input_gradient(dy, params["w"])

    return Layer(None, init, forward, backward)


@overload
def initial_deviation(name: str, what: str, initial: Initial, optional: bool = ...) -> Initial: ...
@overload
def initial_deviation(name: str, what: str, initial: Initial | None, optional: bool = ...) -> Initial | None: ...
def initial_deviation(name: str, what: str, initial: Initial | None, optional: bool = True) -> Initial | None:
    """Checked where it is a number: None and functions come back as they are."""
    if initial is None and optional:
        return initial
    if callable(initial) and not isinstance(initial, (type, Record)) and not getattr(initial, "is_factory", False):
        return initial
    return arguments.scalar(name, f"a standard deviation {what}", initial, "Pass a small number, such as 0.1")


def initial_values(name: str, initial: Initial, key: Key, shape: Shape) -> Array:
    """Initial values: a number is the standard deviation of a normal distribution, a callable is an initializer."""
    dtype = jnp.result_type(float)
    if callable(initial):
        wanted, hint = "a function (key, shape, dtype) -> array", "Use one of jax.nn.initializers."
        arguments.function(name, initial, 3, wanted, hint)
        made = arguments.as_floats(name, arguments.call(name, initial, key, shape, dtype))
        if made.shape != shape:
            got = f"{made.shape} from {arguments.describe_thing(initial)}"
            raise ShapeError(
                f"{name}: expected initial values of shape {shape}, got {got}. Return an array of that shape."
            )
        return made
    if isinstance(initial, (int, float)) and initial == 0:
        return jnp.zeros(shape, dtype)
    return jax.random.normal(key, shape, dtype) * jnp.asarray(initial, dtype)
