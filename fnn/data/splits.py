"""Splits of the rows, on the host: `folds` of a cross-validation (indices as scikit-learn has them), and `hold_out`.

Stone 1974, "Cross-validatory choice and assessment of statistical predictions"; Kohavi 1995 for stratification.
"""

from __future__ import annotations  # `help` then shows types by their names

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fnn import arguments
from fnn.arguments import sparse
from fnn.arguments.leaves import row_count
from fnn.data import checks
from fnn.types import ArrayLike, ShapeError, Tree

Pair = tuple[np.ndarray, np.ndarray]
Table = tuple[Any, Any]  # inputs and targets: arrays of NumPy or of JAX, as they were given
Generator = np.random.RandomState | None


@arguments.explain_call
def folds(
    rows: int | ArrayLike,
    k: int = 5,
    *,
    key: int | None = None,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    repeats: int = 1,
) -> list[Pair]:
    """Split rows into k folds, each of which is the test fold once: `for train, test in folds(len(x))`.

    In each repeat every row is in exactly one test fold, and in the training rows of the k - 1 others. No fold is
    empty, and:

    - plain: test folds differ by at most one row in size. Without a key they are blocks of neighbouring rows.
    - `stratify`: so they do, and so does each class in them.
    - `groups`: all rows of a group are in the same test fold. Without a key the largest group left goes to the
      smallest fold, so that sizes are nearly even; with a key the numbers of groups differ by at most one.

    The indices are those of scikit-learn (1.6 or later): `KFold`, `StratifiedKFold`, `GroupKFold`, with a key those of
    `shuffle=True, random_state=key`; for repeats `RepeatedKFold`, `RepeatedStratifiedKFold`. The first repeat is what
    the same key gives without repeats.

    Args:
        rows: how many rows, at least 2; or something as long, such as the inputs, which may be a dict of arrays.
        k: how many folds, from 2 to as many as there are rows, groups, or rows of the rarest class.
        key: None keeps the rows in the given order, so do not use it for rows that are sorted by class; an integer
            from 0 to 2³² - 1 shuffles.
        stratify: None, or the class of each row: whole numbers or names `(rows,)`, one-hot rows `(rows, classes)`, or
            a column of 0 and 1 `(rows, 1)`.
        groups: None, or the group of each row, such as the patient whom it is of: whole numbers or names `(rows,)`.
        repeats: how often to do it all, each time with another shuffle; more than once needs a key.

    Returns:
        `repeats * k` pairs `(train, test)` of row numbers, int64, ascending; repeat by repeat.

    Raises:
        ValueError, TypeError: an argument is none of the above, `stratify` and `groups` are both given, or a class has
            fewer than k rows (where scikit-learn only warns).
        ShapeError: not one class, or not one group, a row.

    >>> import fnn
    >>> for train, test in fnn.folds(5, 2):
    ...     print(train, test)
    [3 4] [0 1 2]
    [0 1 2] [3 4]
    >>> for train, test in fnn.folds(6, 2, stratify=["a", "a", "a", "a", "b", "b"], key=0):
    ...     print(train, test)
    [0 1 5] [2 3 4]
    [2 3 4] [0 1 5]
    """
    count = _count(rows)
    k, repeats = arguments.whole_number("k", k, 2), arguments.whole_number("repeats", repeats, 1)
    _check_at_most(k, count, "rows")
    rng = _generator(key, repeats)
    if stratify is not None and groups is not None:
        raise ValueError("folds: expected stratify or groups, got both. Pass groups alone, to keep them whole.")
    split: Any = _plain
    given = np.arange(count)
    if stratify is not None:
        split, given = _class_numbers, _classes(stratify, count, k)
    elif groups is not None:
        split, given = _group_numbers, _groups(groups, count, k)
    places = [split(given, k, rng) for _ in range(repeats)]
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for fold in places for i in range(k)]


# ---- the fold of each row; every draw is the one that scikit-learn makes, in its order


def _plain(rows: np.ndarray, k: int, rng: Generator) -> np.ndarray:
    """Blocks of the rows in their order, or shuffled; the first ones get what is left over."""
    order = np.arange(len(rows)) if rng is None else rng.permutation(len(rows))
    fold = np.empty(len(rows), int)
    fold[order] = np.sort(np.arange(len(rows)) % k)
    return fold


def _class_numbers(classes: np.ndarray, k: int, rng: Generator) -> np.ndarray:
    """The rows, sorted by class, are dealt to the folds in turn; within a class, blocks, or shuffled."""
    order = np.argsort(classes, kind="stable")
    fold = np.empty(len(classes), int)
    for places in np.split(np.arange(len(classes)), np.cumsum(np.bincount(classes))[:-1]):
        dealt = np.sort(places % k)
        fold[order[places]] = dealt if rng is None else rng.permutation(dealt)
    return fold


