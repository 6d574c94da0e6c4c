"""Metrics of a user's own: from sums over rows, or from all rows at once."""

from collections.abc import Callable
from typing import Any

import jax

from fnn.arguments import array_of, call, function, one_of
from fnn.factories import note_call
from fnn.losses.aggregation import RowMetric, SumMetric, weigh
from fnn.types import Array, ShapeError, Tree


def from_sums(
    terms: Callable[[Any, Any], Tree], figure: Callable[[Tree], Any] | None = None, *, mode: str | None = None
) -> SumMetric:
    """A metric from sums over rows: `figure(Σ_i w_i terms_i)`.

    Args:
        terms: `(outputs, targets) -> ` a pytree of arrays `(batch, ...)`, whose rows are what is added up. fnn adds
            them up, with the weights of the rows, over batches of any size, in float32 at least. Pass ones for the sum
            of the weights.
        figure: `sums -> ` the metric, of sums of the shapes of `terms` without the batch. One number for a history;
            `fnn.evaluate` returns others whole. None: the sums are the metric.
        mode: "max" or "min", which is better, so that `fit(..., monitor=…)` needs no `mode`.

    >>> import fnn, jax.numpy as jnp
    >>> def terms(outputs, targets):
    ...     return {"error": jnp.abs(outputs - targets).sum(-1), "size": jnp.abs(targets).sum(-1)}
    >>> relative = fnn.metrics.from_sums(terms, lambda s: s["error"] / s["size"], mode="min")
    >>> print(relative([[1.0], [5.0]], [[2.0], [6.0]]))
    0.25
    """
    function("from_sums", terms, 2, "terms of outputs and targets", "Pass a function of outputs and targets.")
    if figure is not None:
        function("from_sums", figure, 1, "a figure of the sums", "Pass a function of the sums.")
    mode = _check_mode("from_sums", mode)

    def sums(outputs: Array, targets: Array, weight: Array) -> Tree:
        made = call("terms", terms, outputs, targets)
        return jax.tree.map(lambda leaf: weigh(_rows_of(leaf, len(weight)), weight), made)

    made = SumMetric(_name(terms), sums, figure, mode)
    return note_call(made, from_sums, {"terms": terms, "figure": figure, "mode": mode})


def _rows_of(leaf: object, rows: int) -> Array:
    array = array_of("terms", leaf, "arrays with one row per row", floats=False)
    if array.shape[:1] != (rows,):
        raise ShapeError(
            f"terms: expected arrays of shape ({rows}, ...), one row per row, got {array.shape}. "
            "Leave the sum over rows to fnn."
        )
    return array


def from_rows(
    figure: Callable[[Any, Array], Any],
    keep: Callable[[Any, Any], Tree] | None = None,
    *,
    mode: str | None = None,
) -> RowMetric:
    """A metric that needs all rows at once: `figure(kept, weight)`.

    What is kept of every row of an epoch stays in memory, also in a checkpoint. A stream has no such metrics: its rows
    need not fit in memory.

    Args:
        figure: `(kept, weight) -> ` one number, of what is kept of all rows and a weight `(rows,)` for each. Rows of
            weight 0 are filling and must not count.
        keep: `(outputs, targets) -> ` a pytree of arrays `(batch, ...)`, what of each row is kept; None keeps
            `(outputs, targets)`.
        mode: "max" or "min", which is better, so that `fit(..., monitor=…)` needs no `mode`.

    >>> import fnn, jax.numpy as jnp
    >>> def worst(kept, weight):
    ...     outputs, targets = kept
    ...     return jnp.where(weight > 0, jnp.abs(outputs - targets)[:, 0], 0.0).max()
    >>> print(fnn.metrics.from_rows(worst, mode="min")([[1.0], [5.0]], [[2.0], [3.0]]))
    2.0
    """
    hint = "Pass a function of what is kept and of the weights."
    function("from_rows", figure, 2, "a figure of all rows", hint)
    if keep is not None:
        function("from_rows", keep, 2, "keep of outputs and targets", "Pass a function of outputs and targets.")
    mode = _check_mode("from_rows", mode)
    made = RowMetric(_name(figure), _both if keep is None else keep, figure, mode)
    return note_call(made, from_rows, {"figure": figure, "keep": keep, "mode": mode})


def _both(outputs: Array, targets: Array) -> tuple[Array, Array]:
    return outputs, targets


def _check_mode(name: str, mode: object) -> str | None:
    return None if mode is None else one_of(f"{name}, mode", mode, ("max", "min"))


def _name(thing: object) -> str:
    return str(getattr(thing, "__name__", "metric"))
