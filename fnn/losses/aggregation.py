"""Metrics that are no mean of one number per row: from sums over rows, or from all rows at once; how they are kept.

A pass over rows (an epoch, a validation, an evaluation) goes batch by batch. Of a `SumMetric` it keeps sums, of a
`RowMetric` something of every row. Rows of weight 0 count nothing: they may be filling.
"""

import copyreg
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arguments import array_of, call, describe_thing
from fnn.arguments.leaves import describe_shape, row_arrays, row_count
from fnn.factories import reduce
from fnn.losses.reduction import dtype_of_sums, row_values, row_weights, weighted_sum
from fnn.runs import RunningSums
from fnn.types import Array, ArrayLike, Record, ShapeError, TargetCheck, Tree

NO_NUMBER = "Call fnn.evaluate, which returns it whole, or pass a metric that is one number."


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class SumMetric(Record):
    """A metric that is a figure of sums over rows. `fnn.metrics.from_sums` makes one of your own.

    - `sums(outputs, targets, weight)`: sums over the rows of a batch, a pytree of arrays; a row counts by its weight.
    - `figure(sums)`: the metric from the sums over all batches; None where the sums themselves are the metric.
    - `mode`: "max" or "min", which is better, where that is known: then `fit` needs no `mode`.
    - `check(outputs, targets)`: optional; raises for targets whose VALUES are wrong, as that of a `Loss` does.
    - `merge(sums, more)`: optional; how sums of two batches become one where they are not simply added.
    - `missing`: what stands for a target that is missing, as of a `Loss`: nan where the targets may be nan.

    Called with outputs, targets and, if they are not all 1, weights, it is the metric of these rows.
    """

    spec: Any
    sums: Callable[[Any, Any, Array], Tree]
    figure: Callable[[Tree], Any] | None = None
    mode: str | None = None
    check: TargetCheck | None = None
    merge: Callable[[Tree, Tree], Tree] | None = None
    missing: Tree = None

    def __call__(self, outputs: Tree, targets: Tree, weights: ArrayLike | None = None) -> Array:
        """The metric of these rows."""
        name = str(self)
        y, t, w = _rows(name, outputs, targets, weights)
        made: Array = whole_figure(name, self, self.sums(y, t, w))
        return made

    def __repr__(self) -> str:
        return str(self.spec)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class RowMetric(Record):
    """A metric that needs all rows at once, as ranks do. `fnn.metrics.from_rows` makes one of your own.

    - `keep(outputs, targets)`: what is kept of each row, a pytree of arrays `(batch, ...)`.
    - `figure(kept, weight)`: the metric from that of all rows. Rows of weight 0 are filling, and must not count.
    - `mode`, `check`, `missing`: as of a `SumMetric`.

    Called with outputs, targets and, if they are not all 1, weights, it is the metric of these rows.
    """

    spec: Any
    keep: Callable[[Any, Any], Tree]
    figure: Callable[[Tree, Array], Any]
    mode: str | None = None
    check: TargetCheck | None = None
    missing: Tree = None

    def __call__(self, outputs: Tree, targets: Tree, weights: ArrayLike | None = None) -> Array:
        """The metric of these rows."""
        name = str(self)
        y, t, w = _rows(name, outputs, targets, weights)
        made: Array = whole_figure(name, self, (self.keep(y, t), w))
        return made

    def __repr__(self) -> str:
        return str(self.spec)


JOINT = (SumMetric, RowMetric)  # the metrics of which a row has no number of its own
for _kind in JOINT:
    copyreg.pickle(_kind, reduce)


def _rows(name: str, outputs: Tree, targets: Tree, weights: ArrayLike | None) -> tuple[Tree, Tree, Array]:
    y, t = row_arrays(name, outputs, "real outputs"), row_arrays(name, targets, "real targets")
    rows = {leaf.shape[:1] for leaf in jax.tree.leaves((y, t))}
    if () in rows or len(rows) != 1:
        of_rows, got = (describe_shape(tree) for tree in (y, t))
        raise ShapeError(f"{name}: expected a target for each row of {of_rows}, got {got}. Pass one per row.")
    return y, t, weights_of(y, weights)


def weights_of(outputs: Tree, weight: ArrayLike | None) -> Array:
    """One weight per row, in the dtype in which metrics of these outputs are added up."""
    dtype, rows = dtype_of_sums(jax.tree.leaves(outputs)[0].dtype), row_count(outputs)
    return jnp.ones(rows, dtype) if weight is None else row_weights(weight, rows).astype(dtype)


def weigh(values: Array, weight: Array) -> Array:
    """`Σ_i w_i values_i` over the rows; rows of weight 0 do not count, whatever their values."""
    dtype = max(weight.dtype, values.dtype, key=lambda dtype: jnp.issubdtype(dtype, jnp.floating) * dtype.itemsize)
    w = weight.astype(dtype).reshape(-1, *[1] * (values.ndim - 1))
    return jnp.where(w > 0, values.astype(dtype) * w, 0.0).sum(0)


def whole_figure(name: str, metric: Any, total: Tree) -> Any:
    """The metric from what was collected of all rows, of any shape."""
    if isinstance(metric, RowMetric):
        value = call(name, metric.figure, *total, what="a figure of all rows")
    elif metric.figure is None:
        return total
    else:
        value = call(name, metric.figure, total, what="a figure of the sums")
    return jax.tree.map(lambda leaf: array_of(name, leaf, "a figure"), value)


