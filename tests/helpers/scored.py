"""Outputs, targets and weights of every kind, with scikit-learn's figure for each metric of them, in float64."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnn

ROWS = 60


class Kind(NamedTuple):
    """Rows of one kind, and for each metric what gives the true figure: `(outputs, targets, weights) -> float`."""

    outputs: np.ndarray
    targets: np.ndarray
    loss: fnn.Loss
    metrics: dict
    true: dict


def softmax(z):
    """In float64."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def weights():
    """Some 0, some fractions."""
    return np.random.default_rng(7).integers(0, 4, ROWS) * 0.5


def kinds(dtype):
    """All kinds, with outputs and targets in this dtype: numbers far from 0, ties, an absent class, constants."""
    made = {name: make(np.random.default_rng(1)) for name, make in MAKERS.items()}
    return {
        name: kind._replace(
            outputs=kind.outputs.astype(dtype),
            targets=kind.targets.astype(dtype) if kind.targets.dtype.kind == "f" else kind.targets,
        )
        for name, kind in made.items()
    }


def passing(kind):
    """A network that gives its inputs, exactly, and a run of it."""
    width = kind.outputs.shape[1]
    params = ({"w": np.eye(width, dtype=kind.outputs.dtype), "b": np.zeros(width, kind.outputs.dtype)},)
    return fnn.serial(fnn.dense(width)), fnn.Run(jax.tree.map(jnp.asarray, params), ((),), None, None)


def true_figures(kind, weight):
    """What scikit-learn says of these rows, as they are in their dtype."""
    y, t = (np.asarray(a, np.float64) if a.dtype.kind == "f" else a for a in (kind.outputs, kind.targets))
    return {name: float(figure(y, t, weight)) for name, figure in kind.true.items()}


# ---- the kinds


def _regression(rng):
    import scipy.stats  # noqa: F401
    from sklearn.metrics import r2_score, root_mean_squared_error

    t = rng.normal(size=(ROWS, 3)) * [1, 10, 0.1] + [1000, 0, -5]
    y = t + rng.normal(size=(ROWS, 3)) * [0.5, 3, 0.1]
    metrics = {"r2": fnn.metrics.r2(), "rmse": fnn.metrics.rmse()}
    true = {
        "r2": lambda y, t, w: r2_score(t, y, sample_weight=w),
        "rmse": lambda y, t, w: root_mean_squared_error(t, y, sample_weight=w),
    }
    return Kind(y, t, fnn.losses.squared_error, metrics, true)


def _decisions(average, said, **more):
    """Precision, recall and F1."""
    from sklearn.metrics import f1_score, precision_score, recall_score

    metrics, true = {}, {}
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        key = f"{name} {average}"
        metrics[key] = getattr(fnn.metrics, name)(average, **more)
        true[key] = lambda y, t, w, score=score: score(t, said(y), average=average, sample_weight=w, zero_division=0)
    return metrics, true


def _several(averages, said, **more):
    metrics, true = {}, {}
    for average in averages:
        for into, made in zip((metrics, true), _decisions(average, said, **more), strict=True):
            into |= made
    return metrics, true


def _classes(rng):
    from sklearn.metrics import brier_score_loss, log_loss, recall_score, top_k_accuracy_score

    y, t = rng.normal(size=(ROWS, 4)), rng.integers(0, 3, ROWS)  # class 3 is absent
    y[:10, 1] = y[:10, 0]  # ties within a row, and of rows
    y[40:] = y[:20]
    metrics, true = _several(("macro", "micro", "weighted"), lambda y: y.argmax(-1))
    metrics |= {
        "balanced": fnn.metrics.balanced_accuracy(),
        "log loss": fnn.metrics.log_loss(logits=True),
        "brier": fnn.metrics.brier_score(logits=True),
        "top 2": fnn.metrics.top_k_accuracy(2),
        "auc": fnn.metrics.roc_auc(logits=True),
        "ap": fnn.metrics.average_precision(logits=True, average="weighted"),
        "ece": fnn.metrics.expected_calibration_error(logits=True, bins=5),
    }
    four = range(4)
    true |= {
        "balanced": lambda y, t, w: recall_score(t, y.argmax(-1), labels=range(3), average="macro", sample_weight=w),
        "log loss": lambda y, t, w: log_loss(t, softmax(y), sample_weight=w, labels=four),
        "brier": lambda y, t, w: brier_score_loss(t, softmax(y), sample_weight=w, labels=four),
        "top 2": lambda y, t, w: top_k_accuracy_score(t, y, k=2, sample_weight=w, labels=four),
        "auc": functools.partial(_one_against_others, "roc_auc_score", "macro"),
        "ap": functools.partial(_one_against_others, "average_precision_score", "weighted"),
        "ece": functools.partial(calibration_error, bins=5),
    }
    return Kind(y, t, fnn.losses.sparse_softmax_cross_entropy, metrics, true)


