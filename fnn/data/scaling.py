"""Standardised inputs, on the host, before training."""

from typing import NamedTuple, overload

import numpy as np

from fnn import arguments
from fnn.data import arrays, checks
from fnn.types import ArrayLike, Columns, ShapeError


class Standardiser(NamedTuple):
    """What `standardiser` found in the training rows; calling it applies it to any rows."""

    mean: np.ndarray
    deviation: np.ndarray
    columns: Columns | None = None  # of the frame that it was fitted to

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """`(x - mean)/deviation`, column by column; computed in float64, in the dtype of `x` if that is floating."""
        return self.apply("x", x)

    def apply(self, name: str, x: ArrayLike) -> np.ndarray:
        """The same, of an argument of this name."""
        arrays.same_columns((name,), self.columns, arrays.columns((x, None)))
        x = np.asarray(checks.rows(name, x))
        if x.shape[1:] != self.mean.shape:
            raise ShapeError(
                f"{name}: expected rows of shape {self.mean.shape}, as the standardiser was fitted to, "
                f"got {x.shape[1:]}. Pass the same columns."
            )
        made: np.ndarray = ((x - self.mean) / self.deviation).astype(
            x.dtype if x.dtype.kind == "f" else self.mean.dtype
        )
        return made


@arguments.explain_call
def standardiser(x: ArrayLike) -> Standardiser:
    """Fit `(x - mean)/deviation` to the training rows, column by column; source document 3's advice.

    The deviation is `sqrt(Σ (x - mean)²/n)`. A column that never changes becomes 0. Fit on the training rows only and
    apply to the others: their values must not leak into the training.

    Args:
        x: `(rows, features)`.

    >>> import fnn
    >>> scale = fnn.standardiser([[1.0, 7.0], [3.0, 7.0]])
    >>> print(scale([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]]))
    [[-1.  0.]
     [ 1.  0.]
     [ 3.  0.]]
    """
    return _fit("x", x)


def _fit(name: str, x: ArrayLike) -> Standardiser:
    names = arrays.columns((x, None))
    x = np.asarray(checks.rows(name, x))
    mean, deviation = x.mean(0, np.float64), x.std(0, np.float64)  # float16 would overflow, float32 lose digits
    constant = (x == x[0]).all(0)  # rounding can leave such a column a deviation that is not quite 0
    return Standardiser(np.where(constant, x[0], mean), np.where(constant | (deviation == 0), 1.0, deviation), names)


@overload
def standardise(train: ArrayLike) -> np.ndarray: ...
@overload
def standardise(train: ArrayLike, other: ArrayLike, /, *others: ArrayLike) -> tuple[np.ndarray, ...]: ...
def standardise(train: ArrayLike, *others: ArrayLike) -> np.ndarray | tuple[np.ndarray, ...]:
    """The training rows, and any others, standardised by the training rows: `x, x_test = standardise(x, x_test)`.

    Mean 0 and standard deviation 1 in every column of `train`; a column that never changes becomes 0.

    >>> import fnn
    >>> x, x_test = fnn.standardise([[1.0], [3.0]], [[5.0]])
    >>> print(x.ravel(), x_test.ravel())
    [-1.  1.] [3.]
    """
    fitted = _fit("train", train)
    names = ("train", *(f"others[{i}]" for i in range(len(others))))
    made = tuple(fitted.apply(name, x) for name, x in zip(names, (train, *others), strict=True))
    return made if others else made[0]


# ---- classes and groups, as a user hands them over
