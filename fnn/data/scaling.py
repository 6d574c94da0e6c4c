"""Data on the host, before training: standardised inputs, rows held out."""

from typing import Any, NamedTuple

import numpy as np

from fnn.data import arrays, checks
from fnn.types import Columns, ShapeError


class Standardiser(NamedTuple):
    """What `standardiser` found in the training rows; calling it applies it to any rows."""

    mean: np.ndarray
    deviation: np.ndarray
    columns: Columns | None = None  # of the frame that it was fitted to

    def __call__(self, x: Any) -> np.ndarray:
        """`(x - mean)/deviation`, column by column; computed in float64, in the dtype of `x` if that is floating."""
        arrays.same_columns("x", self.columns, arrays.columns((x, None)))
        x = np.asarray(checks.rows("x", x))
        if x.shape[1:] != self.mean.shape:
            raise ShapeError(
                f"x: expected rows of shape {self.mean.shape}, as the standardiser was fitted to, got {x.shape[1:]}. "
                "Do pass the same columns."
            )
        return ((x - self.mean) / self.deviation).astype(x.dtype if x.dtype.kind == "f" else self.mean.dtype)


def standardiser(x: Any) -> Standardiser:
    """Fit `(x - mean)/deviation` to the training rows, column by column; document D3's advice.

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
    names = arrays.columns((x, None))
    x = np.asarray(checks.rows("x", x))
    mean, deviation = x.mean(0, np.float64), x.std(0, np.float64)  # float16 would overflow, float32 lose digits
    constant = (x == x[0]).all(0)  # rounding can leave such a column a deviation that is not quite 0
    return Standardiser(np.where(constant, x[0], mean), np.where(constant | (deviation == 0), 1.0, deviation), names)


def standardise(train: Any, *others: Any) -> Any:
    """The training rows, and any others, standardised by the training rows: `x, x_test = standardise(x, x_test)`.

    Mean 0 and standard deviation 1 in every column of `train`; a column that never changes becomes 0.

    >>> import fnn
    >>> x, x_test = fnn.standardise([[1.0], [3.0]], [[5.0]])
    >>> print(x.ravel(), x_test.ravel())
    [-1.  1.] [3.]
    """
    apply = standardiser(train)
    return tuple(apply(x) for x in (train, *others)) if others else apply(train)


def hold_out(x: Any, t: Any, fraction: float = 0.25, *, key: int = 0, stratify: Any = None) -> Any:
    """Split rows at random: `(x_train, t_train), (x_held, t_held) = hold_out(x, t)`.

    Args:
        x, t: as many rows each.
        fraction: of the rows to hold out, between 0 and 1; rounded up to whole rows.
        key: the seed of the split.
        stratify: the class of each row, as for `fnn.folds`: whole numbers or names `(rows,)`, one-hot rows
            `(rows, classes)`, or a column of 0 and 1. Each is held out in the same proportion, to within one row.

    >>> import fnn, numpy as np
    >>> (x, t), (x_held, t_held) = fnn.hold_out(np.arange(8), np.arange(8), 0.25)
    >>> print(len(x), len(x_held), sorted([*x, *x_held]) == list(range(8)))
    6 2 True
    """
    fraction = checks.fraction("fraction", fraction)
    x, t = checks.rows("x", x), checks.rows("t", t)
    checks.same_rows("hold_out", x, t)
    rng = np.random.default_rng(checks.whole_number("key", key, 0))
    count = int(np.ceil(fraction * len(x)))
    if count == len(x):
        raise ValueError(
            f"fraction: expected rows to be left to train on, got {fraction} of {len(x)} rows. Do lower it."
        )
    classes = np.zeros(len(x), int)
    if stratify is not None:
        classes = strata("stratify", stratify, len(x))
    held = np.sort(_sample(classes, count, rng))
    train = np.setdiff1d(np.arange(len(x)), held)
    return (x[train], t[train]), (x[held], t[held])


def held_rows(t: np.ndarray, fraction: float, seed: Any) -> np.ndarray:
    """Which rows to hold out for validation, in order: `fraction` of them, rounded up, at random.

    Where the targets are classes, each is held out in the same proportion, to within one row: class numbers (integers
    of shape `(rows,)`), one-hot rows, or one column of 0 and 1.

    >>> import numpy as np
    >>> from fnn.data.scaling import held_rows
    >>> labels = np.repeat([0, 1], [8, 4])
    >>> print(np.bincount(labels[held_rows(labels, 0.25, 0)]))
    [2 1]
    """
    rng = np.random.default_rng(seed)
    count = int(np.ceil(fraction * len(t)))
    if count == len(t):
        raise ValueError(
            f"validation: expected rows to be left to train on, got {fraction} of {len(t)} rows. Do lower it."
        )
    _, classes = np.unique(classes_of(t), return_inverse=True)
    order = rng.permutation(classes.max() + 1)  # else of many small classes those with low numbers would be held out
    return np.sort(_sample(order[classes], count, rng))


def are_classes(t: np.ndarray) -> bool:
    """Whether targets are classes: integers `(rows,)`, one-hot rows `(rows, classes)`, or a column of 0 and 1.

    >>> import numpy as np
    >>> from fnn.data.scaling import are_classes
    >>> are_classes(np.array([0, 2, 1])), are_classes(np.array([[0], [1]])), are_classes(np.array([0.3, 1.7]))
    (True, True, False)
    """
    if t.ndim == 1:
        return t.dtype.kind in "biu"
    one_each = t.ndim == 2 and bool(((t == 0) | (t == 1)).all())
    return one_each and (t.shape[1] == 1 or bool((t.sum(1) == 1).all()))


def classes_of(t: np.ndarray) -> np.ndarray:
    """The class of each row, `(rows,)`; all 0 where the targets are no classes.

    >>> import numpy as np
    >>> from fnn.data.scaling import classes_of
    >>> print(classes_of(np.array([[0.0, 1.0], [1.0, 0.0]])), classes_of(np.array([0.3, 1.7])))
    [1 0] [0 0]
    """
    if not are_classes(t):
        return np.zeros(len(t), int)
    if t.ndim == 1:
        return t
    return t[:, 0] if t.shape[1] == 1 else t.argmax(1)


def _sample(classes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` rows at random, from every class its share, to within one row."""
    members = [np.flatnonzero(classes == c) for c in np.unique(classes)]
    shares = np.array([len(m) * count / len(classes) for m in members])
    counts = np.floor(shares).astype(int)
    largest_remainders = np.argsort(counts - shares, kind="stable")[: count - counts.sum()]
    counts[largest_remainders] += 1
    return np.concatenate([rng.permutation(m)[:c] for m, c in zip(members, counts, strict=True)])