def _one_against_others(name, average, y, t, w):
    """The mean over the classes that some row is of, of scikit-learn's figure for two classes."""
    import sklearn.metrics

    score, w = getattr(sklearn.metrics, name), np.ones(len(t)) if w is None else w
    p = np.round(softmax(y), 13)  # equal rows have equal shares
    each = [(score(t == k, p[:, k], sample_weight=w), w[t == k].sum()) for k in range(p.shape[1]) if w[t == k].any()]
    share = [weight if average == "weighted" else 1.0 for _, weight in each]
    return np.average([figure for figure, _ in each], weights=share)


def calibration_error(y, t, w, bins):
    """Guo et al. 2017, row by row."""
    p, w = softmax(y), np.ones(len(t)) if w is None else w
    gaps = np.zeros(bins)
    for row, label, weight in zip(p, t, w, strict=True):
        gaps[int(np.ceil(row.max() * bins)) - 1] += weight * ((row.argmax() == label) - row.max())
    return np.abs(gaps).sum() / w.sum()


def _two_classes(rng):
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    y, t = np.round(rng.normal(size=(ROWS, 2)), 1), rng.integers(0, 2, ROWS)
    metrics, true = _decisions("binary", lambda y: y.argmax(-1))

    def odds(y):
        return np.round(y[:, 1] - y[:, 0], 5)

    metrics |= {
        "log loss": fnn.metrics.log_loss(logits=True),
        "brier": fnn.metrics.brier_score(logits=True),
        "auc": fnn.metrics.roc_auc(logits=True),
        "ap": fnn.metrics.average_precision(logits=True),
    }
    true |= {
        "log loss": lambda y, t, w: log_loss(t, softmax(y), sample_weight=w),
        "brier": lambda y, t, w: brier_score_loss(t, softmax(y)[:, 1], sample_weight=w),
        "auc": lambda y, t, w: roc_auc_score(t, odds(y), sample_weight=w),
        "ap": lambda y, t, w: average_precision_score(t, odds(y), sample_weight=w),
    }
    return Kind(np.round(y * 8) / 8, t, fnn.losses.sparse_softmax_cross_entropy, metrics, true)


def _column(rng):
    from scipy.stats import spearmanr
    from sklearn.metrics import (
        average_precision_score,
        balanced_accuracy_score,
        brier_score_loss,
        f1_score,
        log_loss,
        roc_auc_score,
    )

    y, t = np.round(rng.uniform(size=(ROWS, 1)), 1), rng.integers(0, 2, (ROWS, 1)).astype(float)
    metrics = {
        "f1": fnn.metrics.f1(threshold=0.5),
        "balanced": fnn.metrics.balanced_accuracy(threshold=0.5),
        "log loss": fnn.metrics.log_loss(logits=False),
        "brier": fnn.metrics.brier_score(logits=False),
        "auc": fnn.metrics.roc_auc(),
        "ap": fnn.metrics.average_precision(),
        "spearman": fnn.metrics.spearman(),
    }

    def copies(y, t, w):
        often = np.ones(len(y), int) if w is None else (2 * w).astype(int)
        return spearmanr(np.repeat(y[:, 0], often), np.repeat(t[:, 0], often)).statistic

    true = {
        "f1": lambda y, t, w: f1_score(t[:, 0], y[:, 0] > 0.5, sample_weight=w),
        "balanced": lambda y, t, w: balanced_accuracy_score(t[:, 0], y[:, 0] > 0.5, sample_weight=w),
        "brier": lambda y, t, w: brier_score_loss(t[:, 0], y[:, 0], sample_weight=w),
        "auc": lambda y, t, w: roc_auc_score(t[:, 0], y[:, 0], sample_weight=w),
        "ap": lambda y, t, w: average_precision_score(t[:, 0], y[:, 0], sample_weight=w),
        "spearman": copies,
    }
    y = np.clip(y, 0.05, 0.95)  # so that no digits of 1 - p are lost before scikit-learn sees it
    true["log loss"] = lambda y, t, w: log_loss(t[:, 0], y[:, 0], sample_weight=w)
    return Kind(y, t, fnn.losses.squared_error, metrics, true)


def _labels(rng):
    from sklearn.metrics import average_precision_score, roc_auc_score

    y, t = rng.uniform(size=(ROWS, 3)), rng.integers(0, 2, (ROWS, 3)).astype(float)
    metrics, true = _several(("macro", "micro", "weighted"), lambda y: y > 0.5, threshold=0.5)
    metrics |= {
        "auc": fnn.metrics.roc_auc(labels=True),
        "ap": fnn.metrics.average_precision(labels=True, average="weighted"),
    }
    true |= {
        "auc": lambda y, t, w: roc_auc_score(t, y, sample_weight=w),
        "ap": lambda y, t, w: average_precision_score(t, y, sample_weight=w, average="weighted"),
    }
    return Kind(y, t, fnn.losses.squared_error, metrics, true)


MAKERS = {
    "numbers": _regression,
    "classes": _classes,
    "two classes": _two_classes,
    "one column": _column,
    "labels": _labels,
}
