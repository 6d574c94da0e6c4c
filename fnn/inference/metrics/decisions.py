"""What is counted of decided classes: precision, recall, F1, balanced accuracy, confusion matrix."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from fnn.arguments import one_of
from fnn.factories import factory
from fnn.inference.metrics.inputs import check_classes, check_threshold, classes, is_class, same_shape, weight_per_row
from fnn.losses.aggregation import SumMetric, weigh
from fnn.types import Array, ShapeError

AVERAGES = ("macro", "micro", "weighted", "binary")
Counts = dict[str, Array]  # by class or label: rows of it ("true"), rows said to be of it ("said"), and both ("both")


@factory
def precision(average: str | None = "macro", threshold: float | None = None) -> SumMetric:
    """Of what is said to be of a class, the share that is: `TP/(TP + FP)`; 0 where nothing is said to be of the class.

    nan in the outputs of a row that counts gives nan.

    Args:
        average: over classes, "macro": their mean, "weighted": by how often each is true, "micro": all counted
            together; "binary": of class 1 alone, of two; None: one number per class, for `fnn.evaluate`. A class that
            is neither true nor said anywhere is left out of "macro".
        threshold: None: outputs `(batch, …, classes)`, of which the largest decides; targets class numbers or one-hot
            rows. A number: each output is a label of its own, said where it is above the threshold, 0.5 for
            probabilities and 0.0 for logits; targets 0 and 1 of the shape of the outputs. Averages are over labels,
            all of them; of one column it is the figure of the label 1.

    >>> import fnn
    >>> print(fnn.metrics.precision()([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 0, 0]))
    0.75
    """
    return _of_counts("precision", average, threshold, lambda n: _share(n["both"], n["said"]), strict=True)


@factory
def recall(average: str | None = "macro", threshold: float | None = None) -> SumMetric:
    """Of what is of a class, the share that is said to be: `TP/(TP + FN)`; 0 where nothing is of the class.

    A row with nan in its outputs is said to be of no class: it counts as wrong.

    Args:
        average, threshold: as of `fnn.metrics.precision`.

    >>> import fnn
    >>> print(fnn.metrics.recall()([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 0, 0]))
    0.75
    """
    return _of_counts("recall", average, threshold, lambda n: _share(n["both"], n["true"]), strict=False)


@factory
def f1(average: str | None = "macro", threshold: float | None = None) -> SumMetric:
    """The harmonic mean of precision and recall, `2 TP/(2 TP + FP + FN)`; 0 where a class is never right.

    nan in the outputs of a row that counts gives nan.

    Args:
        average, threshold: as of `fnn.metrics.precision`.

    >>> import fnn
    >>> print(fnn.metrics.f1(average="binary")([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 0, 0]).round(4))
    0.6667
    """
    return _of_counts("f1", average, threshold, lambda n: _share(2.0 * n["both"], n["said"] + n["true"]), strict=True)


@factory
def balanced_accuracy(threshold: float | None = None) -> SumMetric:
    """The mean over classes of the share of a class's rows that are right. Classes without rows are left out.

    A row with nan in its outputs counts as wrong.

    Args:
        threshold: None: outputs `(batch, …, classes)`, targets class numbers or one-hot rows. A number: outputs and
            targets `(batch,)` or `(batch, 1)`; class 1 where the output is above it, 0.5 for probabilities and 0.0 for
            logits.

    >>> import fnn
    >>> print(fnn.metrics.balanced_accuracy()([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 0, 0]))
    0.75
    """
    name = "balanced_accuracy"
    known = _threshold(name, threshold)

    def sums(outputs: Array, targets: Array, weight: Array) -> Counts:
        counts = _class_counts(*_two_classes(name, outputs, targets, known), weight, strict=False)
        return {"true": counts["true"], "both": counts["both"]}

    def figure(n: Counts) -> Array:
        present = n["true"] > 0
        known = jnp.where(jnp.isnan(n["true"]).any(), jnp.nan, present.sum().astype(n["true"].dtype))
        return _share(n["both"], n["true"]).sum() / known

    return SumMetric(None, sums, figure, "max", check_classes(name))


@factory
def confusion_matrix(threshold: float | None = None) -> SumMetric:
    """How often a row of class i is said to be of class j, `(classes, classes)`; a row counts by its weight.

    It is no one number: `fnn.evaluate` returns it as a NumPy array of float64, exact for whole weights. A history has
    no place for it, so `fit` and studies refuse it. nan in the outputs of a row that counts makes every count nan.

    Args:
        threshold: as of `fnn.metrics.balanced_accuracy`.

    >>> import fnn
    >>> print(fnn.metrics.confusion_matrix()([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 0, 0]))
    [[1. 1.]
     [0. 1.]]
    """
    name = "confusion_matrix"
    known = _threshold(name, threshold)

    def sums(outputs: Array, targets: Array, weight: Array) -> Array:
        label, said, none, count = _two_classes(name, outputs, targets, known)
        w = weight_per_row(weight, len(label))
        counted = jnp.zeros(count * count, w.dtype).at[label * count + said].add(jnp.where(none[0] | none[1], 0.0, w))
        return counted.reshape(count, count) + _nan_if((none[0] | none[1]) & (w > 0), w)

    return SumMetric(None, sums, None, None, check_classes(name))


# ---- counting

_Decision = tuple[Array, Array, tuple[Array, Array], int]  # class, class that is said, which are none of both, classes


def _of_counts(
    name: str, average: object, threshold: object, figure_of: Callable[[Counts], Array], strict: bool
) -> SumMetric:
    """A metric from counts by class or label; `strict`: nan outputs give nan, else they count as wrong."""
    if average is not None:
        average = one_of(f"{name}, average", average, AVERAGES)
    known = _threshold(name, threshold)

    def sums(outputs: Array, targets: Array, weight: Array) -> Counts:
        if known is None:
            decision = _largest(name, outputs, targets)
            if average == "binary" and decision[3] != 2:
                raise ShapeError(
                    f"{name}: expected two classes for average='binary', got {decision[3]}. Pass average='macro'."
                )
            return _class_counts(*decision, weight, strict)
        return _label_counts(name, outputs, targets, known, weight, strict)

    def figure(n: Counts) -> Array:
        if average == "micro":
            return figure_of({name: count.sum() for name, count in n.items()})
        each = figure_of(n)
        if average is None:
            return each
        if average == "binary" or each.shape == (1,):
            return each[-1]
        if average == "weighted":
            return _share(each * n["true"], n["true"].sum()[None]).sum()
        present = (n["true"] > 0) | (n["said"] > 0) | jnp.isnan(n["said"]) | (known is not None)
        return jnp.where(present, each, 0.0).sum() / present.sum().astype(each.dtype)

    return SumMetric(None, sums, figure, "max", check_classes(name))


def _threshold(name: str, threshold: object) -> float | None:
    return None if threshold is None else float(check_threshold(name, threshold))


def _share(part: Array, whole: Array) -> Array:
    """`part/whole`, 0 where the whole is 0."""
    return jnp.where(whole == 0, 0.0, part / jnp.where(whole == 0, 1.0, whole))


def _nan_if(wrong: Array, like: Array) -> Array:
    return jnp.where(wrong.any(), jnp.nan, 0.0).astype(like.dtype)


def _largest(name: str, outputs: Array, targets: Array) -> _Decision:
    rows = classes(name, outputs, targets)
    said = rows.outputs.argmax(-1).astype(jnp.int32)
    return rows.label, said, (rows.no_output, rows.no_label), rows.outputs.shape[-1]


def _two_classes(name: str, outputs: Array, targets: Array, threshold: float | None) -> _Decision:
    """Classes by the largest output; or by a threshold, two classes of one column."""
    if threshold is None:
        return _largest(name, outputs, targets)
    y, t = same_shape(name, outputs, targets)
    if y.size != len(y):
        raise ShapeError(
            f"{name}: expected outputs of one column, shape (batch, 1), with a threshold, got {y.shape}. "
            "Leave the threshold out for classes."
        )
    y, t = y.reshape(-1), t.reshape(-1)
    none = jnp.isnan(y), jnp.isnan(t)
    return (t > 0.5).astype(jnp.int32), (y > threshold).astype(jnp.int32), none, 2


def _class_counts(
    label: Array, said: Array, none: tuple[Array, Array], count: int, weight: Array, strict: bool
) -> Counts:
    no_output, no_label = none
    w = weight_per_row(weight, len(label))
    counts = w > 0
    right, true = said == label, is_class(label, count)
    no_label_counts = no_label & counts
    return {
        "true": weigh(true, w) + _nan_if(no_label_counts, w),
        "said": weigh(is_class(said, count) & ~no_output[:, None], w)
        + _nan_if(no_label_counts | (no_output & counts & strict), w),
        "both": weigh(true & (right & ~no_output)[:, None], w),
    }


def _label_counts(name: str, outputs: Array, targets: Array, threshold: float, weight: Array, strict: bool) -> Counts:
    y, t = same_shape(name, outputs, targets)
    width = 1 if y.ndim == 1 else y.shape[-1]
    y, t = y.reshape(int(np.prod(y.shape, dtype=int)) // width, width), t.reshape(-1, width)
    w = weight_per_row(weight, len(y))
    counts = (w > 0)[:, None]
    said, true, no_label = y > threshold, t > 0.5, jnp.isnan(t) & counts
    wrong = no_label | (jnp.isnan(y) & counts & strict)
    return {
        "true": weigh(true, w) + _nan_if(no_label, w),
        "said": weigh(said, w) + _nan_if(wrong, w),
        "both": weigh(said & true, w),
    }
