"""What is added up, or kept, of metrics over the chunks of an evaluation: in float64, on the host."""

from typing import Any

import jax
import numpy as np

from fnn.compilation.programs import canonical
from fnn.devices.memory import allow_transfers
from fnn.kernels.memory import aligned_copy
from fnn.losses.aggregation import JOINT, RowMetric, batch_sums, kept_rows, weights_of, whole_figure
from fnn.losses.reduction import dtype_of_sums, row_values
from fnn.types import Array, DType, Tree

LEAST_ROWS = 64  # of the program for a figure of all rows: from there on powers of two, so that few compile


def measure_chunk(name: str, metric: Any, outputs: Tree, t: Tree, weight: Array | None) -> Tree:
    """What an evaluation needs of a chunk for one metric: a number per row, sums, or what is kept of each row."""
    if not isinstance(metric, JOINT):
        return row_values(f"metric {name}", metric, outputs, t)
    if isinstance(metric, RowMetric):
        return kept_rows(name, metric, outputs, t)
    return batch_sums(name, metric, outputs, t, weights_of(outputs, weight))


class Totals:
    """Of each metric what the chunks so far have given."""

    def __init__(self, metrics: dict[str, Any]):
        self.metrics, self.weight, self.dtype = metrics, 0.0, np.dtype(np.float32)
        self.joint = any(isinstance(metric, JOINT) for metric in metrics.values())
        self._keeps_rows = any(isinstance(metric, RowMetric) for metric in metrics.values())
        self._totals: dict[str, Any] = {}
        self._weights: list[np.ndarray] = []  # of all rows, where a metric keeps rows
        self._shift: int | None = None

    def scale(self, weight: np.ndarray, count: int) -> np.ndarray:
        """The weights of a chunk in float64, 0 where it is filled up, in a scale in which their sums are finite."""
        w = np.zeros(len(weight), np.float64)
        w[:count] = weight[:count]
        if self._shift is None and w.any():
            self._shift = _shift_for_float32(w) if self.joint else _shift(w)
        with np.errstate(all="ignore"):  # inf is looked for in the end
            return np.ldexp(w, self._shift or 0)

    def of_outputs(self, dtype: DType) -> None:
        """Note the dtype of the outputs, by which weights are given to metrics."""
        self.dtype = dtype_of_sums(dtype)

    def add(self, made: dict[str, Tree], w: np.ndarray, count: int) -> None:
        """One more chunk, with the weights of its rows."""
        with np.errstate(all="ignore"):  # 0 · inf is of no row that counts
            self.weight += w[:count].sum()
            for name, values in made.items():
                self._totals[name] = self._add_chunk(name, values, w[:count])
        if self._keeps_rows:
            self._weights.append(w[:count])

    def _add_chunk(self, name: str, values: Tree, w: np.ndarray) -> Any:
        metric, before = self.metrics[name], self._totals.get(name)
        if not isinstance(metric, JOINT):
            each = np.asarray(values)[: len(w)].astype(np.float64)
            return (before or 0.0) + float(np.where(w > 0, each * w, 0.0).sum())
        if isinstance(metric, RowMetric):
            return [*(before or []), jax.tree.map(lambda a: np.asarray(a)[: len(w)], values)]
        more = jax.tree.map(lambda a: np.asarray(a).astype(np.float64), values)
        if before is None:
            return more
        return jax.tree.map(np.add, before, more) if metric.merge is None else metric.merge(before, more)

    def figures(self) -> dict[str, Any]:
        """The metrics of all rows."""
        if not np.isfinite(self.weight):
            raise ValueError("data: expected weights whose sum is finite, got inf. Scale them to about 1.")
        if not self.weight > 0:
            raise ValueError("data: expected at least one row with a weight above 0, got none. Pass such rows.")
        return {name: self._figure(name, self._totals[name]) for name in self.metrics}

    def _figure(self, name: str, total: Any) -> Any:
        metric = self.metrics[name]
        if not isinstance(metric, JOINT):
            return float(total / self.weight)
        if isinstance(metric, RowMetric):
            return _as_figure(_traced_figure(name, metric, self._all_rows(total)))
        if metric.merge is None:
            total = jax.tree.map(lambda a: np.ldexp(a, -(self._shift or 0)), total)
        if metric.figure is None:
            return _as_figure(total)
        return _as_figure(_traced_figure(name, metric, (jax.tree.map(as_floats, total),)))

    def _all_rows(self, kept: list[Tree]) -> tuple[Tree, np.ndarray]:
        """What is kept of all rows, and their weights; filled up by copies of the first row, of weight 0."""
        weight = np.concatenate(self._weights)
        rows = len(weight)
        room = max(LEAST_ROWS, 1 << (rows - 1).bit_length())

        def whole(*parts: np.ndarray) -> np.ndarray:
            return np.concatenate([*parts, np.broadcast_to(parts[0][:1], (room - rows, *parts[0].shape[1:]))])

        return jax.tree.map(whole, *kept), np.pad(weight, (0, room - rows)).astype(self.dtype)


def _shift(w: np.ndarray) -> int:
    """By which power of two to multiply weights so extreme that their sums would overflow or vanish in float64."""
    exponent = int(np.frexp(w.max())[1])
    return 0 if abs(exponent) < 400 else -500 if exponent > 0 else 500


def _shift_for_float32(w: np.ndarray) -> int:
    """The same for sums in float32: the largest weight becomes about 1."""
    exponent = int(np.frexp(w.max())[1])
    return 0 if abs(exponent) < 40 else -exponent


def as_floats(a: Any) -> np.ndarray:
    """Numbers in the float that JAX computes with by default."""
    return np.asarray(a, jax.dtypes.canonicalize_dtype(np.float64))


def _traced_figure(name: str, metric: Any, given: Any) -> Tree:
    """The figure, by a compiled program."""

    def figure(*given: Tree) -> Tree:
        return whole_figure(f"metrics[{name!r}]", metric, given if isinstance(metric, RowMetric) else given[0])

    program = canonical("figure", (metric,), figure, *given)[0]
    with allow_transfers():
        return program(*jax.tree.map(aligned_copy, given))


def _as_figure(value: Tree) -> Any:
    """A number as a float, anything else as it is, in arrays of NumPy."""
    if isinstance(value, (jax.Array, np.ndarray, np.generic)) and value.shape == ():
        return float(value)
    return jax.tree.map(np.asarray, value)
