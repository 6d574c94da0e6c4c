"""How good a trained network is: means over rows of losses and metrics, and figures of sums or of all rows."""

from __future__ import annotations  # `help` then shows types by their names

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from fnn import arguments
from fnn.arguments.leaves import row_count, some_rows
from fnn.compilation.programs import canonical
from fnn.data import arrays, checks
from fnn.data.streams import DataLike, as_stream, check_chunk, is_stream, rechunk
from fnn.devices.memory import allow_transfers
from fnn.inference.prediction import (
    Trained,
    checked_run,
    output_shapes,
    predict as predict,
    with_true_rows,
)
from fnn.inference.row_chunks import is_mapped, program_rows, several_shape
from fnn.inference.totals import Totals, as_floats, measure_chunk
from fnn.kernels.memory import aligned_copy
from fnn.layers.embedding import check_categories
from fnn.layers.passes import forward_layer
from fnn.layers.sparse import check_columns, check_matrix
from fnn.losses import as_loss
from fnn.losses.aggregation import JOINT
from fnn.runs import Run
from fnn.training import config
from fnn.training.layout import Layout, keep_whole, make_layout, split_arrays
from fnn.types import Array, Layer, LossLike, Params, State, Tree


@arguments.explain_call
def evaluate(
    net: Layer,
    run: Trained,
    data: DataLike,
    metrics: Mapping[str, LossLike],
    batch_size: int = 1024,
    *,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """Losses and metrics of all rows: `evaluate(net, run, (x, t), {"accuracy": fnn.accuracy, "f1": fnn.metrics.f1()})`.

    `Σ_i w_i metric_i / Σ_i w_i`, added up in float64: the same for every `batch_size`, rounding of the outputs apart.
    Sums of a `fnn.SumMetric` are added up likewise. Rows of weight 0 do not count, whatever their value.
    Outputs are not kept: memory does not depend on the rows. What a `fnn.RowMetric` keeps of each row is kept.

    Args:
        net: the network.
        run: what `fit` returned, or anything with `params` and `state`.
        data: `(x, t)` or `(x, t, weight)`, arrays or `np.memmap`; or a stream of such chunks.
        metrics: name -> function `(outputs, targets) -> (batch,)`, a loss, or one of `fnn.metrics`. A stream has none
            that needs all rows at once, such as `fnn.metrics.roc_auc()`.
        batch_size: rows at once.
        mesh: devices to split these rows over, along the mesh's first axis.

    Returns:
        name -> figure, as a float; one that is no single number (a confusion matrix) as a NumPy array.

    Raises:
        ValueError, TypeError: the data are not usable, or all weights are 0.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.dense(2, weight_init=0.0))
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> run = fnn.Run(params, state, None, None)
    >>> fnn.evaluate(net, run, ([[1, 2, 3]], [[1.0, 3.0]]), {"error": fnn.losses.mean_squared_error})
    {'error': 5.0}
    """
    checks.outside_of_jit("data", data)
    if not is_stream(data):
        checks.pair_or_triple("data", data)
    size, metrics = arguments.whole_number("batch_size", batch_size, 1), config.check_metrics(metrics)
    if is_stream(data):
        config.refuse_row_metrics("data", metrics)
    layout = make_layout(mesh, joint=False)
    run = checked_run(net, run, layout)
    rows, chunks = _chunks(data, net, run, size, _missing(metrics))
    measure: Any = None
    totals = Totals(metrics)
    for (x, t, weight), count in rechunk(chunks, program_rows(rows or size, size)):
        w = totals.scale(weight, count)
        given = (x, t, as_floats(w)) if totals.joint else (x, t)
        if measure is None:
            outputs = with_true_rows(lambda x: output_shapes(net, run, x, layout), count, x)
            totals.of_outputs(jax.tree.leaves(outputs)[0].dtype)
            measure = with_true_rows(lambda *given: _specialise(net, metrics, run, layout, *given), count, *given)
        _check_targets(metrics, outputs, jax.tree.map(lambda a, count=count: a[:count], t))
        with allow_transfers():
            made = measure(run.params, run.state, *jax.tree.map(aligned_copy, given))
        totals.add(made, w, count)
    return totals.figures()


def _specialise(
    net: Layer, metrics: dict[str, Any], run: Run, layout: Layout | None, *rows: np.ndarray
) -> Callable[..., dict[str, Tree]]:
    parts, name = (net, tuple(metrics.items())), "evaluate" if layout is None else ("evaluate", layout)
    program: Callable[..., dict[str, Tree]] = canonical(
        name, parts, _metric_program(*parts, layout), run.params, run.state, *rows
    )[0]
    return program


def _metric_program(
    net: Layer, metrics: tuple[tuple[str, Any], ...], layout: Layout | None
) -> Callable[..., dict[str, Tree]]:
    """(params, state, x, t, and weights for a `SumMetric`) -> name -> what `Totals` needs of these rows."""

    def of_chunk(params: Params, state: State, x: Tree, t: Tree, weight: Array | None = None) -> dict[str, Tree]:
        x, t = split_arrays(layout, x), split_arrays(layout, t)
        y = forward_layer(net, params, state, x, None, False)[0]
        values = {name: measure_chunk(name, metric, y, t, weight) for name, metric in metrics}
        whole: dict[str, Tree] = keep_whole(layout, values)
        return whole

    return of_chunk


def _missing(metrics: Mapping[str, Any]) -> Tree:
    """What the losses and metrics say of targets that are missing, together: where one takes nan, nan may be."""
    return functools.reduce(_join_missing, (getattr(metric, "missing", None) for metric in metrics.values()), None)


def _join_missing(one: Tree, other: Tree) -> Tree:
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _join_missing(one.get(key), other.get(key)) for key in {**one, **other}}
    return other if one is None or other != other else one