def _group_numbers(group: np.ndarray, k: int, rng: Generator) -> np.ndarray:
    """Shuffled, the groups are split as rows would be; else the largest group left goes to the smallest fold."""
    sizes = np.bincount(group)
    if rng is not None:
        folds: np.ndarray = _plain(sizes, k, rng)[group]
        return folds
    fold_of, filled = np.empty(len(sizes), int), np.zeros(k, int)
    for g in np.argsort(sizes, kind="stable")[::-1]:  # of equal ones the last first, as scikit-learn has it
        fold_of[g] = filled.argmin()
        filled[fold_of[g]] += sizes[g]
    found: np.ndarray = fold_of[group]
    return found


# ---- what the user hands over


def _count(rows: Any) -> int:
    """How many rows, also those of arrays in a dict. The length of a tuple `(x, t)` is that of something else."""
    if isinstance(rows, dict) and rows:
        return _count(row_count(checks.tables("rows", rows)))
    unsized = not hasattr(rows, "__len__") or getattr(rows, "shape", None) == () or arguments.is_deleted(rows)
    other = isinstance(rows, (str, bytes, tuple, dict, set, type, jax.core.Tracer)) or callable(rows)
    count = rows if unsized or other else len(rows)
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        got = type(rows).__name__
        raise TypeError(f"rows: expected how many, or an array of them, got {got}. Write folds(len(x)).")
    if not 2 <= count < 2**31:
        raise ValueError(f"rows: expected at least 2 rows, got {arguments.describe_value(count)}. Pass more.")
    return int(count)


def _check_at_most(k: int, count: int, what: str) -> None:
    if k > count:
        raise ValueError(f"k: expected at most as many folds as {what}, {count}, got {k}. Write k={count}.")


def _generator(key: object, repeats: int) -> Generator:
    """scikit-learn's generator; NumPy has promised that its numbers never change (NEP 19)."""
    if key is None:
        if repeats > 1:
            raise ValueError(f"key: expected a seed, else {repeats} repeats are alike, got None. Write key=0.")
        return None
    if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or not 0 <= key < 2**32:
        got = arguments.describe_value(key) if isinstance(key, (int, float, np.number)) else type(key).__name__
        raise ValueError(f"key: expected None or a whole number from 0 to 2³² - 1, got {got}. Write key=0.")
    return np.random.RandomState(int(key))


def _classes(stratify: ArrayLike, count: int, k: int) -> np.ndarray:
    """The classes, numbered as they first appear."""
    names, first, inverse = np.unique(strata("stratify", stratify, count), return_index=True, return_inverse=True)
    sizes = np.bincount(inverse)
    if sizes.min() < k:
        least = int(sizes.argmin())
        got = f"{sizes[least]} of class {names[least].item()!r}"
        hint = f"Write k={sizes[least]}" if sizes[least] > 1 else "Add rows of it"
        raise ValueError(f"stratify: expected at least {k} rows per class, got {got}. {hint}, or stratify=None.")
    return np.argsort(np.argsort(first))[inverse]


def _groups(groups: ArrayLike, count: int, k: int) -> np.ndarray:
    """The groups, numbered in ascending order of their names."""
    labels = labels_of("groups", groups, count)
    if labels.ndim > 1:
        raise ShapeError(f"groups: expected shape ({count},), got {labels.shape}. Pass one group a row.")
    names, group = np.unique(labels, return_inverse=True)
    if len(names) == 1:
        raise ValueError(f"groups: expected at least 2 groups, got only {names[0].item()!r}. Write groups=None.")
    _check_at_most(k, len(names), "groups")
    return group


@arguments.explain_call
def hold_out(
    x: ArrayLike | Tree, t: ArrayLike | Tree, fraction: float = 0.25, *, key: int = 0, stratify: ArrayLike | None = None
) -> tuple[Table, Table]:
    """Split rows at random: `(x_train, t_train), (x_held, t_held) = hold_out(x, t)`.

    Args:
        x, t: as many rows each; arrays, or dicts or tuples of arrays, which come back as such.
        fraction: of the rows to hold out, between 0 and 1; rounded up to whole rows.
        key: the seed of the split.
        stratify: the class of each row, as for `fnn.folds`: whole numbers or names `(rows,)`, one-hot rows
            `(rows, classes)`, or a column of 0 and 1. Each is held out in the same proportion, to within one row.

    >>> import fnn, numpy as np
    >>> (x, t), (x_held, t_held) = fnn.hold_out(np.arange(8), np.arange(8), 0.25)
    >>> print(len(x), len(x_held), sorted([*x, *x_held]) == list(range(8)))
    6 2 True
    """
    fraction = arguments.fraction("fraction", fraction)
    x, t = checks.tables("x", sparse.as_inputs("x", x)), checks.tables("t", t)
    checks.same_rows("hold_out", x, t)
    rows = row_count(x)
    rng = np.random.default_rng(arguments.whole_number("key", key, 0))
    count = int(np.ceil(fraction * rows))
    if count == rows:
        raise ValueError(f"fraction: expected rows to be left to train on, got {fraction} of {rows} rows. Lower it.")
    classes = np.zeros(rows, int)
    if stratify is not None:
        classes = strata("stratify", stratify, rows)
    held = np.sort(_sample(classes, count, rng))
    train = np.setdiff1d(np.arange(rows), held)
    first, second = (jax.tree.map(lambda a, at=at: a[at], (x, t)) for at in (train, held))
    return first, second


