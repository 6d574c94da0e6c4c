"""Categories as vectors that are learned: a table with one row for each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import arguments
from fnn.factories import factory
from fnn.layers.entries import Entry, entries
from fnn.layers.linear import Initial, initial_deviation, initial_values
from fnn.layers.precision import float32_or_wider
from fnn.types import Array, Cache, Key, Layer, LayerLike, Params, Shape, State, Train

TABLE = "table"  # the name of the parameter


@factory
def embedding(size: int, features: int, *, weight_init: Initial = 1.0) -> Layer:
    """Categories as vectors that are learned: `y[n, ..., :] = table[x[n, ...], :]`.

    `x` has whole numbers from 0 to `size - 1`, as integers or as floats. Words of a text, of shape `(batch, words)`,
    become `(batch, words, features)`; `fnn.flatten()` behind it, or `fnn.conv1d`, makes use of all of them. A column
    of categories is `(batch, 1)`.

    Backward: `dtable[k, :] = Σ dy[n, ..., :]` over the places where `x` is `k`: what a category was not among has
    the derivative 0. Whole numbers have no derivative: `dx = 0`.

    What that 0 means is up to the optimizer. `optax.sgd` leaves the rows of categories that a batch does not have as
    they are. With momentum, in `adam` and with weight decay every row moves in every step, also one that was not seen:
    its momentum goes on, its moments and its weights decay. `fnn.optimizers.only_seen_rows(optax.adamw(1e-3))` moves
    the rows seen alone. A penalty such as `fnn.penalties.l2` has a derivative by every row: all count as seen.

    A number that is no category (a negative one, one of `size` or more, 2.5, nan) raises an error in `fit`, `predict`,
    `evaluate` and studies, before anything is computed, where the network's inputs reach the embedding as they are. A
    layer alone, and one that other layers give numbers to, has nan in its place and no derivative by the table.

    Args:
        size: how many categories there are, at least 1.
        features: how long a vector is, at least 1.
        weight_init: as in `dense`; the default 1.0 draws the table from a normal distribution with mean 0 and standard
            deviation 1, as standardised inputs have it and PyTorch does. Flax has `sqrt(1/features)`, Keras numbers
            even in ±0.05.

    Returns:
        A layer from `(batch, ...)` to `(batch, ..., features)` with params `{"table": (size, features)}`, whose dtype
        `y` has.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: inputs of 16 bits, which cannot tell that many categories apart.

    >>> import fnn, jax, jax.numpy as jnp
    >>> layer = fnn.embedding(3, 2)
    >>> params = {"table": jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])}
    >>> y, state, cache = layer.forward(params, (), jnp.array([2, 0, 2]), None, False)
    >>> print(y, layer.backward(params, cache, jnp.ones((3, 2)))[0]["table"], sep=" ")
    [[4. 5.]
     [0. 1.]
     [4. 5.]] [[1. 1.]
     [0. 0.]
     [2. 2.]]
    """
    hint = "Write embedding(1000, 16)."
    size = arguments.whole_number("embedding", size, 1, hint, what="a size in whole numbers")
    features = arguments.whole_number("embedding", features, 1, hint, what="a whole number of features")
    name = f"embedding({size}, {features})"
    weight_init = initial_deviation(name, "weight_init", weight_init, False)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        drawn = initial_values(f"{name}: weight_init", weight_init, jax.random.fold_in(key, 0), (size, features))
        return {TABLE: drawn}, (), (*in_shape, features)

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x, table = arguments.as_array(name, x), jnp.asarray(params[TABLE])
        row, known = _rows_of(name, x, size)
        return jnp.where(known[..., None], table.at[row].get(mode="promise_in_bounds"), jnp.nan), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        row, known = _rows_of(name, x, size)
        wide = jnp.where(known[..., None], float32_or_wider(dy), 0.0)
        sums = jnp.zeros((size, features), wide.dtype).at[row].add(wide, mode="promise_in_bounds")
        dx = jnp.zeros(x.shape, x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else dy.dtype)
        return {TABLE: sums.astype(params[TABLE].dtype)}, dx

    return Layer(None, init, forward, backward)


def _rows_of(name: str, x: Array, size: int) -> tuple[Array, Array]:
    """The row of the table for each number, row 0 for what is no category; and whether it is one."""
    floats = jnp.issubdtype(x.dtype, jnp.floating)
    if floats and size - 1 > 2 ** (jnp.finfo(x.dtype).nmant + 1):
        raise TypeError(
            f"{name}: expected numbers that tell {size} categories apart, got {x.dtype}. Put the embedding "
            "before mixed_precision, and give it integers or float32."
        )
    if not floats and x.dtype.itemsize < 4:  # bytes and bools, beside which the size may not fit
        x = x.astype(jnp.int32)
    known = (x >= 0) & (x < size)
    if floats:
        known &= x == jnp.floor(x)
    return jnp.where(known, x, jnp.zeros_like(x)).astype(jnp.int32), known


# ---- categories that there are not, on the host


def check_categories(net: LayerLike, name: str, x: Any, first: int = 0, count: int | None = None) -> None:
    """A ValueError where inputs that reach an embedding as they are have a number that is no category of its table.

    Args:
        net: the network.
        name: what errors call the inputs.
        x: the inputs, known numbers.
        first: which row of the data their first is.
        count: how many of the rows to look at, the others being filling; None: all.

    >>> import fnn, numpy as np
    >>> from fnn.layers.embedding import check_categories
    >>> check_categories(fnn.serial(fnn.embedding(3, 2), fnn.flatten()), "x", np.array([[0], [1], [3]]))
    Traceback (most recent call last):
        ...
    ValueError: x: expected whole numbers from 0 to 2, the categories of embedding(3, 2), got 3 in row 2. Use
    embedding(4, 2), or leave out what is beyond.
    """
    for entry in entries(net, embedding, name, x):
        _check_entry(entry, first, count)


def _check_entry(entry: Entry, above: int, count: int | None) -> None:
    size, features = (value for name, value in entry.spec.arguments if name != "weight_init")
    x = np.asarray(entry.x)[:count]
    bad = ~((x >= 0) & (x < size) & (np.floor(x) == x)).reshape(len(x), -1).all(1)
    if not bad.any():
        return
    row = int(np.argmax(bad))
    numbers = np.asarray(x[row], np.float64).ravel()
    first = next(n for n in numbers if not (0 <= n < size and n == np.floor(n)))
    whole, largest = bool((np.floor(x) == x).all() and (x >= 0).all()), float(x.max())
    hint = "Number the categories from 0, in whole numbers."
    if first != np.floor(first):  # of numbers that were categories, perhaps
        hint = "Number the categories from 0, in whole numbers, and leave them out of standardise."
    if whole and largest < 2**31 - 1:
        hint = f"Use embedding({int(largest) + 1}, {features}), or leave out what is beyond."
    raise ValueError(
        f"{entry.name}: expected whole numbers from 0 to {size - 1}, the categories of embedding({size}, {features}), "
        f"got {first:.12g} in row {above + row}. {hint}"
    )
