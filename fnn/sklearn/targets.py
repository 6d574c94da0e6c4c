"""Targets of an estimator as those of a loss; outputs of a network as classes, probabilities and numbers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, log_softmax, softmax
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from fnn.arguments import describe_thing
from fnn.losses.classification import sigmoid_cross_entropy, sparse_softmax_cross_entropy
from fnn.losses.transforms import from_function
from fnn.types import Array, Loss


class Scale(NamedTuple):
    """`(a - mean)/deviation`, column by column, in float64."""

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, a: np.ndarray) -> np.ndarray:
        """The columns, standardised."""
        scaled: np.ndarray = (a - self.mean) / self.deviation
        return scaled

    def undo(self, a: np.ndarray) -> np.ndarray:
        """The columns as they were."""
        raw: np.ndarray = a * self.deviation + self.mean
        return raw


def fit_scale(a: np.ndarray, weights: np.ndarray | None, standardise: bool) -> Scale:
    """The mean and the deviation of each column, a row of weight k counted k times; 0 and 1 without `standardise`.

    >>> import numpy as np
    >>> from fnn.sklearn.targets import fit_scale
    >>> scale = fit_scale(np.array([[1.0, 7.0], [3.0, 7.0]]), np.array([1.0, 3.0]), True)
    >>> print(scale.mean, scale.deviation.round(3))
    [2.5 7. ] [0.866 1.   ]
    """
    if not standardise:
        return Scale(np.zeros(a.shape[1:]), np.ones(a.shape[1:]))
    if weights is not None:
        a, weights = a[weights > 0], weights[weights > 0]
    mean = np.average(a, 0, weights).astype(np.float64)
    deviation = np.sqrt(np.average((a - mean) ** 2, 0, weights))
    constant = (a == a[0]).all(0)  # rounding can leave such a column a deviation that is not quite 0
    return Scale(np.where(constant, a[0], mean), np.where(constant | (deviation == 0), 1.0, deviation))


# ---- numbers


class NumberTargets(NamedTuple):
    """Targets of a regressor: `(rows, columns)`, standardised."""

    size: int  # columns
    flat: bool  # they came as `(rows,)`
    scale: Scale
    form: str = "numbers"

    def fit(self, y: np.ndarray, weights: np.ndarray | None, standardise: bool) -> "NumberTargets":
        """The same, standardised by these rows."""
        return self._replace(scale=fit_scale(y.reshape(len(y), -1), weights, standardise))

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Targets of the loss, `(rows, columns)`."""
        return self.scale(y.reshape(len(y), -1))

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Predictions in the units and the shape of the targets."""
        raw = self.scale.undo(outputs)
        return raw[:, 0] if self.flat else raw


def number_targets(y: np.ndarray) -> NumberTargets:
    """Targets of a regressor, not yet standardised."""
    size = y.size // len(y)
    return NumberTargets(size, y.ndim == 1, Scale(np.zeros(size), np.ones(size)))


# ---- classes


class ClassTargets(NamedTuple):
    """Targets of a classifier.

    - `kind`: "multiclass", one class per row; "multilabel", a column of 0 and 1 per label; "multioutput", one class per
      row and column.
    - `classes`: those of each column, sorted.
    - `form`: what the loss wants: "labels", "one-hot" or "binary".
    - `outputs`: what the loss takes the network's outputs for: "logits", "probabilities", or None for neither.
    """

    kind: str
    classes: tuple[np.ndarray, ...]
    form: str
    outputs: str | None

    @property
    def size(self) -> int:
        """How many outputs the network has."""
        if self.form == "binary":
            return len(self.classes) if self.kind == "multilabel" else 1
        return sum(map(len, self.classes))

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Targets of the loss."""
        columns = y.reshape(len(y), -1)
        places = [_places(of, columns[:, i]) for i, of in enumerate(self.classes)]
        if self.form == "labels":
            return places[0].astype(np.int32)
        if self.form == "binary":
            return np.stack(places, 1).astype(np.float32)
        return np.concatenate([np.eye(len(of))[at] for of, at in zip(self.classes, places, strict=True)], 1)

    def scores(self, outputs: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """What the decision goes by: `(rows,)` for two classes, above 0 the second; else a column per class or label;
        a list of these for several columns of targets."""
        if self.outputs == "probabilities":
            one = self.form == "binary"
            outputs = np.log(outputs) - np.log1p(-outputs) if one else np.log(np.maximum(outputs, 1e-38))
        if self.kind == "multilabel":
            return outputs
        parts = [_column(part) for part in self._split(outputs)]
        return parts if self.kind == "multioutput" else parts[0]

    def probabilities(self, outputs: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """`(rows, classes)`; for labels that of each being 1; a list for several columns of targets."""
        if self.form == "binary":
            one = outputs if self.outputs == "probabilities" else expit(outputs)
            return one if self.kind == "multilabel" else np.concatenate([1 - one, one], 1)
        parts = self._split(outputs)
        if self.outputs != "probabilities":
            parts = [softmax(part, 1) for part in parts]
        return parts if self.kind == "multioutput" else parts[0]

    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Their logarithms, exact also where a probability is 0 to rounding."""
        if self.form != "binary" and self.outputs == "logits":
            parts = [log_softmax(part, 1) for part in self._split(outputs)]
            return parts if self.kind == "multioutput" else parts[0]
        with np.errstate(divide="ignore"):
            found = self.probabilities(outputs)
            return [np.log(part) for part in found] if isinstance(found, list) else np.log(found)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Classes: `(rows,)`; or a column per label or column of targets."""
        if self.kind == "multilabel":
            bound = 0.5 if self.outputs == "probabilities" else 0.0
            return np.stack([of[at] for of, at in zip(self.classes, (outputs > bound).astype(int).T, strict=True)], 1)
        found = self.scores(outputs)
        parts = found if isinstance(found, list) else [found]
        places = [(part > 0).astype(int) if part.ndim == 1 else part.argmax(1) for part in parts]
        columns = [of[np.minimum(at, len(of) - 1)] for of, at in zip(self.classes, places, strict=True)]
        return np.stack(columns, 1) if self.kind == "multioutput" else columns[0]

    def _split(self, outputs: np.ndarray) -> list[np.ndarray]:
        """The outputs of each column of targets."""
        if self.form == "binary":
            return [outputs]
        return np.split(outputs, np.cumsum([len(of) for of in self.classes])[:-1], 1)


Targets = ClassTargets | NumberTargets


def class_targets(y: np.ndarray, classes: Any, loss: Loss | None) -> tuple[ClassTargets, Loss]:
    """What kind of targets these are, and the loss: the one passed, else a cross-entropy.

    >>> import numpy as np
    >>> from fnn.sklearn.targets import class_targets
    >>> targets, loss = class_targets(np.array(["b", "a", "b"]), None, None)
    >>> print(targets.kind, targets.classes[0], targets.encode(np.array(["a", "b"])), loss)
    multiclass ['a' 'b'] [0 1] sparse_softmax_cross_entropy
    """
    check_classification_targets(y)
    kind = type_of_target(y, input_name="y")
    if kind == "multilabel-indicator":
        loss = loss or sigmoid_cross_entropy
        known = tuple(np.array([0, 1]) for _ in range(y.shape[1]))
        return ClassTargets("multilabel", known, "binary", loss.outputs), loss
    if kind == "multiclass-multioutput" or (y.ndim == 2 and y.shape[1] > 1):
        known = tuple(np.unique(column) for column in y.T)
        if loss is not None:
            raise ValueError(
                f"loss: expected none for targets of several columns of classes, got {loss}. "
                "Fit a classifier per column, by sklearn.multioutput.MultiOutputClassifier."
            )
        return ClassTargets("multioutput", known, "one-hot", "logits"), joint_cross_entropy([len(c) for c in known])
    loss = loss or sparse_softmax_cross_entropy
    every = np.unique(y) if classes is None else np.unique(classes)
    form = loss.targets or "labels"
    if form == "binary" and len(every) != 2:
        hint = "Pass loss=fnn.losses.sparse_softmax_cross_entropy."
        raise ValueError(f"loss: expected one of {len(every)} classes, got {loss}, which is of two. {hint}")
    return ClassTargets("multiclass", (every,), form, loss.outputs), loss


def joint_cross_entropy(sizes: Sequence[int]) -> Loss:
    """`-Σ_d Σ_k t_dk log softmax(y_d)_k` per row, for one class per column d; derivative `softmax(y_d) - t_d`.

    Args:
        sizes: how many classes each column has. Outputs and one-hot targets are those of all columns, side by side.
    """
    ends = [int(end) for end in np.cumsum(sizes)[:-1]]

    def each(function: Callable[[Array], Array], y: Array) -> Array:
        return jnp.concatenate([function(part) for part in jnp.split(y, ends, -1)], -1)

    def value(y: Array, t: Array) -> Array:
        return -(t * each(jax.nn.log_softmax, y)).sum(-1)

    def grad(y: Array, t: Array) -> Array:
        return each(jax.nn.softmax, y) - t

    return from_function(value, grad, "joint_cross_entropy", outputs="logits")


def _places(classes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The place of each target among the classes."""
    at = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    if (unknown := np.flatnonzero(classes[at] != y)).size:
        got = describe_thing(y[unknown[0]])
        raise ValueError(f"y: expected classes of {classes.tolist()}, got {got}. Pass all of them as classes=.")
    return at


def _column(outputs: np.ndarray) -> np.ndarray:
    """Of two columns how far the second is above the first; one column as it is; more as they are."""
    if outputs.shape[1] > 2:
        return outputs
    column: np.ndarray = outputs[:, -1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs[:, 0]
    return column
