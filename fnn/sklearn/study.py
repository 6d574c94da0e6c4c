"""The fits of a search as the members of one study."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from fnn import arguments
from fnn.data.loading import load_arrays
from fnn.data.warnings import warn
from fnn.fitting.interrupts import catch_signals
from fnn.losses.transforms import from_function
from fnn.runs import Run, TrainingDiverged
from fnn.sklearn.estimators import FnnEstimator
from fnn.sklearn.fits import Fitted
from fnn.sklearn.plans import (
    READ_WITH_ROWS,
    CheckedRows,
    InputScale,
    Plan,
    PlannedRows,
    as_floats,
    check_rows,
    complete_plan,
    plan_rows,
    weight_decay,
)
from fnn.sklearn.targets import ClassTargets, NumberTargets, Scale
from fnn.studies.groups import ExecutionOptions, Group, MemberSpec, group_members
from fnn.studies.jobs import ChunkResult
from fnn.studies.results import member_run
from fnn.studies.scheduler import run_groups
from fnn.types import Array, Data, Loss, RowSelection, Settings

Split = tuple[np.ndarray, np.ndarray]  # rows to train on, rows to judge by


class SearchRows(NamedTuple):
    """The rows of a search, as the user passed them."""

    x: Any
    y: Any
    weights: np.ndarray | None

    def take(self, at: np.ndarray) -> "SearchRows":
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[at]
        return SearchRows(_safe_indexing(self.x, at), _safe_indexing(self.y, at), weights)


class Member(NamedTuple):
    """One fit of a search."""

    place: int  # candidate by candidate, split by split
    split: int
    whole: Plan  # of all rows: how the rows that all members share are encoded
    shared: CheckedRows  # all rows
    plan: Plan  # of the training rows of its split
    at: np.ndarray  # these rows among all
    parameters: Mapping[str, Any]  # of its estimator


def run_study(
    estimator: FnnEstimator,
    candidates: Sequence[Mapping[str, Any]],
    splits: Sequence[Split],
    rows: SearchRows,
    progress: bool,
) -> list[Fitted | None]:
    """Train every candidate on the training rows of every split, as one study.

    Returns:
        The fits, candidate by candidate, split by split. None for one that cannot be a member of a study: one with
        early stopping, one whose training rows lack a class, one whose parameters raise an error.
    """
    members: list[Member] = []
    plans = RowPlans(rows)
    for number, candidate in enumerate(candidates):
        try:
            members += _members(estimator, candidate, splits, plans, number * len(splits))
        except (TypeError, ValueError):
            continue  # its own fit raises the same, and scikit-learn decides what becomes of it
    fits: list[Fitted | None] = [None] * (len(candidates) * len(splits))
    for same in _alike(members, _data_key):
        for member, run in zip(same, _train(same, progress), strict=True):
            if run is not None:
                fits[member.place] = Fitted(member.parameters, member.plan, run)
    return fits


class RowPlans:
    """The rows of a search, planned once for all candidates that read the same of them."""

    def __init__(self, rows: SearchRows) -> None:
        self._rows = rows
        self._known: dict[Any, Any] = {}

    def whole(self, estimator: FnnEstimator) -> tuple[PlannedRows, CheckedRows]:
        """All rows: planned, and as they came."""

        def make() -> tuple[PlannedRows, CheckedRows]:
            return plan_rows(clone(estimator), *self._rows), check_rows(clone(estimator), *self._rows, reset=True)

        made: tuple[PlannedRows, CheckedRows] = self._remember(estimator, None, make)
        return made

    def part(self, estimator: FnnEstimator, split: int, at: np.ndarray) -> PlannedRows:
        """The rows in these places, which are those of a split."""
        made: PlannedRows = self._remember(estimator, split, lambda: plan_rows(clone(estimator), *self._rows.take(at)))
        return made

    def _remember(self, estimator: FnnEstimator, split: int | None, make: Callable[[], Any]) -> Any:
        read = [getattr(estimator, name, None) for name in READ_WITH_ROWS]
        key = split, *((type(value), value) for value in read)
        try:
            if key not in self._known:
                self._known[key] = make()
            return self._known[key]
        except TypeError:  # of what has no hash, such as a dict of weights; or of rows, which make() raises again
            return make()


def _members(
    estimator: FnnEstimator, candidate: Mapping[str, Any], splits: Sequence[Split], plans: RowPlans, first: int
) -> Iterator[Member]:
    """The fits of one candidate that can be members."""
    one = clone(estimator).set_params(**clone(dict(candidate), safe=False))
    if one.early_stopping:
        return
    parameters = one.get_params(deep=False)

    def plan(planned: PlannedRows) -> Plan:
        seeded = one.random_state is None or isinstance(one.random_state, (int, np.integer))
        return complete_plan(one if seeded else clone(one), planned)  # a generator would go on from fit to fit

    planned, shared = plans.whole(one)
    whole = plan(planned)
    for number, (train, _) in enumerate(splits):
        at = shared.at[train]
        mine = plan(plans.part(one, number, at))
        if shared.columns is not None:  # a split's sparse rows are scaled before a program has them
            yield Member(first + number, number, mine, mine.rows, mine, np.arange(len(mine.rows.y)), parameters)
        elif _same_classes(mine, whole):
            yield Member(first + number, number, whole, shared, mine, at[mine.rows.at], parameters)


def _same_classes(plan: Plan, whole: Plan) -> bool:
    """Whether targets of some rows are encoded as those of all."""
    mine, all_ = plan.targets, whole.targets
    if not isinstance(mine, ClassTargets) or not isinstance(all_, ClassTargets):
        return True
    return mine.kind == all_.kind and all(map(np.array_equal, mine.classes, all_.classes))


# ---- from fits to groups of members


def _alike(members: Sequence[Member], key: Callable[[Member], Any]) -> list[list[Member]]:
    """The members, those of one key together."""
    found: dict[Any, list[Member]] = {}
    for member in members:
        found.setdefault(key(member), []).append(member)
    return list(found.values())


def _data_key(member: Member) -> Any:
    """What members of one study have in common: epochs, and rows, encoded and weighted alike."""
    plan, weights = member.plan, member.plan.rows.weights
    apart = weights is not None or member.shared.columns is not None
    own = (member.split, None if weights is None else weights.tobytes()) if apart else None
    return plan.epochs, plan.targets.form, *(a.tobytes() for a in member.whole.inputs), own


def _program_key(member: Member) -> Any:
    """What members of one program have in common besides."""
    plan = member.plan
    return plan.net, plan.loss, plan.optimizer, plan.batch_size, plan.shuffle


def _train(members: Sequence[Member], progress: bool) -> list[Run | None]:
    """The runs of members with the same rows; None for one that a signal kept from beginning."""
    data, parts = _load(members[0]), _alike(members, _program_key)
    groups = [_group(part, data) for part in parts]
    numbers = {id(member): number for number, member in enumerate(members)}
    places = {
        id(group): np.array([numbers[id(member)] for member in part]) for group, part in zip(groups, parts, strict=True)
    }
    epochs = members[0].plan.epochs
    runs: dict[int, Run] = {}

    def take(group: Group, outcome: ChunkResult) -> None:
        for row, place in enumerate(places[id(group)][group.places[outcome.at]]):
            runs[int(place)] = member_run(outcome, row, None, None, last=True)

    with catch_signals() as signals:
        run_groups("FnnSearchCV", groups, epochs, ExecutionOptions(progress=progress), take, signals.heard)
        signals.keep(None, "FnnSearchCV: expected all fits to end, got {} before. Call fit again.".format)
    signals.warn(len(runs) == len(members))
    diverged = sum(bool(run.train_state.diverged[0] >= 0) for run in runs.values())
    if diverged:
        got = f"others in {diverged} of {len(runs)} fits, which are judged by their last finite parameters"
        warn(f"FnnSearchCV: expected finite costs, got {got}. Lower learning_rate_init.", TrainingDiverged)
    return [runs.get(number) for number in range(len(members))]


def _load(member: Member) -> Data:
    """The rows that all members share, on the device; weights are those of the member's split."""
    shared, weights = member.shared, None
    if member.plan.rows.weights is not None:
        weights = np.zeros(len(shared.x))
        weights[member.at] = member.plan.rows.weights
    arrays = member.whole._replace(rows=shared).encode_rows()
    return Data(load_arrays(arrays, None, weights, arguments.key(0), None)[0].train)


