"""Metrics of a user's own: from sums over rows, from all rows at once, of one of several outputs."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from fnn.arguments import array_of, call, describe_thing, explain_call, function, one_of
from fnn.arguments.leaves import is_several, named_leaves
from fnn.factories import note_call
from fnn.losses.aggregation import RowMetric, SumMetric, weigh
from fnn.types import Array, Metric, ShapeError, Tree


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


@explain_call
def of(output: str | int, metric: Metric) -> Metric:
    """A metric of one of several outputs: `metric(outputs[output], targets[output])`.

    Args:
        output: the name in a dict of outputs, or the number in a tuple. Targets that are several are chosen likewise.
        metric: any metric, or a loss.

    Raises:
        TypeError: this is no name, or no metric.
        ShapeError: when it is called: there is no output of that name.

    >>> import fnn
    >>> metric = fnn.metrics.of("kind", fnn.accuracy)
    >>> print(metric({"kind": [[2.0, 1.0], [0.0, 1.0]], "price": [[1.0], [2.0]]}, {"kind": [0, 0], "price": [1, 2]}))
    [1. 0.]
    """
    if isinstance(output, bool) or not isinstance(output, (str, int)):
        got = describe_thing(output)
        raise TypeError(f"of: expected the name or the number of an output, got {got}. Write of('kind', fnn.accuracy).")
    function("of", metric, 2, "a metric", "Pass a metric, such as fnn.accuracy.")
    arguments, name = {"output": output, "metric": metric}, f"of({output!r}, {metric_text(metric)})"
    check, missing = getattr(metric, "check", None), getattr(metric, "missing", None)
    missing = None if missing is None else {output: missing}
    chosen = None if check is None else functools.partial(_apply_to_one, output, check)
    if isinstance(metric, SumMetric):
        sums = functools.partial(_apply_to_one, output, metric.sums)
        whole = SumMetric(name, sums, metric.figure, metric.mode, chosen, metric.merge, missing)
        return note_call(whole, of, arguments)
    if isinstance(metric, RowMetric):
        keep = functools.partial(_apply_to_one, output, metric.keep)
        return note_call(RowMetric(name, keep, metric.figure, metric.mode, chosen, missing), of, arguments)
    return OfOne(name, functools.partial(_apply_to_one, output, metric), missing)


@dataclasses.dataclass(frozen=True)
class OfOne:
    """A metric of one number per row, of one of several outputs."""

    name: str
    metric: Callable[[Any, Any], Array]
    missing: Tree = None  # what stands for a target that is missing, as of a `Loss`

    def __call__(self, outputs: Tree, targets: Tree) -> Array:
        """One number per row."""
        return self.metric(outputs, targets)

    def __repr__(self) -> str:
        return self.name


def _apply_to_one(output: str | int, metric: Callable[..., Any], outputs: Tree, targets: Tree, *more: Any) -> Any:
    return metric(_choose(output, "outputs", outputs), _choose(output, "targets", targets), *more)


def _choose(output: str | int, name: str, tree: Tree) -> Any:
    if name == "targets" and not is_several(tree):
        return tree
    try:
        return tree[output]
    except (KeyError, IndexError, TypeError):
        got = ", ".join(named_leaves("", tree)) if is_several(tree) else "a single one"
        raise ShapeError(f"of: expected {name} with {output!r} among them, got {got}. Name one of them.") from None


def _both(outputs: Array, targets: Array) -> tuple[Array, Array]:
    return outputs, targets


def _check_mode(name: str, mode: object) -> str | None:
    return None if mode is None else one_of(f"{name}, mode", mode, ("max", "min"))


def metric_text(metric: object) -> str:
    """What a metric prints as: a function by its name.

    >>> import fnn
    >>> from fnn.inference.metrics.own import metric_text
    >>> metric_text(fnn.accuracy), metric_text(fnn.metrics.rmse())
    ('accuracy', 'rmse()')
    """
    return str(getattr(metric, "__name__", metric))


def _name(thing: object) -> str:
    return str(getattr(thing, "__name__", "metric"))
