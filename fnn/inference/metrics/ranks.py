"""Metrics of ranks, which need all rows at once: ROC AUC, average precision, Spearman's correlation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from fnn.activations.softmax import softmax_and_rest
from fnn.arguments import flag, one_of
from fnn.factories import factory
from fnn.inference.metrics.inputs import check_classes, classes, columns, is_class, is_column, same_shape
from fnn.losses.aggregation import RowMetric
from fnn.types import Array, ShapeError

Kept = tuple[Array, Array]
_OfColumn = Callable[[Array, Array, Array], tuple[Array, Array]]


@factory
def roc_auc(logits: bool | None = None, average: str = "macro", labels: bool = False) -> RowMetric:
    """Area under the ROC curve: how often a row of the class has a higher score than one that is not of it; equal
    scores count half.

    Computed from ranks, with weights: `Σ_{i of it, j not} w_i w_j ([s_i > s_j] + [s_i = s_j]/2)`, divided by
    `Σ_i w_i Σ_j w_j`. nan where all rows that count are of one class, and where a score is nan.

    Args:
        logits: for outputs `(batch, classes)`, whether they are logits of a softmax or probabilities. Two classes:
            that of class 1. More: each against all others. Targets are class numbers or one-hot rows. One column,
            `(batch,)` or `(batch, 1)`, with targets 0 and 1 of the same shape, needs none.
        average: over more than two classes, "macro": the mean, "weighted": by how often each is true. Classes that no
            row or every row is of are left out.
        labels: True where each of several outputs is a label of its own; targets are 0 and 1, of their shape.

    >>> import fnn
    >>> print(fnn.metrics.roc_auc()([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]))
    0.75
    """
    return _rank_metric("roc_auc", logits, average, labels, _area)


@factory
def average_precision(logits: bool | None = None, average: str = "macro", labels: bool = False) -> RowMetric:
    """Precision at each score, averaged by the recall that is gained there: `Σ_n (R_n - R_{n-1}) P_n`.

    `P_n` and `R_n` are precision and recall where all rows with at least the n-th highest score are said to be of the
    class; equal scores are one step. 0 where no row that counts is of the class, nan where a score is nan.

    Args:
        logits, labels: as of `fnn.metrics.roc_auc`.
        average: over more than two classes, "macro": the mean, "weighted": by how often each is true. Classes that no
            row is of are left out.

    >>> import fnn
    >>> print(fnn.metrics.average_precision()([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).round(4))
    0.8333
    """
    return _rank_metric("average_precision", logits, average, labels, _precision_area)


@factory
def spearman() -> RowMetric:
    """Spearman's rank correlation: that of Pearson between the ranks of outputs and of targets, from -1 to 1.

    Equal numbers share the mean of their ranks; a row of weight k has the ranks of k copies. Of several columns the
    mean of theirs. nan where the outputs, or the targets, of a column are all the same.

    Outputs and targets have one shape, `(batch, …)`.

    >>> import fnn
    >>> print(fnn.metrics.spearman()([[1.0], [2.0], [3.0]], [[1.0], [30.0], [20.0]]).round(4))
    0.5
    """

    def keep(outputs: Array, targets: Array) -> Kept:
        return columns("spearman", outputs, targets)

    def figure(kept: Kept, weight: Array) -> Array:
        return jax.vmap(_correlation, (1, 1, None))(*kept, weight).mean()

    return RowMetric(None, keep, figure, "max")


# ---- scores of classes


def _rank_metric(name: str, logits: bool | None, average: str, labels: bool, one: _OfColumn) -> RowMetric:
    """A metric of scores and of what is true, column by column: `one(scores, true, weight) -> (figure, defined)`."""
    known = None if logits is None else flag("logits", logits, name)
    average = one_of(f"{name}, average", average, ("macro", "weighted"))
    labels = flag("labels", labels, name)

    def keep(outputs: Array, targets: Array) -> Kept:
        if outputs.ndim > 2:
            raise ShapeError(
                f"{name}: expected outputs of shape (batch,) or (batch, classes), got {outputs.shape}. Reshape them."
            )
        if is_column(outputs) or labels:
            y, t = same_shape(name, outputs, targets)
            width = 1 if y.ndim == 1 else y.shape[-1]
            true = jnp.where(jnp.isnan(t), jnp.nan, (t > 0.5).astype(y.dtype))
            return y.reshape(-1, width), true.reshape(-1, width)
        if known is None:
            raise ValueError(
                f"{name}: expected logits=True or logits=False for {outputs.shape[-1]} outputs per row, got None. "
                "Pass logits=True for a network without a softmax at its end."
            )
        return _class_scores(name, outputs, targets, known)

    def figure(kept: Kept, weight: Array) -> Array:
        scores, true = kept
        each, defined = jax.vmap(one, (1, 1, None))(scores, true, weight)
        if each.shape == (1,):
            return each[0]
        share = jnp.where(defined, 1.0, 0.0)
        if average == "weighted":
            share = share * jnp.where(weight[:, None] > 0, true * weight[:, None], 0.0).sum(0)
        nan = jnp.isnan(jnp.where((weight > 0)[:, None], scores + true, 0.0)).any()
        return jnp.where(nan, jnp.nan, jnp.where(share > 0, each * share, 0.0).sum() / share.sum())

    return RowMetric(None, keep, figure, "max", check_classes(name))


def _class_scores(name: str, outputs: Array, targets: Array, logits: bool) -> Kept:
    """Of outputs over classes a score per class, that of class 1 alone for two; and 1 where the row is of the class."""
    rows = classes(name, outputs, targets)
    y = rows.outputs
    true = jnp.where(rows.no_label[:, None], jnp.nan, is_class(rows.label, y.shape[-1]).astype(y.dtype))
    if y.shape[-1] == 2:
        score = y[:, 1] - y[:, 0] if logits else y[:, 1]
        return score[:, None], true[:, 1:]
    if logits:
        share, rest = softmax_and_rest(y)
        y = jnp.log(share) - jnp.log(rest)  # in the order of the shares, and without their rounding near 1
    return y, true


# ---- one column of scores


def _groups(scores: Array) -> tuple[Array, Array]:
    """Of sorted scores, where those that are equal begin, and where they end."""
    new = scores[1:] != scores[:-1]
    edge = jnp.ones(1, bool)
    return jnp.concatenate([edge, new]), jnp.concatenate([new, edge])


def _usable(scores: Array, true: Array, weight: Array) -> tuple[Array, Array, Array, Array]:
    """Scores, what is true, weights; 0 where the weight is 0. And nan if one that counts is nan, else 0."""
    counts = weight > 0
    scores, true = (jnp.where(counts, a, 0.0) for a in (scores, true))
    return scores, true, jnp.where(counts, weight, 0.0).astype(scores.dtype), 0.0 * _any_nan(scores, true)


def _any_nan(*arrays: Array) -> Array:
    nan = jnp.stack([jnp.isnan(a).any() for a in arrays]).any()
    return jnp.where(nan, jnp.nan, 0.0).astype(arrays[0].dtype)


def _below(scores: Array, weight: Array) -> tuple[Array, Array]:
    """Of sorted scores the weight of what lies below each, without and with those that are equal to it."""
    begins, ends = _groups(scores)
    upto = jnp.cumsum(weight)
    without = lax.cummax(jnp.where(begins, upto - weight, 0.0))
    return without, lax.cummin(jnp.where(ends, upto, jnp.inf), reverse=True)


def _area(scores: Array, true: Array, weight: Array) -> tuple[Array, Array]:
    s, t, w, nan = _usable(scores, true, weight)
    order = jnp.argsort(s)
    s, of_it, others = s[order], (t * w)[order], ((1.0 - t) * w)[order]
    both = of_it.sum() * others.sum()
    less, upto = _below(s, others)
    share = (of_it / of_it.sum() * ((less + upto) * (0.5 / others.sum()))).sum()
    return jnp.where(both > 0, share, jnp.nan) + nan, both > 0


def _precision_area(scores: Array, true: Array, weight: Array) -> tuple[Array, Array]:
    s, t, w, nan = _usable(scores, true, weight)
    order = jnp.argsort(-s)
    s, of_it, w = s[order], (t * w)[order], w[order]
    _, ends = _groups(s)
    right, said = (lax.cummin(jnp.where(ends, jnp.cumsum(a), jnp.inf), reverse=True) for a in (of_it, w))
    all_of_it = of_it.sum()
    gain = of_it / jnp.where(all_of_it > 0, all_of_it, 1.0)
    return jnp.where(gain > 0, gain * right / said, 0.0).sum() + nan, all_of_it > 0


def _ranks(values: Array, weight: Array) -> Array:
    """From 0 to 1: the middle of the weights that equal values have among all."""
    order = jnp.argsort(values)
    less, upto = _below(values[order], weight[order])
    return jnp.zeros_like(values).at[order].set((less + upto) * (0.5 / weight.sum()))


def _correlation(outputs: Array, targets: Array, weight: Array) -> Array:
    y, t, w, nan = _usable(outputs, targets, weight)
    a, b = (_ranks(values, w) - 0.5 for values in (y, t))  # their weighted mean is 1/2
    share = w / w.sum()
    square_a, square_b = ((share * r * r).sum() for r in (a, b))
    constant = jnp.stack([jnp.where(w > 0, v, v[jnp.argmax(w)]).max() for v in (y, t)])
    constant = constant == jnp.stack([jnp.where(w > 0, v, v[jnp.argmax(w)]).min() for v in (y, t)])
    found = (share * a * b).sum() / (jnp.sqrt(square_a) * jnp.sqrt(square_b))
    return jnp.where(constant.any(), jnp.nan, found) + nan
