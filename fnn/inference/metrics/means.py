"""Metrics that are means over rows of one number per row: log loss, Brier score, top-k accuracy; of bins of rows,
calibration."""

from collections.abc import Callable

import jax.numpy as jnp

from fnn.activations.elementwise import softplus
from fnn.activations.softmax import log_softmax
from fnn.arguments import flag, whole_number
from fnn.factories import factory
from fnn.inference.metrics.inputs import (
    as_probabilities,
    check_classes,
    classes,
    is_class,
    is_column,
    probabilities,
    real_outputs,
    same_shape,
    weight_per_row,
)
from fnn.losses.aggregation import SumMetric, weigh
from fnn.types import Array, ShapeError


@factory
def log_loss(logits: bool) -> SumMetric:
    """The mean over rows of `-log p_t`, with `p_t` the probability of the row's class.

    Of logits it is exact, whatever their size. Probabilities are clipped to `[eps, 1 - eps]`, with the `eps` of their
    dtype, as scikit-learn does it. One-hot rows may be distributions: `-Σ_k t_k log p_k`.

    Args:
        logits: True where the network gives logits, False where it gives probabilities; outputs that are none then
            raise an error, or make it nan in `fit` and `evaluate`. Outputs `(batch, …, classes)`
            with class numbers or one-hot rows as targets; or `(batch,)` or `(batch, 1)`, the logit or probability of
            class 1, with targets 0 and 1 of the same shape.

    >>> import fnn
    >>> print(fnn.metrics.log_loss(logits=False)([[0.5, 0.5], [0.25, 0.75]], [0, 1]).round(4))
    0.4904
    """
    name, logits = "log_loss", flag("logits", logits, "log_loss")

    def value(outputs: Array, targets: Array) -> Array:
        if is_column(outputs):
            y, t = same_shape(name, outputs, targets)
            of_1, of_0 = (-softplus.value(-y), -softplus.value(y)) if logits else _logs(y)
            return -(_times(t, of_1) + _times(1.0 - t, of_0)).reshape(-1)
        rows = classes(name, outputs, targets)
        shares = is_class(rows.label, rows.outputs.shape[-1])
        if targets.ndim == outputs.ndim:
            shares = targets.reshape(rows.outputs.shape)
        by_class = log_softmax(rows.outputs) if logits else _logs(rows.outputs)[0]
        nan = jnp.where(rows.no_output | rows.no_label, jnp.nan, 0.0).astype(by_class.dtype)
        return nan - _times(shares.astype(by_class.dtype), by_class).sum(-1)

    return _mean_of_rows(name, value, "min", not logits)


def _logs(p: Array) -> tuple[Array, Array]:
    """`log p` and `log (1 - p)` of probabilities, clipped."""
    eps = float(jnp.finfo(p.dtype).eps)
    p = jnp.clip(p, eps, 1.0 - eps)
    return jnp.log(p), jnp.log(1.0 - p)


def _times(share: Array, log: Array) -> Array:
    return jnp.where(share == 0, 0.0, share * log)  # 0 * -inf counts as 0


@factory
def brier_score(logits: bool) -> SumMetric:
    """The mean over rows of `Σ_k (p_k - t_k)²`, half of it for two classes: `(p - t)²`, with `p` that of class 1.

    Args:
        logits: as of `fnn.metrics.log_loss`.

    >>> import fnn
    >>> print(fnn.metrics.brier_score(logits=False)([[0.5], [0.75]], [[0], [1]]))
    0.15625
    """
    name, logits = "brier_score", flag("logits", logits, "brier_score")

    def value(outputs: Array, targets: Array) -> Array:
        if is_column(outputs):
            y, t = same_shape(name, outputs, targets)
            return ((probabilities(y, logits) - t) ** 2).reshape(-1)
        rows = classes(name, outputs, targets)
        count = rows.outputs.shape[-1]
        shares = is_class(rows.label, count)
        if targets.ndim == outputs.ndim:
            shares = targets.reshape(rows.outputs.shape)
        error = ((probabilities(rows.outputs, logits) - shares.astype(rows.outputs.dtype)) ** 2).sum(-1)
        nan = jnp.where(rows.no_output | rows.no_label, jnp.nan, 0.0).astype(error.dtype)
        return nan + (0.5 * error if count == 2 else error)

    return _mean_of_rows(name, value, "min", not logits)