def held_rows(t: np.ndarray, fraction: float, seed: int | Sequence[int]) -> np.ndarray:
    """Which rows to hold out for validation, in order: `fraction` of them, rounded up, at random.

    Where the targets are classes, each is held out in the same proportion, to within one row: class numbers (integers
    of shape `(rows,)`), one-hot rows, or one column of 0 and 1.

    >>> import numpy as np
    >>> from fnn.data.splits import held_rows
    >>> labels = np.repeat([0, 1], [8, 4])
    >>> print(np.bincount(labels[held_rows(labels, 0.25, 0)]))
    [2 1]
    """
    rng = np.random.default_rng(seed)
    count = int(np.ceil(fraction * len(t)))
    if count == len(t):
        raise ValueError(
            f"validation: expected rows to be left to train on, got {fraction} of {len(t)} rows. Lower it."
        )
    _, classes = np.unique(classes_of(t), return_inverse=True)
    order = rng.permutation(classes.max() + 1)  # else of many small classes those with low numbers would be held out
    return np.sort(_sample(order[classes], count, rng))


def are_classes(t: np.ndarray) -> bool:
    """Whether targets are classes: integers `(rows,)`, one-hot rows `(rows, classes)`, or a column of 0 and 1.

    >>> import numpy as np
    >>> from fnn.data.splits import are_classes
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
    >>> from fnn.data.splits import classes_of
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


def strata(name: str, value: ArrayLike, count: int) -> np.ndarray:
    """The class of each row, `(rows,)`: from whole numbers or names, one-hot rows, or a column of 0 and 1.

    Raises:
        ShapeError: not one class per row; or columns that are none of these, such as probabilities.

    >>> from fnn.data.splits import strata
    >>> print(strata("stratify", ["b", "a"], 2), strata("stratify", [[0, 1], [1, 0]], 2))
    ['b' 'a'] [1 0]
    """
    given = labels_of(name, value, count)
    if given.ndim > 1 and not are_classes(given):
        wanted, got = "one class a row, one-hot rows, or a column of 0 and 1", f"other {given.dtype} {given.shape}"
        raise ShapeError(f"{name}: expected {wanted}, got {got}. Pass classes of shape ({count},).")
    return given if given.ndim == 1 else classes_of(given)


def labels_of(name: str, value: ArrayLike, count: int) -> np.ndarray:
    """Whole numbers or names, as many as there are rows."""
    array = _names(name, value)
    if array is None:
        array = np.asarray(checks.rows(name, value))
        array = array if array.dtype.kind in "biu" else array.astype(np.float64)
    if len(array) != count:
        raise ShapeError(f"{name}: expected one for each of {count} rows, got {len(array)}. Pair them row by row.")
    if array.dtype.kind == "f" and (array != np.floor(array)).any():
        place = tuple(np.argwhere(array != np.floor(array))[0])
        got = f"{array[place]:g} in row {place[0]}"
        raise ValueError(f"{name}: expected whole numbers or names, got {got}. Number them 0, 1, ….")
    return array


def _names(name: str, value: ArrayLike) -> np.ndarray | None:
    """An array of strings if `value` is one, else None. NumPy would make a name of None or nan without a warning."""
    if isinstance(value, (jax.Array, dict)):
        return None
    array = np.array(value, object) if isinstance(value, (list, tuple)) else arguments.as_numpy(name, value)
    if array.dtype.kind not in "OUT" or array.ndim == 0 or isinstance(value, np.ma.MaskedArray):
        return None
    strings = np.array([isinstance(v, str) for v in array.ravel()], bool).reshape(array.shape)
    if strings.any() and not strings.all():
        place = tuple(np.argwhere(~strings)[0])
        got = f"{array[place]!r} in row {place[0]}"
        raise TypeError(f"{name}: expected names only, got {got}. Name it too, or drop the row.")
    return array.astype(object).astype(str) if strings.any() else None
