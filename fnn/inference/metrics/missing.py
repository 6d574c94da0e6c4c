"""Metrics of the rows that have a target."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from fnn.arguments import array_of, as_array, call, explain_call, function
from fnn.factories import note_call
from fnn.inference.metrics.own import metric_text
from fnn.losses.aggregation import RowMetric, SumMetric, weigh
from fnn.losses.base import refuse_several_outputs
from fnn.losses.named import check_known, fill_missing, is_missing, missing_number
from fnn.types import Array, Metric, Tree


@explain_call
def masked(metric: Metric, missing: float | None = None) -> Metric:
    """A metric of the rows that have a target: one that is missing weighs nothing, in the mean neither.

    So it equals the metric of these rows alone. It is nan where no row has a target. A row is missing where any number
    of its target is, as for `fnn.losses.masked`.

    Args:
        metric: any metric, or a loss. Of one of several outputs write `of("price", masked(…))`.
        missing: what stands for a target that is missing: None for nan, or a number, such as -1 for class numbers.

    Raises:
        TypeError: no metric, or `missing` is no number.

    >>> import fnn
    >>> metric = fnn.metrics.masked(fnn.accuracy, -1)
    >>> print(metric([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]], [0, -1, 0]))
    0.5
    """
    function("masked", metric, 2, "a metric", "Pass a metric, such as fnn.accuracy.")
    stands = missing_number("masked", missing)
    name = f"masked({metric_text(metric)}{'' if math.isnan(stands) else f', {missing!r}'})"
    arguments: dict[str, Any] = {"metric": metric, "missing": missing}

    def split_targets(targets: Tree) -> tuple[Array, Array]:
        refuse_several_outputs(name, targets, "Write fnn.metrics.of({0!r}, fnn.metrics.masked(…)).")
        t = as_array(name, targets, "real targets")
        absent = is_missing(t, stands)
        return absent, fill_missing(t, absent)

    check = check_known(getattr(metric, "check", None), stands)
    if isinstance(metric, RowMetric):
        return note_call(_of_rows(name, metric, split_targets, check, stands), masked, arguments)
    inner = metric if isinstance(metric, SumMetric) else _mean(metric)

    def sums(outputs: Tree, targets: Tree, weight: Array) -> Tree:
        absent, t = split_targets(targets)
        return inner.sums(outputs, t, jnp.where(absent, 0.0, weight))

    made = SumMetric(name, sums, inner.figure, inner.mode, check, inner.merge, stands)
    return note_call(made, masked, arguments)


def _of_rows(name: str, metric: RowMetric, split: Callable[[Tree], Any], check: Any, stands: Any) -> RowMetric:
    def keep(outputs: Tree, targets: Tree) -> Tree:
        absent, t = split(targets)
        return absent, metric.keep(outputs, t)

    def figure(kept: Tree, weight: Array) -> Any:
        absent, rows = kept
        return metric.figure(rows, jnp.where(absent, 0.0, weight))

    return RowMetric(name, keep, figure, metric.mode, check, stands)


def _mean(metric: Metric) -> SumMetric:
    """The weighted mean of one number per row."""

    def sums(outputs: Tree, targets: Tree, weight: Array) -> dict[str, Array]:
        values = array_of("masked", call("masked", metric, outputs, targets), "one number per row")
        return {"value": weigh(values, weight), "weight": weight.sum()}

    return SumMetric(None, sums, lambda total: total["value"] / total["weight"], getattr(metric, "mode", None))