def _check_targets(metrics: dict[str, Any], outputs: Tree, t: Tree) -> None:
    """The values of the targets, where a loss or a metric has an opinion on them: labels out of range."""
    for metric in metrics.values():
        check = metric.check if isinstance(metric, JOINT) else as_loss(metric).check
        if check is not None:
            check(some_rows(outputs, row_count(t)), t)


def _chunks(data: DataLike, net: Layer, run: Run, size: int, missing: Tree) -> tuple[int | None, Iterator[Any]]:
    """How many rows there are, if that is known, and chunks `(x, t, weight)`."""
    if is_stream(data):
        stream = as_stream("data", data, once=True)
        named = ((f"data, chunk {i}", c) for i, c in enumerate(stream.chunks((0,), 0, False)))
        return stream.rows, _check_chunks(named, net, run, missing)
    if isinstance(data, (tuple, list)) and len(data) in (2, 3) and all(map(is_mapped, data)):
        for a in data[1:]:
            checks.same_rows("data", data[0], a)
        rows, whole = row_count(data[0]), tuple(data)
        cut = ((i, jax.tree.map(lambda a, i=i: a[i : i + size], whole)) for i in range(0, rows, size))
        parts = ((f"data, rows {i} to {i + size - 1}", part) for i, part in cut)
        return rows, _check_chunks(parts, net, run, missing)
    checked = next(_check_chunks(iter([("data", data)]), net, run, missing))
    return row_count(checked[0]), iter([checked])


def _check_chunks(named: Iterator[tuple[str, Any]], net: Layer, run: Run, missing: Tree) -> Iterator[Any]:
    """Chunks, checked, with a weight for every row; a warning where digits are lost for the first time."""
    dtype, cut = arrays.dtype_of_run(run.params), checks.LostDigits()
    for name, chunk in named:
        arrays.same_columns((f"{name}, x", f"{name}, t"), run.columns, arrays.columns(chunk))
        x, t, w = check_chunk(name, chunk, dtype, cut, missing, several_shape(run))
        cut.warn(dtype)
        check_categories(net, f"{name}, x", x)
        check_matrix(f"{name}, x", chunk[0], net)
        check_columns(f"{name}, x", x, net)
        yield x, t, np.ones(row_count(x), dtype) if w is None else w