@factory
def top_k_accuracy(k: int) -> SumMetric:
    """The share of rows whose class is among the `k` largest outputs.

    Of equal outputs that of the higher class number comes first, as scikit-learn has it. A row with nan in its outputs
    counts as wrong.

    Args:
        k: at least 1, less than the number of classes. Outputs `(batch, …, classes)`, logits or probabilities; targets
            class numbers or one-hot rows.

    >>> import fnn
    >>> print(fnn.metrics.top_k_accuracy(2)([[0.1, 0.3, 0.6], [0.1, 0.3, 0.6]], [1, 0]))
    0.5
    """
    name, k = "top_k_accuracy", whole_number("top_k_accuracy", k, 1, "Write top_k_accuracy(3).")

    def value(outputs: Array, targets: Array) -> Array:
        rows = classes(name, outputs, targets)
        y, count = rows.outputs, rows.outputs.shape[-1]
        if k >= count:
            raise ShapeError(f"{name}: expected more than k={k} classes, got {count}. Pass a smaller k.")
        own = jnp.take_along_axis(y, rows.label[:, None], -1)
        later = jnp.arange(count, dtype=jnp.int32)[None] > rows.label[:, None]
        before = (y > own) | ((y == own) & later)
        return ((before.sum(-1) < k) & ~rows.no_output & ~rows.no_label).astype(y.dtype)

    return _mean_of_rows(name, value, "max")


@factory
def expected_calibration_error(logits: bool, bins: int = 15) -> SumMetric:
    """How far the confidence in what is said lies from how often it is right: `Σ_b (n_b/n) |right_b - confidence_b|`.

    The confidence is the probability of the class that is said. Rows fall by it into bins of equal width,
    `((b - 1)/bins, b/bins]`; `right_b` is the share of right rows in a bin, `confidence_b` the mean confidence there.
    Guo et al. 2017, arXiv:1706.04599. nan in the outputs of a row that counts gives nan.

    Args:
        logits: as of `fnn.metrics.log_loss`. Of one column the class 1 is said where `p > 0.5`.
        bins: how many, at least 1.

    >>> import fnn
    >>> metric = fnn.metrics.expected_calibration_error(logits=False)
    >>> print(metric([[0.25, 0.75], [0.25, 0.75]], [1, 0]))
    0.25
    """
    name, logits = "expected_calibration_error", flag("logits", logits, "expected_calibration_error")
    bins = whole_number(f"{name}, bins", bins, 1)

    def sums(outputs: Array, targets: Array, weight: Array) -> dict[str, Array]:
        outputs = real_outputs(name, outputs)
        outputs = outputs if logits else as_probabilities(name, outputs, weight)
        if is_column(outputs):
            y, t = same_shape(name, outputs, targets)
            p = probabilities(y, logits).reshape(-1)
            said, confidence = p > 0.5, jnp.where(p > 0.5, p, 1.0 - p)
            right, none = said == (t.reshape(-1) > 0.5), jnp.isnan(t.reshape(-1))
        else:
            rows = classes(name, outputs, targets)
            p = probabilities(rows.outputs, logits)
            said = p.argmax(-1).astype(rows.label.dtype)
            right, confidence, none = said == rows.label, p.max(-1), rows.no_label
        w = weight_per_row(weight, len(right))
        place = jnp.clip(jnp.ceil(confidence * bins) - 1.0, 0.0, bins - 1.0)
        within = is_class(jnp.where(jnp.isnan(place), 0.0, place).astype(jnp.int32), bins)
        gap = jnp.where(none, jnp.nan, right.astype(confidence.dtype) - confidence)
        return {"gap": weigh(jnp.where(within, gap[:, None], 0.0), w), "weight": w.sum()}

    def figure(total: dict[str, Array]) -> Array:
        return jnp.abs(total["gap"]).sum() / total["weight"]

    return SumMetric(None, sums, figure, "min", check_classes(name))


def _mean_of_rows(
    name: str, value: Callable[[Array, Array], Array], mode: str, of_probabilities: bool = False
) -> SumMetric:
    """The weighted mean of one number per row, or per position of a row."""

    def sums(outputs: Array, targets: Array, weight: Array) -> dict[str, Array]:
        y = real_outputs(name, outputs)
        values = value(as_probabilities(name, y, weight) if of_probabilities else y, targets)
        w = weight_per_row(weight, len(values))
        return {"value": weigh(values, w), "weight": w.sum()}

    def figure(total: dict[str, Array]) -> Array:
        return total["value"] / total["weight"]

    return SumMetric(None, sums, figure, mode, check_classes(name))