# ---- classes and groups, as a user hands them over


def strata(name: str, value: Any, count: int) -> np.ndarray:
    """The class of each row, `(rows,)`: from whole numbers or names, one-hot rows, or a column of 0 and 1.

    Raises:
        ShapeError: not one class per row; or columns that are none of these, such as probabilities.

    >>> from fnn.data.scaling import strata
    >>> print(strata("stratify", ["b", "a"], 2), strata("stratify", [[0, 1], [1, 0]], 2))
    ['b' 'a'] [1 0]
    """
    given = labels_of(name, value, count)
    if given.ndim > 1 and not are_classes(given):
        wanted, got = "one class a row, one-hot rows, or a column of 0 and 1", f"other {given.dtype} {given.shape}"
        raise ShapeError(f"{name}: expected {wanted}, got {got}. Do pass classes of shape ({count},).")
    return given if given.ndim == 1 else classes_of(given)


def labels_of(name: str, value: Any, count: int) -> np.ndarray:
    """Whole numbers or names, as many as there are rows."""
    array = _names(name, value)
    if array is None:
        array = np.asarray(checks.rows(name, value))
        array = array if array.dtype.kind in "biu" else array.astype(np.float64)
    if len(array) != count:
        raise ShapeError(f"{name}: expected one for each of {count} rows, got {len(array)}. Do pair them row by row.")
    if array.dtype.kind == "f" and (array != np.floor(array)).any():
        place = tuple(np.argwhere(array != np.floor(array))[0])
        got = f"{array[place]:g} in row {place[0]}"
        raise ValueError(f"{name}: expected whole numbers or names, got {got}. Do number them 0, 1, ….")
    return array


def _names(name: str, value: Any) -> np.ndarray | None:
    """An array of strings if `value` is one, else None. NumPy would make a name of None or nan in silence."""
    array = np.array(value, object) if isinstance(value, (list, tuple)) else np.asarray(value)
    if array.dtype.kind not in "OUT" or array.ndim == 0 or isinstance(value, np.ma.MaskedArray):
        return None
    strings = np.array([isinstance(v, str) for v in array.ravel()], bool).reshape(array.shape)
    if strings.any() and not strings.all():
        place = tuple(np.argwhere(~strings)[0])
        got = f"{array[place]!r} in row {place[0]}"
        raise TypeError(f"{name}: expected names only, got {got}. Do name it too, or drop the row.")
    return array.astype(object).astype(str) if strings.any() else None
