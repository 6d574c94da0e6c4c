"""The linear layer of sparse rows."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from fnn import arguments
from fnn.arguments import sparse as matrices
from fnn.factories import factory
from fnn.kernels import sparse
from fnn.layers.entries import Entry, entries
from fnn.layers.linear import Initial, initial_deviation, initial_values
from fnn.types import Array, Cache, Key, Layer, Params, Shape, ShapeError, State, Train


@factory
def sparse_dense(
    columns: int,
    features: int,
    *,
    bias: bool = True,
    weight_init: Initial | None = None,
    bias_init: Initial = 0.0,
) -> Layer:
    """`dense` for sparse rows, such as counts of words: the first layer of a network, `y = x w + b`.

    A row is two rows of equal length, `x[0]` the numbers of columns and `x[1]` the values there; the rest of the row is
    0. Padding has value 0. `fit`, `predict` and the others make it of a matrix of SciPy, and so does `fnn.sparse_rows`.

    Backward: `dw[c] = Σ_rows Σ_(k: x[0, k] = c) x[1, k] dy`, `db = Σ_rows dy`, `dx[1, k] = dy · w[x[0, k]]`, and
    `dx[0] = 0`.
    It takes the time and the memory of the values that are there, beside one array like `w`.

    Args:
        columns: of the matrix, at least 1; at most 2^24 in float32, which counts them exactly.
        features: number of outputs, at least 1. `x` is `(batch, 2, room)`, `y` is `(batch, features)`.
        bias: whether there is a `b`.
        weight_init: as for `dense`; None is a standard deviation of `sqrt(1/room)`, for as many values as a row has.
        bias_init: as for `dense`.

    Returns:
        A layer with params `{"w": (columns, features), "b": (features,)}`: those of `dense`. A value whose column is
        not there makes its row nan.

    Raises:
        ShapeError: one example is not `(2, room)`; or the inputs' dtype does not count so many columns.
        ValueError, TypeError: as for `dense`.

    >>> import fnn, jax, scipy.sparse
    >>> x = fnn.sparse_rows(scipy.sparse.csr_array([[0.0, 3.0, 0.0], [1.0, 0.0, 2.0]]))
    >>> layer = fnn.sparse_dense(3, 1, weight_init=lambda key, shape, dtype: [[1.0], [10.0], [100.0]])
    >>> params, state, out_shape = layer.init(jax.random.key(0), x.shape[1:])
    >>> print(layer.forward(params, state, x, None, False)[0].ravel())
    [ 30. 201.]
    """
    hint = "Write sparse_dense(x.shape[1], 10)."
    columns = arguments.whole_number("sparse_dense", columns, 1, hint, what="a whole number of columns")
    features = arguments.whole_number("sparse_dense", features, 1, hint, what="a whole number of features")
    bias = arguments.flag("bias", bias, "sparse_dense")
    weight_init = initial_deviation("sparse_dense", "weight_init", weight_init)
    bias_init = initial_deviation("sparse_dense", "bias_init", bias_init, False)
    name = f"sparse_dense({columns}, {features})"

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        if len(in_shape) != 2 or in_shape[0] != 2 or in_shape[1] < 1:
            raise ShapeError(
                f"{name}: expected examples of shape (2, room), got {in_shape}. "
                "Pass a matrix of SciPy, or fnn.sparse_rows(x), or the shape (2, 100) for rows of 100 values; use "
                "fnn.dense for arrays."
            )
        deviation = in_shape[1] ** -0.5 if weight_init is None else weight_init
        shape = (columns, features)
        params = {"w": initial_values("sparse_dense: weight_init", deviation, jax.random.fold_in(key, 0), shape)}
        if bias:
            params["b"] = initial_values("sparse_dense: bias_init", bias_init, jax.random.fold_in(key, 1), (features,))
        return params, (), (features,)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        _check_rows(name, x, columns)
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(params["w"].dtype)
        at = jnp.where(jnp.isnan(x[:, 0]), -1, jnp.rint(x[:, 0])).astype(jnp.int32)  # nan would be column 0
        values = x[:, 1]
        y = sparse.forward(at, values, params["w"])
        return (y + arguments.beside(params["b"], y) if bias else y), state, (at, values)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        at, values = cache
        dparams = {"w": sparse.weight_gradient(at, values, dy, columns)}
        if bias:
            dparams["b"] = dy.sum(0)
        by_values = sparse.value_gradient(at, dy, params["w"])
        return dparams, jnp.stack([jnp.zeros_like(by_values), by_values], 1)

    return Layer(None, init, forward, backward)


def _check_rows(name: str, x: Array, columns: int) -> None:
    if x.ndim != 3 or x.shape[1] != 2:
        raise ShapeError(
            f"{name}: expected x of shape (batch, 2, room), got {x.shape}. "
            "Pass a matrix of SciPy, or fnn.sparse_rows(x)."
        )
    most = 2 ** (jnp.finfo(x.dtype).nmant + 1) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).max + 1
    if columns > most:
        raise ShapeError(
            f"{name}: expected inputs whose dtype counts {columns} columns, got {x.dtype}, which counts {most}. "
            "Train in a wider dtype, and leave this layer out of mixed_precision."
        )


def check_matrix(name: str, x: Any, net: Layer) -> None:
    """Raise where a sparse matrix has another number of columns than the network that it is for."""
    for columns, entry in _uses(net, name, x) if matrices.is_sparse(x) else []:
        if entry.x.shape[-1] != columns:
            _refuse_columns(entry.name, columns, f"{entry.x.shape[-1]}")


def check_columns(name: str, x: Any, net: Layer, above: int = 0) -> None:
    """Raise where sparse rows have columns beyond those of the network that they are for; `above` come before them."""
    for columns, entry in _uses(net, name, x):
        if entry.x.ndim == 3:  # of another shape the layer tells
            at = np.asarray(entry.x)[:, 0]
            wrong = (at > columns - 1) | (at < 0)
            if wrong.any():
                row = above + int(np.argmax(wrong.any(1)))
                _refuse_columns(entry.name, columns, f"number {at[wrong][0]:g} in row {row}")


def _uses(net: Layer, name: str, x: Any) -> list[tuple[int, Entry]]:
    """The layers of sparse rows that the inputs reach: how many columns each has, and what it gets."""
    return [(dict(entry.spec.arguments)["columns"], entry) for entry in entries(net, sparse_dense, name, x)]


def _refuse_columns(name: str, columns: int, got: str) -> NoReturn:
    raise ShapeError(
        f"{name}: expected {columns} columns, numbered from 0, as sparse_dense({columns}, …) has them, got {got}. "
        "Pass the columns that the network is made for: one vectoriser for all data."
    )
