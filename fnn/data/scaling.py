"""Standardised inputs, on the host, before training."""

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import jax
import numpy as np

from fnn import arguments
from fnn.arguments.leaves import is_several, map_leaves, named_leaves
from fnn.data import arrays, checks
from fnn.types import ArrayLike, Columns, ShapeError, Tree


class Standardiser(NamedTuple):
    """What `standardiser` found in the training rows; calling it applies it to any rows.

    Of several inputs `mean` and `deviation` are dicts or tuples like these, with None for what stays as it is.
    """

    mean: Any
    deviation: Any
    columns: Columns | None = None  # of the frame that it was fitted to

    def __call__(self, x: ArrayLike | Tree) -> Any:
        """`(x - mean)/deviation`, column by column; computed in float64; an array of floats keeps its dtype."""
        return self.apply("x", x)

    def apply(self, name: str, x: ArrayLike | Tree) -> Any:
        """The same, of an argument of this name."""
        arrays.same_columns((name,), self.columns, arrays.columns((x, None)), "standardiser")
        if not isinstance(self.mean, (dict, tuple)) and not is_several(x):
            whole = _apply(name, checks.rows(name, x), self.mean, self.deviation)
            return whole.astype(_usual(whole.dtype), copy=False) if isinstance(x, (list, tuple)) else whole
        got, known = jax.tree.map(np.asarray, checks.tables(name, x)), named_leaves(name, self.mean)
        for leaf in [*known, *named_leaves(name, got)]:
            if (leaf in known) != (leaf in named_leaves(name, got)):
                wanted = f"the arrays that the standardiser was fitted to ({', '.join(known)})"
                state, hint = ("none", "Pass it too") if leaf in known else ("one more", "Leave it out")
                raise ShapeError(f"{leaf}: expected {wanted}, got {state}. {hint}.")
        moments = [list(named_leaves(name, moment).values()) for moment in (self.mean, self.deviation)]
        made = [_apply(leaf, *part) for leaf, *part in zip(known, jax.tree.leaves(got), *moments, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(got), made)


def _apply(name: str, x: Any, mean: np.ndarray | None, deviation: np.ndarray) -> np.ndarray:
    """`(x - mean)/deviation`; without a mean `x` as it is."""
    x = np.asarray(x)
    if mean is None:
        same: np.ndarray = x
        return same
    if x.shape[1:] != mean.shape:
        hint = "Write x[None, :] for one row, of a list [x]." if x.shape == mean.shape else "Pass the same columns."
        raise ShapeError(
            f"{name}: expected rows of shape {mean.shape}, as the standardiser was fitted to, got {x.shape[1:]}. {hint}"
        )
    made: np.ndarray = ((x - mean) / deviation).astype(x.dtype if x.dtype.kind == "f" else _usual(mean.dtype))
    return made


def _usual(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a run: nobody chose float64 who passed a list or whole numbers."""
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype))


@arguments.explain_call
def standardiser(x: ArrayLike | Tree, *, leaves: Sequence[str] | None = None) -> Standardiser:
    """Fit `(x - mean)/deviation` to the training rows, column by column; source document 3's advice.

    The deviation is `sqrt(Σ (x - mean)²/n)`. A column that never changes becomes 0. Fit on the training rows only and
    apply to the others: their values must not leak into the training.

    Args:
        x: `(rows, features)`; or a dict or a tuple of such.
        leaves: of several arrays the names of those to standardise, such as ("age", "people/0"); None: all floats.
            Integers may be categories, so they stay.

    >>> import fnn
    >>> scale = fnn.standardiser([[1.0, 7.0], [3.0, 7.0]])
    >>> print(scale([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]]))
    [[-1.  0.]
     [ 1.  0.]
     [ 3.  0.]]
    >>> scale = fnn.standardiser({"age": [[1.0], [3.0]], "town": [7, 8]})
    >>> print(scale({"age": [[5.0]], "town": [8]}))
    {'age': array([[3.]]), 'town': array([8])}
    """
    return _fit("x", x, leaves)


def _fit(name: str, x: ArrayLike | Tree, leaves: Sequence[str] | None = None) -> Standardiser:
    names, table = arrays.columns((x, None)), checks.tables(name, x)
    if not is_several(x):
        if leaves is not None:
            check_leaf_names("leaves", table, leaves)
        return Standardiser(*_moments(np.asarray(table)), names)
    wanted = None if leaves is None else check_leaf_names("leaves", table, leaves)

    def one(leaf: str, a: Any) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        chosen = np.asarray(a).dtype.kind == "f" if wanted is None else way_of(leaf) in wanted
        return _moments(np.asarray(a)) if chosen else (None, None)

    both = {leaf: one(leaf, a) for leaf, a in named_leaves("", table).items()}
    mean = map_leaves("", lambda leaf, a: both[leaf][0], table)
    return Standardiser(mean, map_leaves("", lambda leaf, a: both[leaf][1], table), names)


def check_leaf_names(name: str, x: Tree, leaves: Sequence[str]) -> tuple[str, ...]:
    """Names of some of several inputs, such as "age" or "people/0".

    >>> import numpy as np
    >>> from fnn.data.scaling import check_leaf_names
    >>> check_leaf_names("leaves", {"age": np.zeros((2, 1)), "town": np.zeros((2, 1))}, ["age"])
    ('age',)
    """
    if not is_several(x):
        got = arguments.describe_value(leaves)
        raise ValueError(f"{name}: expected names for several inputs alone, got {got} for one array. Omit {name}.")
    known = [way_of(leaf) for leaf in named_leaves("", x)]
    several = isinstance(leaves, (list, tuple)) and len(leaves) > 0
    wrong = [leaf for leaf in leaves if leaf not in known] if several else [leaves]
    if wrong:
        got = arguments.describe_value(wrong[0])
        raise ValueError(f"{name}: expected some of the inputs {', '.join(known)}, got {got}. Write {[known[0]]}.")
    return tuple(leaves)


def way_of(leaf: str) -> str:
    """The name of a leaf, such as `["people"][0]`, as a user writes it among others: `people/0`."""
    return leaf.strip("[]").replace("][", "/").replace('"', "")


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each column."""
    mean, deviation = x.mean(0, np.float64), x.std(0, np.float64)  # float16 would overflow, float32 lose digits
    constant = (x == x[0]).all(0)  # rounding can leave such a column a deviation that is not quite 0
    return np.where(constant, x[0], mean), np.where(constant | (deviation == 0), 1.0, deviation)


@overload
def standardise(train: ArrayLike | Tree, *, leaves: Sequence[str] | None = ...) -> Any: ...
@overload
def standardise(
    train: ArrayLike | Tree, other: ArrayLike | Tree, /, *others: ArrayLike | Tree, leaves: Sequence[str] | None = ...
) -> tuple[Any, ...]: ...
def standardise(train: ArrayLike | Tree, *others: ArrayLike | Tree, leaves: Sequence[str] | None = None) -> Any:
    """The training rows, and any others, standardised by the training rows: `x, x_test = standardise(x, x_test)`.

    Mean 0 and standard deviation 1 in every column of `train`; a column that never changes becomes 0. Of dicts or
    tuples of arrays those that are floats, or those named by `leaves`, as for `fnn.standardiser`.

    >>> import fnn
    >>> x, x_test = fnn.standardise([[1.0], [3.0]], [[5.0]])
    >>> print(x.ravel(), x_test.ravel())
    [-1.  1.] [3.]
    """
    fitted = _fit("train", train, leaves)
    names = ("train", *(f"others[{i}]" for i in range(len(others))))
    made = tuple(fitted.apply(name, x) for name, x in zip(names, (train, *others), strict=True))
    return made if others else made[0]
