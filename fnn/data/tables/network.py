"""The usual network of a table."""

import math
from collections.abc import Sequence
from typing import Any

from fnn import activations, arguments
from fnn.data.tables.columns import Categories, Numbers
from fnn.data.tables.table import Table
from fnn.layers.branches.joining import concatenate
from fnn.layers.branches.splitting import parallel
from fnn.layers.combinators import serial
from fnn.layers.embedding import embedding
from fnn.layers.images.convolution import flatten
from fnn.layers.linear import dense
from fnn.layers.noise import dropout as drop
from fnn.types import Layer

MOST = 50  # numbers that a category becomes
NEAR_0 = 0.01  # how vectors begin: what was not there in the training stays so, and is predicted from the rest


@arguments.explain_call
def network_for(table: Table, hidden: Sequence[int] = (64, 32), *, dropout: float = 0.0) -> Layer:
    """The usual network of a table: a vector per category, beside the numbers; then dense layers with relu.

    A column of `n` categories has vectors of `min(50, round(1.6 n^0.56))` numbers, a rule of fastai. They begin near 0,
    so that a category which was not there in the training is predicted from the other columns. Each target has an
    output layer: one output for a number, one logit per class.

    Args:
        table: what `fnn.Table.fit` found.
        hidden: outputs of the hidden layers.
        dropout: the share that is dropped after each of them, at least 0 and below 1.

    >>> import fnn, pandas
    >>> frame = pandas.DataFrame({"area": [50, 60, 90], "town": ["Ulm", "Bonn", "Ulm"], "price": [1e5, 2e5, 3e5]})
    >>> net = fnn.network_for(fnn.Table.fit(frame, target="price"), hidden=(8,))
    >>> net.layers[-1]
    dense(1)
    """
    if not isinstance(table, Table):
        got = arguments.describe_thing(table)
        raise TypeError(f"network_for: expected a Table, got {got}. Pass fnn.Table.fit(frame, target=…).")
    if not isinstance(hidden, (list, tuple)):
        got = arguments.describe_thing(hidden)
        raise TypeError(f"hidden: expected sizes of layers, got {got}. Write hidden=(64, 32).")
    sizes = [arguments.whole_number("hidden", size, 1, "Write hidden=(64, 32).") for size in hidden]
    noise = [] if isinstance(dropout, (int, float)) and dropout == 0 else [drop(dropout)]
    layers: list[Any] = _entry(table)
    for size in sizes:
        layers += [dense(size), activations.relu, *noise]
    if table.one:
        return serial(*layers, dense(table.targets[0].outputs))
    return serial(*layers, parallel(**{target.name: dense(target.outputs) for target in table.targets}))


def _entry(table: Table) -> list[Layer]:
    """Numbers as they are, categories as vectors, side by side."""
    each = {
        column.name: serial(embedding(column.size, _features(column.size), weight_init=NEAR_0), flatten())
        for column in table.columns
        if isinstance(column, Categories)
    }
    both: dict[str, Layer] = {}
    if any(isinstance(column, Numbers) for column in table.columns):
        both["numbers"] = serial()
    if each:
        both["categories"] = serial(parallel(**each), concatenate())
    return [parallel(**both), concatenate()]


def _features(size: int) -> int:
    return min(MOST, round(1.6 * math.pow(size, 0.56)))