def _group(members: Sequence[Member], data: Data) -> Group:
    """Members whose plans differ in numbers, seeds and rows alone."""
    plan, whole = members[0].plan, members[0].whole
    splits = {member.split: member for member in members}
    folds = {split: fold for fold, split in enumerate(splits)}
    tasks = [
        MemberSpec(_settings(member), arguments.seed_words([member.plan.seed])[0], folds[member.split])
        for member in members
    ]
    training = {"batch_size": plan.batch_size, "shuffle": plan.shuffle, "penalty": weight_decay}
    loss = _of_settings(plan.loss, whole.targets.size) if isinstance(whole.targets, NumberTargets) else plan.loss
    parts = plan.net, loss, plan.optimizer
    views = _views(list(splits.values())), None
    (group,) = group_members("FnnSearchCV", parts, data, tasks, training, views)
    return group


def _views(members: Sequence[Member]) -> RowSelection:
    """The training rows of each split, filled up to one length, and how they are standardised."""
    room = max(len(member.at) for member in members)
    rows = np.stack([np.append(m.at, np.repeat(m.at[:1], room - len(m.at))) for m in members]).astype(np.int32)
    length = np.array([len(member.at) for member in members], np.int32)
    if members[0].shared.columns is not None:
        return RowSelection(rows, length)  # type: ignore[arg-type]  # on the host
    scales = [_relative(member.plan.inputs, member.whole.inputs) for member in members]
    mean, deviation = (as_floats(np.stack(moments)) for moments in zip(*scales, strict=True))
    return RowSelection(rows, length, mean, deviation)  # type: ignore[arg-type]  # on the host


def _relative(scale: InputScale, whole: InputScale) -> Scale:
    """A scale, of what has been scaled already; of dense columns."""
    return Scale(whole(scale.mean), scale.deviation / whole.deviation)


def _settings(member: Member) -> dict[str, float]:
    """The numbers of a member: those of its plan; how the targets of its rows are standardised."""
    mine, whole = member.plan.targets, member.whole.targets
    if not isinstance(mine, NumberTargets) or not isinstance(whole, NumberTargets):
        return member.plan.settings
    scale = _relative(mine.scale, whole.scale)
    means = {f"target_mean_{i}": float(value) for i, value in enumerate(scale.mean)}
    return member.plan.settings | means | {f"target_deviation_{i}": float(v) for i, v in enumerate(scale.deviation)}


def _of_settings(loss: Loss, columns: int) -> Any:
    """The loss of targets that each member standardises by its own rows."""

    def standardise(settings: Settings) -> Loss:
        mean, deviation = (
            jnp.stack([settings[f"target_{name}_{i}"] for i in range(columns)]) for name in ("mean", "deviation")
        )

        def value(y: Array, t: Array) -> Array:
            return loss.value(y, (t - mean) / deviation)

        def grad(y: Array, t: Array) -> Array:
            return loss.grad(y, (t - mean) / deviation)

        return from_function(value, grad, loss.name)

    return standardise
