"""What a network is to predict: numbers in their own units, or classes.

A network learns numbers of about 1. So a target that is a number is standardised by the training rows; one that is
never negative and skewed (the third moment is beyond 2) by its logarithm, `log(1 + t)`. Predictions, and what metrics
and losses get by `in_units`, are put back.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnn.data import checks
from fnn.data.tables.columns import moments
from fnn.data.tables.frames import Values
from fnn.types import ShapeError

SKEWED = 2.0


class Target(NamedTuple):
    """A target: its classes as text, or None for numbers; then mean and deviation, of the logarithm if `log`.

    `of` says what the classes are in the frame: "text", "number" or "boolean".
    """

    name: str
    classes: tuple[str, ...] | None
    mean: float = 0.0
    deviation: float = 1.0
    log: bool = False
    of: str = "number"

    @property
    def outputs(self) -> int:
        """How many outputs of a network it takes."""
        return 1 if self.classes is None else len(self.classes)

    @property
    def labels(self) -> np.ndarray:
        """The classes as the frame has them."""
        texts: np.ndarray = np.array(self.classes)
        if self.of == "text":
            return texts
        numbers = texts.astype(float)
        whole = bool((numbers == np.floor(numbers)).all())
        return numbers.astype(bool if self.of == "boolean" else int if whole else float)

    def to_units(self, y: Any) -> Any:
        """Outputs in the units of the frame; those of classes stay logits."""
        if self.classes is not None:
            return y
        numbers = y * self.deviation + self.mean
        with np.errstate(over="ignore"):  # the logarithm of what is beyond any number becomes inf
            return (np if isinstance(y, np.ndarray) else jnp).expm1(numbers) if self.log else numbers


def fit_target(name: str, column: Values) -> Target:
    """What the training rows say of a target."""
    check_whole(name, column)
    if column.kind == "category":
        classes = tuple(sorted(set(column.values.tolist()), key=None if column.of == "text" else float))
        if len(classes) < 2:
            raise ValueError(f"{name}: expected at least two classes, got only {classes[0]!r}. Name another target.")
        return Target(name, classes, of=column.of)
    t = column.values
    mean, deviation = moments(t)
    log = bool(t.min() >= 0 and (((t - mean) / deviation) ** 3).mean() > SKEWED)
    mean, deviation = moments(np.log1p(t)) if log else (mean, deviation)
    return Target(name, None, mean, deviation, log)


def as_target(name: str, known: Target, column: Values) -> np.ndarray:
    """Class numbers `(rows,)`, or standardised numbers `(rows, 1)`."""
    check_whole(name, column)
    if known.classes is None:
        t = column.values
        if known.log and t.min() < 0:
            row = int(np.argmin(t))
            got = f"{t[row]:g} in row {row}"
            raise ValueError(f"{name}: expected numbers of at least 0, as in the training, got {got}. Leave it out.")
        return (((np.log1p(t) if known.log else t) - known.mean) / known.deviation)[:, None].astype(np.float32)
    places = {text: i for i, text in enumerate(known.classes)}
    unknown = [i for i, text in enumerate(column.values.tolist()) if text not in places]
    if unknown:
        got = f"{str(column.values[unknown[0]])!r} in row {unknown[0]}"
        raise ValueError(f"{name}: expected classes of the training rows, got {got}. Leave the row out.")
    return np.array([places[text] for text in column.values.tolist()], np.int32)


def decode_outputs(name: str, known: Target, y: object) -> np.ndarray:
    """Outputs as the frame has them: numbers in their own units, or classes, `(rows,)`."""
    outputs = np.asarray(checks.rows(name, y, gaps=True))
    if outputs.ndim != 2 or outputs.shape[1] != known.outputs:
        wanted = f"outputs of shape (rows, {known.outputs})"
        raise ShapeError(f"{name}: expected {wanted}, got {outputs.shape}. Pass what fnn.predict returns.")
    if known.classes is None:
        numbers: np.ndarray = np.asarray(known.to_units(outputs.astype(np.float64)))[:, 0]
        return numbers
    labels: np.ndarray = known.labels[outputs.argmax(1)]
    return labels


def check_whole(name: str, column: Values) -> None:
    """A target has no gaps, and is no date."""
    if column.missing.any():
        row = int(np.argmax(column.missing))
        raise ValueError(f"{name}: expected a target in each row, got none in row {row}. Leave such rows out.")
    if "date" in column.kind:
        raise TypeError(f"{name}: expected numbers or classes, got dates. Subtract a date, for days.")
