"""How good a trained network is: means over rows of metrics, which are one number per row, as losses are."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from fnn import arguments
from fnn.compilation.programs import canonical
from fnn.data import arrays, checks
from fnn.data.streams import DataLike, as_stream, check_chunk, is_stream, rechunk
from fnn.devices.memory import allow_transfers
from fnn.inference.prediction import (
    Trained,
    checked_run,
    output_shapes,
    predict as predict,
    program_rows,
    with_true_rows,
)
from fnn.kernels.memory import aligned_copy
from fnn.layers.embedding import check_categories
from fnn.layers.passes import forward_layer
from fnn.layers.sparse import check_columns
from fnn.losses import as_loss
from fnn.losses.reduction import row_values
from fnn.runs import Run
from fnn.training import config
from fnn.training.layout import Layout, keep_whole, make_layout, split_array
from fnn.types import Array, HasShape, Layer, LossLike, Params, State


@arguments.explain_call
def evaluate(
    net: Layer,
    run: Trained,
    data: DataLike,
    metrics: Mapping[str, LossLike],
    batch_size: int = 1024,
    *,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """Means over the rows of losses and metrics: `evaluate(net, run, (x, t), {"accuracy": fnn.accuracy})`.

    `Σ_i w_i metric_i / Σ_i w_i`, added up in float64: the same for every `batch_size`, rounding of the outputs apart.
    Rows of weight 0 do not count, whatever their value. Outputs are not kept: memory does not depend on the rows.

    Args:
        net: the network.
        run: what `fit` returned, or anything with `params` and `state`.
        data: `(x, t)` or `(x, t, weight)`, arrays or `np.memmap`; or a stream of such chunks.
        metrics: name -> function `(outputs, targets) -> (batch,)`, or a loss.
        batch_size: rows at once.
        mesh: devices to split these rows over, along the mesh's first axis.

    Returns:
        name -> mean, as floats.

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
    layout = make_layout(mesh, joint=False)
    run = checked_run(net, run, layout)
    rows, chunks = _chunks(data, net, run, size)
    measure: Any = None
    shift: int | None = None
    totals, weight = dict.fromkeys(metrics, 0.0), 0.0
    for (x, t, w), count in rechunk(chunks, program_rows(rows or size, size)):
        if measure is None:
            outputs = with_true_rows(lambda x: output_shapes(net, run, x, layout), count, x)
            measure = with_true_rows(lambda x, t: _specialise(net, metrics, run, layout, x, t), count, x, t)
        _check_targets(metrics, outputs, t[:count])
        w = w[:count].astype(np.float64)
        shift = _shift(w) if shift is None and w.any() else shift
        with allow_transfers():
            made = measure(run.params, run.state, aligned_copy(x), aligned_copy(t))
        with np.errstate(all="ignore"):  # inf is looked for in the end, and 0 · inf is of no row that counts
            w = np.ldexp(w, shift or 0)
            weight += w.sum()
            for name, values in made.items():
                values = np.asarray(values)[:count].astype(np.float64)
                totals[name] += float(np.where(w > 0, values * w, 0.0).sum())
    if not np.isfinite(weight):
        raise ValueError("data: expected weights whose sum is finite, got inf. Scale them to about 1.")
    if not weight > 0:
        raise ValueError("data: expected at least one row with a weight above 0, got none. Pass such rows.")
    return {name: float(total / weight) for name, total in totals.items()}


def _shift(w: np.ndarray) -> int:
    """By which power of two to multiply weights so extreme that their sums would overflow or vanish in float64."""
    exponent = int(np.frexp(w.max())[1])
    return 0 if abs(exponent) < 400 else -500 if exponent > 0 else 500


def _specialise(
    net: Layer, metrics: dict[str, Any], run: Run, layout: Layout | None, *rows: np.ndarray
) -> Callable[..., dict[str, Array]]:
    parts, name = (net, tuple(metrics.items())), "evaluate" if layout is None else ("evaluate", layout)
    program: Callable[..., dict[str, Array]] = canonical(
        name, parts, _metric_program(*parts, layout), run.params, run.state, *rows
    )[0]
    return program


def _metric_program(
    net: Layer, metrics: tuple[tuple[str, Any], ...], layout: Layout | None
) -> Callable[..., dict[str, Array]]:
    """(params, state, x, t) -> name -> one number per row."""

    def of_chunk(params: Params, state: State, x: Array, t: Array) -> dict[str, Array]:
        x, t = split_array(layout, x), split_array(layout, t)
        y = forward_layer(net, params, state, x, None, False)[0]
        values = {name: row_values(f"metric {name}", metric, y, t) for name, metric in metrics}
        whole: dict[str, Array] = keep_whole(layout, values)
        return whole

    return of_chunk


def _check_targets(metrics: dict[str, Any], outputs: HasShape, t: np.ndarray) -> None:
    """The values of the targets, where a loss has an opinion on them: labels out of range."""
    for metric in metrics.values():
        check = as_loss(metric).check
        if check is not None:
            check(jax.ShapeDtypeStruct((len(t), *outputs.shape[1:]), outputs.dtype), t)


def _chunks(data: DataLike, net: Layer, run: Run, size: int) -> tuple[int | None, Iterator[Any]]:
    """How many rows there are, if that is known, and chunks `(x, t, weight)`."""
    if is_stream(data):
        stream = as_stream("data", data, once=True)
        named = ((f"data, chunk {i}", c) for i, c in enumerate(stream.chunks((0,), 0, False)))
        return stream.rows, _check_chunks(named, net, run)
    if isinstance(data, (tuple, list)) and len(data) in (2, 3) and all(isinstance(a, np.memmap) for a in data):
        for a in data[1:]:
            checks.same_rows("data", data[0], a)
        starts = range(0, len(data[0]), size)
        parts = ((f"data, rows {i} to {i + size - 1}", tuple(a[i : i + size] for a in data)) for i in starts)
        return len(data[0]), _check_chunks(parts, net, run)
    whole = next(_check_chunks(iter([("data", data)]), net, run))
    return len(whole[0]), iter([whole])


def _check_chunks(named: Iterator[tuple[str, Any]], net: Layer, run: Run) -> Iterator[Any]:
    """Chunks, checked, with a weight for every row; a warning where digits are lost for the first time."""
    dtype, cut = arrays.dtype_of_run(run.params), checks.LostDigits()
    for name, chunk in named:
        arrays.same_columns((f"{name}, x", f"{name}, t"), run.columns, arrays.columns(chunk))
        x, t, w = check_chunk(name, chunk, dtype, cut)
        cut.warn(dtype)
        check_categories(net, f"{name}, x", x)
        check_columns(f"{name}, x", x, net)
        yield x, t, np.ones(len(x), dtype) if w is None else w
