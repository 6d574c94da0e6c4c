"""Metrics in the units of the frame: of outputs and targets that are put back before they are measured."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from fnn import arguments
from fnn.data.tables.targets import Target
from fnn.losses.aggregation import RowMetric, SumMetric
from fnn.types import Array, Tree

Turn = Callable[[Tree, Tree], tuple[Tree, Tree]]  # of outputs and targets


@dataclasses.dataclass(frozen=True)
class InUnits:
    """What `Table.in_units` made: of which metric, by which targets."""

    metric: Any
    targets: tuple[Target, ...]
    one: bool

    def turn(self, y: Tree, t: Tree) -> tuple[Tree, Tree]:
        """Outputs and targets in the units of the frame."""
        return to_units(self.targets, self.one, y), to_units(self.targets, self.one, t)

    def __repr__(self) -> str:
        return f"{self.metric} in units"


@dataclasses.dataclass(frozen=True)
class Turned:
    """A metric of one number per row, of outputs and targets as `turn` makes them."""

    spec: Any
    metric: Callable[[Any, Any], Array]
    turn: Turn

    def __call__(self, y: Tree, t: Tree) -> Array:
        """One number per row."""
        return self.metric(*self.turn(y, t))

    def __repr__(self) -> str:
        return str(self.spec)


def in_units(metric: Any, targets: tuple[Target, ...], one: bool) -> Any:
    """A metric in the units of the frame."""
    if getattr(metric, "is_factory", False):
        name = metric.__name__
        raise TypeError(f"in_units: expected a metric, got the factory {name}. Call it: {name}().")
    arguments.function("in_units", metric, 2, "a metric", "Pass fnn.losses.absolute_error.")
    of = InUnits(metric, targets, one)
    return turn_metric(metric, of.turn, of)


def turn_metric(metric: Any, turn: Turn, spec: Any) -> Any:
    """A metric of outputs and targets as `turn` makes them; `spec` is what it prints as."""
    if isinstance(metric, SumMetric):
        sums = functools.partial(_sums, metric, turn)
        figure = metric.figure and functools.partial(_figure, metric)
        return SumMetric(spec, sums, figure, metric.mode, None, metric.merge, metric.missing)
    if isinstance(metric, RowMetric):
        keep = functools.partial(_keep, metric, turn)
        return RowMetric(spec, keep, functools.partial(_figure, metric), metric.mode, None, metric.missing)
    return Turned(spec, metric, turn)


# of the whole metric, not of its functions, since it can be pickled and they cannot


def _sums(metric: SumMetric, turn: Turn, y: Tree, t: Tree, weight: Array) -> Tree:
    return metric.sums(*turn(y, t), weight)


def _keep(metric: RowMetric, turn: Turn, y: Tree, t: Tree) -> Tree:
    return metric.keep(*turn(y, t))


def _figure(metric: Any, *collected: Tree) -> Any:
    return metric.figure(*collected)


def to_units(targets: tuple[Target, ...], one: bool, v: Tree) -> Tree:
    """Outputs or targets in the units of the frame; classes stay as they are."""
    if one:
        return targets[0].to_units(v)
    return {target.name: target.to_units(v[target.name]) for target in targets}
