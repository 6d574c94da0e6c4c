"""Rows of a sparse matrix: as the array that `sparse_dense` takes; their columns scaled, zeros kept."""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, issparse

from fnn.arguments.sparse import read_sparse


class SparseScale(NamedTuple):
    """`value/deviation`, column by column, in float64; `mean` is 0, so that zeros stay zeros."""

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, a: np.ndarray) -> np.ndarray:
        """Rows, `(rows, 2, room)`, with scaled values."""
        return np.stack([a[:, 0], a[:, 1] / self.deviation[a[:, 0].astype(np.int64)]], 1)


def pad_rows(x: Any) -> np.ndarray:
    """The rows of a matrix, dense or sparse, as `(rows, 2, room)`: numbers of columns, in order, and values there.

    >>> import scipy.sparse
    >>> from fnn.sklearn.sparse import pad_rows
    >>> print(pad_rows(scipy.sparse.csr_array([[0.0, 3.0], [0.0, 0.0]])).tolist())
    [[[1.0], [3.0]], [[0.0], [0.0]]]
    """
    csr = x.copy() if issparse(x) else csr_array(x)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    return read_sparse("X", csr, None if csr.nnz else 1)


def fit_sparse_scale(a: np.ndarray, columns: int, weights: np.ndarray | None, standardise: bool) -> SparseScale:
    """The largest absolute value of each column, in rows that count; 1 without `standardise` or where all are 0.

    >>> import numpy as np
    >>> from fnn.sklearn.sparse import fit_sparse_scale
    >>> scale = fit_sparse_scale(np.array([[[1.0], [-4.0]], [[1.0], [2.0]]]), 3, None, True)
    >>> print(scale.deviation, scale(np.array([[[1.0], [1.0]]]))[0, 1])
    [1. 4. 1.] [0.25]
    """
    largest = np.zeros(columns)
    if standardise:
        a = a if weights is None else a[weights > 0]
        np.maximum.at(largest, a[:, 0].astype(np.int64).ravel(), np.abs(a[:, 1]).ravel())
    return SparseScale(np.zeros(columns), np.where(largest > 0, largest, 1.0))
