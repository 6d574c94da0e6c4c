"""`cross_validate`: how well a network does on rows that it has not seen, all folds as members of one program; and,
with several settings, which of them does best."""

from __future__ import annotations  # `help` then shows types by their names

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np
import optax

from fnn import arguments
from fnn.arguments.leaves import example_shape
from fnn.data.loading import load_arrays
from fnn.data.scaling import Standardiser
from fnn.data.tables.table import Table
from fnn.fitting.host_loop import fit
from fnn.fitting.interrupts import catch_signals, insist_on_ctrl_c
from fnn.fitting.progress import OnSegment
from fnn.fitting.setup import check_matrices
from fnn.runs import Run
from fnn.storage.folders import open_folder
from fnn.studies import results
from fnn.studies.chunks import ExecutionPlan
from fnn.studies.folds import (
    Fold,
    arrays_of,
    check_weights,
    inputs_to_scale,
    make_folds,
    predict_folds,
    rows_of_folds,
    standardiser_of,
    with_units,
)
from fnn.studies.groups import (
    Group,
    MemberSpec,
    TrainingArguments,
    bind_static,
    check_points,
    execution_options,
    group_members,
    loading_options,
    member_keys,
)
from fnn.studies.jobs import ChunkResult
from fnn.studies.results import ResultTable, interrupt_text, member_run, own_runs
from fnn.studies.scheduler import run_groups
from fnn.types import (
    ArrayLike,
    Arrays,
    Columns,
    Data,
    Frame,
    KeyLike,
    Layer,
    LossLike,
    OfSettings,
    Part,
    PathLike,
    Shape,
    Tree,
)


class CrossValidation(NamedTuple):
    """What `cross_validate` found. Prints as a table, best first.

    - `points`: the settings tried, in the order asked for; one without any where there was nothing to choose.
    - `table`: column -> one value per point: the settings; the mean over the folds of each figure, and with `_std` its
      standard deviation over them; in how many folds the training `diverged`.
    - `scores`: figure -> `(points, folds)`, of the parameters after the last epoch.
    - `histories`: figure -> `(points, folds, epochs)`.
    - `folds`: the rows to train on and those to evaluate on, of each fold; repeats one after another.
    - `best`: the best point; -1 if it was ended before the folds of one had run.
    - `predictions`: what the networks of the best point say of the rows that they have not seen, `(rows, ...)`, with
      repeats `(repeats, rows, ...)`; NaN where a row is in no fold. Of several outputs a dict or a tuple of these.
      With a table numbers are in the units of the frame, `(rows,)`, and classes are logits.
    - `run`: the network trained anew on all rows with the best settings; None with `refit=False`.
    - `standardiser`: of all rows, to be applied to what `run` is to predict; None without `standardise`.
    """

    points: list[dict[str, Any]]
    table: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]
    histories: dict[str, np.ndarray]
    folds: list[Fold]
    best: int
    predictions: Tree
    run: Run | None
    standardiser: Standardiser | None
    monitor: str  # the column that tells which is best
    mode: str  # whether the smallest of it ("min") or the largest ("max") is best
    plans: list[ExecutionPlan]

    @property
    def settings(self) -> dict[str, Any]:
        """The best point's."""
        if self.best < 0:
            raise ValueError(
                "cross_validate: expected a point whose folds have all run, got none: it ended too early. "
                "Call it again."
            )
        return self.points[self.best]

    def sorted(self, by: str | None = None, largest: bool | None = None) -> list[dict[str, Any]]:
        """The rows as dicts, best first, by any column: the smallest first, unless `largest`.

        By default as it prints: by the column that tells the best, those that diverged in a fold last.
        """
        largest = None if largest is None else arguments.flag("largest", largest)
        order = self._order() if by is None else results.argsort(self.table, by, False if largest is None else largest)
        return results.rows(self.table, order)

    def to_csv(self, path: PathLike) -> None:
        """Write the table, a row a point."""
        results.to_csv(self.table, path)

    def _order(self) -> np.ndarray:
        return results.argsort(self.table, self.monitor, self.mode == "max", self.table["diverged"] > 0)

    def __repr__(self) -> str:
        return results.format_table(self.table, self._order())

    def _repr_html_(self) -> str:
        return results.format_html(self.table, self._order())


