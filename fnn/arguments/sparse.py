"""Sparse rows: a matrix of SciPy as one array of columns' numbers and values, each row padded to the same room."""

from typing import Any

import numpy as np

from fnn.arguments.calls import explain_call
from fnn.arguments.numbers import whole_number
from fnn.arguments.values import describe_thing
from fnn.types import ShapeError


def is_sparse(value: object) -> bool:
    """Whether this is a sparse matrix or array of SciPy, in any of its formats."""
    return hasattr(value, "tocsr") and not isinstance(value, type)


@explain_call
def sparse_rows(x: Any, room: int | None = None) -> np.ndarray:
    """The rows of a sparse matrix of SciPy as an array for `fnn.sparse_dense`, `(rows, 2, room)`.

    `[:, 0]` are the numbers of the columns, as floats, and `[:, 1]` the values; the rest of a row is 0. It is float32
    where that holds all values, else float64. `fit` and `predict` do the same with a matrix; call this to keep the
    result, to slice it as an array, or to give the chunks of a stream one room.

    Args:
        x: a sparse matrix or array of SciPy, `(rows, columns)`, in any format; it is not changed.
        room: values that a row has room for; None: as many as the longest row has, rounded up by at most an eighth, so
            that other matrices often have the same.

    Raises:
        ShapeError: a row has more values than there is room for; the matrix has no rows, columns or values.
        TypeError: this is no sparse matrix, or its values are no numbers.

    >>> import fnn, scipy.sparse
    >>> x = scipy.sparse.csr_array([[0.0, 3.0, 0.0], [1.0, 0.0, 2.0]])
    >>> print(fnn.sparse_rows(x)[1])
    [[0. 2.]
     [1. 2.]]
    """
    return read_sparse("sparse_rows", x, room)


def read_sparse(name: str, x: Any, room: int | None = None) -> np.ndarray:
    """The same, of an argument of this name."""
    if not is_sparse(x):
        got = describe_thing(x)
        raise TypeError(f"{name}: expected a sparse matrix of SciPy, got {got}. Pass scipy.sparse.csr_array(x).")
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected numbers, got dtype {x.dtype}. Convert them with x.astype('float32').")
    if len(x.shape) != 2 or 0 in x.shape:
        raise ShapeError(
            f"{name}: expected a sparse matrix of at least one row and one column, got shape {x.shape}. Pass data."
        )
    csr = x.tocsr()
    lengths = np.diff(csr.indptr)
    longest = int(lengths.max())
    room = _round_up(longest) if room is None else whole_number("room", room, 1)
    if longest > room:
        row = int(np.argmax(lengths > room))
        raise ShapeError(
            f"{name}: expected rows of at most {room} values, got {longest}; the first with more is row {row}. "
            f"Write fnn.sparse_rows(x, room={_round_up(longest)}), for all chunks alike."
        )
    dtype = _dtype(csr)
    made = np.zeros((x.shape[0], 2, room), dtype)
    real = np.arange(room) < lengths[:, None]
    made[:, 0][real] = csr.indices
    made[:, 1][real] = csr.data
    return made


def refuse_sparse(name: str, value: object, inputs: bool = False) -> None:
    """Raise a TypeError for what is sparse, of SciPy or another library, where an array is wanted.

    >>> import scipy.sparse
    >>> from fnn.arguments.sparse import refuse_sparse
    >>> refuse_sparse("x", scipy.sparse.eye_array(3))
    Traceback (most recent call last):
        ...
    TypeError: x: expected an array, got the sparse dia_array. Pass its .toarray().
    """
    if isinstance(value, type) or callable(value):
        return
    dense = next((way for way in ("toarray", "todense", "to_dense") if hasattr(value, way)), None)
    if dense is None or (dense == "to_dense" and str(getattr(value, "layout", "torch.strided")) == "torch.strided"):
        return
    hint = f"Pass its .{dense}()."
    if inputs:
        rows = "x" if is_sparse(value) else "scipy.sparse.csr_array((values, (rows, columns)))"
        hint = f"Pass fnn.sparse_rows({rows}) to a layer fnn.sparse_dense, or its .{dense}() to another."
    raise TypeError(f"{name}: expected an array, got the sparse {type(value).__name__}. {hint}")


def as_inputs(name: str, value: Any) -> Any:
    """A sparse matrix as rows; anything else as it is."""
    return read_sparse(name, value) if is_sparse(value) else value


def check_scalable(data: Any) -> None:
    """Raise for sparse rows that are to be standardised: their zeros would become other numbers."""
    if isinstance(data, (tuple, list)) and len(data) and is_sparse(data[0]):
        got = f"the sparse {type(data[0]).__name__}"
        raise TypeError(
            f"data[0]: expected an array to standardise, got {got}. Write standardise=False, and scale the columns "
            "before, which keeps zeros: sklearn.preprocessing.MaxAbsScaler."
        )


class Room:
    """The room of a stream's first chunk of sparse rows, which all others get, or an error."""

    def __init__(self) -> None:
        self.room: int | None = None

    def __call__(self, name: str, given: Any, x: Any) -> Any:
        """The rows `x` that a chunk became; as they are where what was `given` is no sparse matrix."""
        if not is_sparse(given):
            return x
        self.room = self.room or x.shape[2]
        more = x.shape[2] - self.room
        if more > 0 and x[:, 1, self.room :].any():
            longest = int(np.flatnonzero(x[:, 1].any(0))[-1]) + 1
            raise ShapeError(
                f"{name}: expected rows of at most {self.room} values, as the first chunk has room for, got {longest}. "
                f"Yield fnn.sparse_rows(x, room={_round_up(longest)}) in all chunks."
            )
        return x[:, :, : self.room] if more >= 0 else np.pad(x, ((0, 0), (0, 0), (0, -more)))


def _round_up(longest: int) -> int:
    """At least 1, with four binary digits that count: one of eight sizes between a power of two and the next."""
    step = 1 << max(0, longest.bit_length() - 4)
    return max(1, -(-longest // step) * step)


def _dtype(csr: Any) -> np.dtype:
    """The narrowest dtype that holds the values and the numbers of the columns."""
    if csr.dtype.kind in "iu" and csr.nnz and max(-int(csr.data.min()), int(csr.data.max())) > 2**24:
        return np.dtype(np.float64)
    narrow = csr.shape[1] <= 2**24 and (csr.dtype.kind in "iub" or csr.dtype.itemsize <= 4)
    return np.dtype(np.float32 if narrow else np.float64)
