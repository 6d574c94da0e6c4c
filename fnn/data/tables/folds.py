"""A table in each fold of a cross-validation: as its training rows say, in arrays that all folds share.

The rows of all folds lie one after another, all rows of the frame once per fold, each as the table of its fold has
them. So nothing that is computed from them has to know of tables, and no held-out row has a say in them. Targets that
are numbers carry their units, mean, deviation and whether they are logarithms, for the metrics that are `in_units`.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments.constants import memoise_constants
from fnn.data.tables.columns import as_inputs, fit_like
from fnn.data.tables.frames import Values
from fnn.data.tables.table import Table, input_values, target_values
from fnn.data.tables.targets import Target, as_target, fit_target
from fnn.data.tables.units import InUnits, to_units, turn_metric
from fnn.types import Array, Loss, Tree

Fold = tuple[np.ndarray, np.ndarray]  # rows to train on, rows to judge by
TARGETS, UNITS = "targets", "units"


class FoldTables(NamedTuple):
    """The table of each fold; inputs and targets of all folds, one after another."""

    tables: list[Table]
    x: Tree
    t: Tree

    def decode(self, fold: int, y: Tree) -> Tree:
        """Outputs of a fold's network: numbers in the units of the frame, `(rows,)`; those of classes stay logits."""
        table = self.tables[fold]
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), y)
        numbers = to_units(table.targets, table.one, wide)
        if table.one:
            return numbers[:, 0] if table.targets[0].classes is None else y
        return {t.name: numbers[t.name][:, 0] if t.classes is None else y[t.name] for t in table.targets}


def fit_tables(table: Table, frame: Any, folds: Sequence[Fold]) -> FoldTables:
    """Fit the table anew to the training rows of each fold.

    The sizes stay those of `table`, so that one network takes the rows of all folds: a category that a fold's training
    rows do not have is one that was not there, and where they have no gaps the column that shows gaps is 0. The names
    of classes stay too.
    """
    values, targets = input_values(table, frame), target_values(table, frame)
    made, x, t = [], [], []
    for number, (train, _) in enumerate(folds):
        columns = [fit_like(known, _some(column, train)) for known, column in zip(table.columns, values, strict=True)]
        own = [_fit_target(number, known, _some(v, train)) for known, v in zip(table.targets, targets, strict=True)]
        made.append(Table(tuple(columns), tuple(own), table.one))
        with np.errstate(over="ignore"):  # what is beyond float32 is named next
            x.append(as_inputs(columns, values, table.columns))
            t.append(_targets(number, made[-1], targets))
        _check_finite(number, (x[-1], t[-1]))
    return FoldTables(made, *(jax.tree.map(lambda *a: np.concatenate(a), *each) for each in (x, t)))


@memoise_constants  # the same loss each time, so that the program of a call before is found
def loss_of_targets(loss: Loss) -> Loss:
    """A loss of targets that carry their units."""
    named = {name: getattr(loss, name) for name in ("value", "grad", "check", "residuals")}
    return loss._replace(**{name: own and functools.partial(_call, loss, name) for name, own in named.items()})


def _call(loss: Loss, name: str, y: Tree, t: Tree) -> Any:
    return getattr(loss, name)(y, t[TARGETS])


@memoise_constants
def metric_of_targets(metric: Any) -> Any:
    """A metric of targets that carry their units: those of its fold, if it is `in_units`."""
    of = getattr(metric, "spec", None)
    if not isinstance(of, InUnits):
        return turn_metric(metric, _leave_units, metric)
    return turn_metric(of.metric, functools.partial(_turn, of), of)


def _leave_units(y: Tree, t: Tree) -> tuple[Tree, Tree]:
    return y, t[TARGETS]


def _turn(of: InUnits, y: Tree, t: Tree) -> tuple[Tree, Tree]:
    return _put_back(of, y, t.get(UNITS, {})), _put_back(of, t[TARGETS], t.get(UNITS, {}))


def _put_back(of: InUnits, v: Tree, units: dict[str, Array]) -> Tree:
    if of.one:
        return _in_units(v, units.get(of.targets[0].name))
    return {target.name: _in_units(v[target.name], units.get(target.name)) for target in of.targets}


def _in_units(v: Array, units: Array | None) -> Array:
    """Numbers `(rows, 1)` in the units of each row; without units, of classes, as they are."""
    if units is None:
        return v
    mean, deviation, log = (units[:, i : i + 1] for i in range(3))
    numbers = v * deviation + mean
    return jnp.where(log > 0, jnp.expm1(jnp.where(log > 0, numbers, 0.0)), numbers)


def _some(column: Values, rows: np.ndarray) -> Values:
    return column._replace(values=column.values[rows], missing=column.missing[rows])


def _fit_target(fold: int, known: Target, column: Values) -> Target:
    if known.classes is not None:
        return known
    return fit_target(_where(fold, known), column)._replace(name=known.name)


def _targets(fold: int, table: Table, values: Sequence[Values]) -> Tree:
    """The targets of all rows in a fold, with their units."""
    t = {one.name: as_target(_where(fold, one), one, v) for one, v in zip(table.targets, values, strict=True)}
    units = {
        one.name: np.tile(np.array([one.mean, one.deviation, one.log], np.float32), (len(t[one.name]), 1))
        for one in table.targets
        if one.classes is None
    }
    return {TARGETS: t[table.targets[0].name] if table.one else t} | ({UNITS: units} if units else {})


def _check_finite(fold: int, arrays: Tree) -> None:
    for array in jax.tree.leaves(arrays):
        bad = ~np.isfinite(array).reshape(len(array), -1).all(1)
        if bad.any():
            row = int(np.argmax(bad))
            wanted = "numbers that fit float32 once they are standardised by the fold's training rows"
            raise ValueError(f"table, fold {fold}: expected {wanted}, got one beyond in row {row}. Leave the row out.")


def _where(fold: int, target: Target) -> str:
    return f"table, fold {fold}, column {target.name!r}"