@insist_on_ctrl_c
@arguments.explain_call
def cross_validate(
    net: OfSettings[Layer],
    loss: OfSettings[LossLike],
    optimizer: OfSettings[optax.GradientTransformation],
    data: Sequence[Arrays] | Frame,
    *,
    epochs: int,
    table: Table | None = None,
    folds: Any = 5,
    repeats: int = 1,
    stratify: bool | str | None = None,
    groups: ArrayLike | None = None,
    standardise: bool | Sequence[str] = False,
    over: Any = None,
    key: KeyLike = 0,
    weights: ArrayLike | None = None,
    refit: bool = True,
    width: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: float | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_seconds: float = 1.0,
    progress: bool | str = True,
    on_segment: OnSegment | None = None,
    **training: Unpack[TrainingArguments],
) -> CrossValidation:
    """Judge a network by rows that it has not seen: each fold's rows are judged by a network trained on the others.

    With `over`, for many settings, of which the best are then used to train on all rows. Every fold is the run that
    `fit` would do alone on the fold's rows, to rounding; figures are those of the parameters after the last epoch:
    to choose an epoch by the very rows that judge would flatter it.

    Args:
        net, loss, optimizer, weights: as for `fit`.
        data: `(x, t)`, as for `fit`; no stream. With `table` the frame.
        epochs: of every run.
        table: of all rows, `fnn.Table.fit(frame, …)`, whose sizes the network has. Each fold has a table of its own,
            fitted to its training rows: means, deviations, logarithms, categories. Of `table` it has the room alone,
            and the names of classes. Losses are those of each fold's targets; for metrics in the units of the frame
            call `table.in_units`.
        folds: how many, or a list of `(train, test)` row numbers, such as `fnn.folds` makes.
        repeats: all of it so many times, with other folds and other seeds.
        stratify: each class in every fold alike; None: where the targets are classes. Of several targets the name of
            those to go by; None: none.
        groups: one per row; rows of one group are never on both sides.
        standardise: `(x - mean)/deviation` by each fold's training rows, column by column. Of several inputs all that
            are floats, or a list of names.
        over: settings to choose from, as for `fnn.sweep`.
        key: of all runs; with repeats, 1, 2, … more. An integer is also the seed of the folds.
        refit: train on all rows with the best settings in the end.
        width, devices, memory, executor, checkpoint, checkpoint_seconds, progress: as for `fnn.sweep`.
        on_segment: as for `fnn.sweep`; not called by the training on all rows in the end.
        training: `batch_size, settings, monitor, mode, min_delta, metrics, penalty, gradient, reduction, shuffle` as
            for `fit`. `monitor` and `mode` say which settings are best.

    Returns:
        A `CrossValidation`.

    Raises:
        ValueError, TypeError: something does not fit; before anything trains.
        KeyboardInterrupt: at Ctrl-C, as for `fit`; its `run` is the `CrossValidation` so far. SIGTERM likewise.

    Warns:
        TrainingInterrupted: your own handler of Ctrl-C or SIGTERM returned: so does what there is.

    >>> import fnn, numpy as np, optax
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(90, 2)).astype("float32")
    >>> found = fnn.cross_validate(fnn.serial(fnn.dense(2)), fnn.losses.sparse_softmax_cross_entropy,
    ...                            lambda s: optax.sgd(s["lr"]), (x, (x[:, 0] > 0).astype(int)), epochs=50,
    ...                            batch_size=16, over={"lr": [1e-4, 1.0]}, metrics={"accuracy": fnn.accuracy})
    >>> print(found.settings, found.predictions.shape, found.scores["validation_accuracy"].shape)
    {'lr': 1.0} (90, 2) (2, 5)

    A frame, with a table fitted in each fold:

    >>> import pandas
    >>> frame = pandas.DataFrame({"area": x[:, 0], "town": ["Ulm", "Bonn", None] * 30, "price": 7e4 + 1e4 * x[:, 0]})
    >>> table = fnn.Table.fit(frame, target="price")
    >>> found = fnn.cross_validate(fnn.network_for(table, hidden=()), table.loss, optax.adam(0.1), frame, table=table,
    ...                            epochs=50, metrics={"error": table.in_units(fnn.losses.absolute_error)}, refit=False)
    >>> print(found.predictions.shape, bool(found.table["validation_error"][0] < 2000))
    (90,) True
    """
    points, epochs, refit = _points(over, training), arguments.epochs(epochs, 1), arguments.flag("refit", refit)
    arrays = arrays_of(data, table, standardise)
    how = execution_options(width, devices, memory, checkpoint, checkpoint_seconds, progress, executor, on_segment)
    key, seed = arguments.key(key), key
    with open_folder(how.checkpoint, of_study=True):  # before anything that takes time
        rows, _, of_frame = load_arrays(arrays, None, weights, key, None, *loading_options(loss, training, points[0]))
        part = rows.train
        made = make_folds(folds, repeats, stratify, groups, seed, part.t)
        check_weights(part.weight, made)
        x, leaves = inputs_to_scale(part.x, standardise)
        split = rows_of_folds(made, part, x, leaves, table, data)
        loss_, rest = (loss, training) if table is None else with_units(loss, training)
        keys, each = member_keys(seed, repeats), len(made) // repeats
        tasks = [MemberSpec(point, _key_of(point, keys[f // each]), f) for point in points for f in range(len(made))]
        parts, both = (net, loss_, optimizer), Data(split.part, split.part)
        groups_ = group_members("cross_validate", parts, both, tasks, rest, split.views, how, epochs)
        check_matrices(groups_[0].config, groups_[0].members.take(0).settings, data)
        figures = ResultTable(tasks, epochs, groups_[0].config, True, deviations=True)
        best = _Best(figures, len(points), len(made), example_shape(part.x))
        scaler = None if leaves is None else _scaler(x, leaves, of_frame)
        with catch_signals() as signals:
            plans = run_groups("cross_validate", groups_, epochs, how, best.take, signals.heard)
            found = _of_folds(points, figures, made, best, scaler, plans)
            signals.keep(found, functools.partial(interrupt_text, "cross_validate", figures, how))
        if not figures.ended.all():
            signals.warn()
            return found
        chosen = points[found.best]
        parts, same = bind_static((net, loss, optimizer, training.get("penalty")), chosen)
        settings = {**(training.get("settings") or {}), **chosen}
        with catch_signals() as signals:
            signals.keep(found, functools.partial(_refit_text, how.checkpoint))
            y = predict_folds(parts[0], settings, best.own_runs(groups_), made, split, repeats, signals.heard)
            found = found._replace(predictions=y)
            if refit and not signals.heard():
                run = _refit_best(parts, same, part, scaler, training, chosen, epochs, key, progress)
                found = found._replace(run=run._replace(columns=of_frame))
            signals.keep(found, functools.partial(_refit_text, how.checkpoint))
        signals.warn()
        return found


def _refit_text(folder: str | None, name: str) -> str:
    """What a signal of this name ended, once all folds had run."""
    kept = "are in no file. Pass checkpoint=folder to keep studies."
    if folder is not None:
        kept = f"what could be written of them is kept in {folder}. Call again."
    return (
        f"cross_validate: expected the best settings to train on all rows, got {name} before they had; the folds have "
        f"run, and {kept}"
    )


def _points(over: Any, training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points to try; nothing may choose an epoch by the rows that judge."""
    points = [{}] if over is None else check_points(over)
    for name in ("patience", "validation"):
        if training.get(name) is not None or name in points[0]:
            raise ValueError(
                f"{name}: expected none in a cross-validation, whose folds are for judging, got one. "
                "Choose the number of epochs by the histories of the result."
            )
    return points


def _of_folds(
    points: list[dict[str, Any]], figures: ResultTable, folds: list[Fold], best: _Best, scaler: Any, plans: Any
) -> CrossValidation:
    """What the folds have given so far; without predictions, and without a run on all rows."""
    scores, histories = _of_points(figures, len(points), len(folds))
    columns = _table(points, scores, figures.columns["diverged"])
    point = best.point if figures.ended.all() or np.isfinite(best.score) else -1
    monitored = figures.monitor, figures.mode
    return CrossValidation(points, columns, scores, histories, folds, point, None, None, scaler, *monitored, plans)


def _of_points(figures: ResultTable, points: int, folds: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The scores, (points, folds), and the histories, (points, folds, epochs), of all figures."""
    scores = {name: v.reshape(points, folds) for name, v in figures.columns.items() if name in figures.histories}
    return scores, {name: v.reshape(points, folds, -1) for name, v in figures.histories.items()}


def _scaler(x: Tree, leaves: tuple[str, ...], of_frame: Columns | None) -> Standardiser:
    """The standardiser of all rows."""
    return standardiser_of(x, leaves)._replace(columns=of_frame and Columns(of_frame.x))


def _table(points: list[dict[str, Any]], scores: dict[str, np.ndarray], diverged: np.ndarray) -> dict[str, np.ndarray]:
    """The settings, and over the folds the mean and the standard deviation of each figure."""
    columns = {name: np.array([point[name] for point in points]) for name in points[0]}
    with np.errstate(invalid="ignore"):  # a fold that diverged is inf, and its distance from the mean nan
        for name, values in scores.items():
            columns |= {name: values.mean(1), f"{name}_std": values.std(1)}
    return columns | {"diverged": diverged.reshape(len(points), -1).sum(1)}


# ---- keys


def _key_of(point: dict[str, Any], key: np.ndarray) -> np.ndarray:
    return arguments.seed_words([int(point["seed"])])[0] if "seed" in point else key


# ---- the best point


class _Best:
    """The runs of the best point so far: a point is judged when all its folds have ended; the others are dropped."""

    def __init__(self, figures: ResultTable, points: int, folds: int, in_shape: Shape | None = None):
        self.figures, self.folds, self.in_shape = figures, folds, in_shape
        self.waiting: dict[int, dict[int, Run]] = {point: {} for point in range(points)}
        self.point, self.score, self.runs = 0, np.inf, {}  # type: int, float, dict[int, Run]

    def take(self, group: Group, outcome: ChunkResult) -> None:
        """What became of some members: their figures after the last epoch, and their runs."""
        places = group.places[outcome.at]
        self.figures.add(places, outcome, last=True)
        self.add(places, [member_run(outcome, i, self.in_shape, None, last=True) for i in range(len(places))])

    def add(self, places: Sequence[int], runs: list[Run]) -> None:
        for place, run in zip(places, runs, strict=True):
            point, fold = divmod(int(place), self.folds)
            self.waiting[point][fold] = run
            if len(self.waiting[point]) == self.folds:
                score = float(self.figures.scores()[point * self.folds : (point + 1) * self.folds].mean())
                done = self.waiting.pop(point)
                if not self.runs or score < self.score or (score == self.score and point < self.point):
                    self.point, self.score, self.runs = point, score, done

    def own_runs(self, groups: Sequence[Group]) -> dict[int, Run]:
        """Of the best point, fold -> its run."""
        first = self.point * self.folds
        return dict(enumerate(own_runs({first + fold: run for fold, run in self.runs.items()}, groups).values()))


def _refit_best(
    parts: Any,
    same: Any,
    part: Part,
    scaler: Any,
    training: Any,
    chosen: Any,
    epochs: int,
    key: Any,
    progress: bool | str,
) -> Run:
    """All rows, the best settings."""
    x = jax.tree.map(np.asarray, part.x)
    x = x if scaler is None else scaler(x)
    own = {n: v for n, v in training.items() if n not in ("monitor", "mode", "penalty", "settings", "batch_size")}
    net, loss, optimizer, penalty = parts
    traced = {n: v for n, v in chosen.items() if n not in (*same, "seed", "batch_size", "min_delta")}
    size = chosen.get("batch_size", training.get("batch_size"))
    if "seed" in chosen:
        key = arguments.key(int(chosen["seed"]))
    return fit(
        net, loss, optimizer, (x, part.t), epochs=epochs, key=key, weights=part.weight, penalty=penalty,
        settings={**(training.get("settings") or {}), **traced}, batch_size=size, progress=progress, **own,
    )  # fmt: skip