def one_figure(name: str, metric: Any, total: Tree) -> Array:
    """The metric as one number, as a history holds it."""
    value = whole_figure(f"metrics[{name!r}]", metric, total)
    if not isinstance(value, jax.Array) or value.shape != ():
        got = f"one of shape {value.shape}" if isinstance(value, jax.Array) else describe_thing(value)
        raise ShapeError(f"metrics[{name!r}]: expected one number per epoch, got {got}. {NO_NUMBER}")
    return value


def figure_of_batch(name: str, metric: Any, outputs: Tree, t: Tree) -> Array:
    """The metric of these rows as one number; what it cannot be a metric of raises."""
    w = weights_of(outputs, None)
    if isinstance(metric, RowMetric):
        return one_figure(name, metric, (kept_rows(name, metric, outputs, t), w))
    return one_figure(name, metric, batch_sums(name, metric, outputs, t, w))


# ---- what is collected of a batch, and of many


def metric_sums(metrics: Mapping[str, Any], outputs: Tree, t: Tree, weight: Array | None) -> dict[str, Tree]:
    """What of each metric is added up over batches: `Σ weight × metric`, or the sums of a `SumMetric`."""
    return {
        name: weighted_sum(row_values(f"metric {name}", metric, outputs, t), weight)[0]
        if not isinstance(metric, JOINT)
        else batch_sums(name, metric, outputs, t, weights_of(outputs, weight))
        for name, metric in metrics.items()
        if not is_collected(metric)
    }


def batch_sums(name: str, metric: Any, outputs: Tree, t: Tree, weight: Array) -> Tree:
    """The sums of a batch, in float32 at least."""
    sums = call(f"metrics[{name!r}]", metric.sums, outputs, t, weight)
    return jax.tree.map(lambda a: a.astype(dtype_of_sums(a.dtype)), sums)


def is_collected(metric: object) -> bool:
    """Whether what is kept of a metric is not simply added up over batches."""
    return isinstance(metric, RowMetric) or (isinstance(metric, SumMetric) and metric.merge is not None)


def collect_batch(metrics: Mapping[str, Any], outputs: Tree, t: Tree, weight: Array | None) -> dict[str, Tree]:
    """What is kept of a batch for the metrics that are not added up: sums to merge, or rows and their weights."""
    made: dict[str, Tree] = {}
    for name, metric in metrics.items():
        if not is_collected(metric):
            continue
        w = weights_of(outputs, weight)
        if isinstance(metric, RowMetric):
            made[name] = kept_rows(name, metric, outputs, t), w
        else:
            made[name] = batch_sums(name, metric, outputs, t, w)
    return made


def kept_rows(name: str, metric: RowMetric, outputs: Tree, t: Tree) -> Tree:
    """What is kept of each row of a batch."""
    kept = call(f"metrics[{name!r}]", metric.keep, outputs, t)
    for leaf in jax.tree.leaves(kept):
        if jnp.shape(leaf)[:1] != (row_count(outputs),):
            raise ShapeError(
                f"metrics[{name!r}]: expected one thing per row to keep, shape ({row_count(outputs)}, ...), got "
                f"{jnp.shape(leaf)}. Leave what is done over rows to the figure."
            )
    return kept


def join_batch(
    metrics: Mapping[str, Any], old: dict[str, Tree], new: dict[str, Tree], j: Array, counts: Any = True
) -> dict[str, Tree]:
    """What is kept, with that of batch `j` of equal batches; as it was where this batch does not count."""
    joined = {}
    for name, more in new.items():
        metric, before = metrics[name], old[name]
        if isinstance(metric, RowMetric):
            joined[name] = jax.tree.map(lambda a, b: _write_rows(a, b, j, counts), before, more)
        else:
            joined[name] = _where(counts, metric.merge(before, more), before)
    return joined


def _write_rows(rows: Array, batch: Array, j: Array, counts: Any) -> Array:
    place, size = j * len(batch), len(batch)
    written = _where(counts, batch, lax.dynamic_slice_in_dim(rows, place, size))
    return lax.dynamic_update_slice_in_dim(rows, written, place, 0)


def _where(counts: Any, new: Tree, old: Tree) -> Tree:
    return new if counts is True else jax.tree.map(lambda a, b: jnp.where(counts, a, b), new, old)


def blank_collection(metrics: Mapping[str, Any], batch: dict[str, Tree], room: int) -> dict[str, Tree]:
    """What is kept before the first batch, from the shapes of what is kept of one; with room for so many rows."""
    blank = {}
    for name, leaves in batch.items():
        rows = isinstance(metrics[name], RowMetric)
        blank[name] = jax.tree.map(
            lambda a, rows=rows: jnp.zeros((room, *a.shape[1:]) if rows else a.shape, a.dtype), leaves
        )
    return blank


def metric_figures(metrics: Mapping[str, Any], sums: RunningSums, weight: Array) -> dict[str, Array]:
    """The figure of each metric; `weight`: that of all rows, nan where no row counts."""
    made = {}
    for name, metric in metrics.items():
        if not isinstance(metric, JOINT):
            total = sums.metrics[name]
            made[name] = total / weight.astype(total.dtype)
        else:
            total = sums.collected[name] if is_collected(metric) else sums.metrics[name]
            value = one_figure(name, metric, total)
            made[name] = jnp.where(sums.weight > 0, value.astype(sums.loss.dtype), jnp.nan)
    return made
