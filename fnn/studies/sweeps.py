"""`sweep`: one network trained with many settings, as a map over the same pure run."""

from __future__ import annotations  # `help` then shows types by their names

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np
import optax

from fnn import arguments
from fnn.arguments.leaves import example_shape
from fnn.data.loading import load_arrays
from fnn.fitting.interrupts import catch_signals, insist_on_ctrl_c
from fnn.fitting.progress import OnSegment
from fnn.fitting.setup import check_matrices
from fnn.runs import Run
from fnn.storage.folders import open_folder
from fnn.studies import results
from fnn.studies.chunks import ExecutionPlan
from fnn.studies.groups import (
    Group,
    MemberSpec,
    TrainingArguments,
    check_points,
    execution_options,
    group_members,
    loading_options,
)
from fnn.studies.jobs import ChunkResult
from fnn.studies.results import ResultTable, interrupt_text, member_run, own_runs, run_on_device
from fnn.studies.scheduler import run_groups
from fnn.types import ArrayLike, Arrays, KeyLike, Layer, LossLike, OfSettings, PathLike


class Sweep(NamedTuple):
    """What `sweep` found. Prints as a table, best first.

    - `points`: the settings of each member, in the order asked for.
    - `table`: column -> one value per member: the settings; `epoch`, the one that its parameters are from (counted from
      0); the figures of that epoch; `epochs` it ran; whether it `diverged`.
    - `histories`: figure -> `(members, epochs)`, NaN after a member's end.
    - `best`: the best member; -1 if none has run.
    - `runs`: member -> its run: the best one's, or with `keep="all"` every one's.
    - `plans`: how the members were run.
    """

    points: list[dict[str, Any]]
    table: dict[str, np.ndarray]
    histories: dict[str, np.ndarray]
    best: int
    runs: dict[int, Run]
    monitor: str  # the column that tells which is best
    mode: str  # whether the smallest of it ("min") or the largest ("max") is best
    plans: list[ExecutionPlan]

    @property
    def run(self) -> Run:
        """The best member's."""
        return self.runs[self._has_run()]

    @property
    def settings(self) -> dict[str, Any]:
        """The best member's."""
        return self.points[self._has_run()]

    def _has_run(self) -> int:
        if self.best < 0:
            raise ValueError("sweep: expected members that have run, got none: it ended too early. Call it again.")
        return self.best

    def sorted(self, by: str | None = None, largest: bool | None = None) -> list[dict[str, Any]]:
        """The rows as dicts, best first, by any column: the smallest first, unless `largest`.

        By default as it prints: by the column that tells the best, those that diverged last.
        """
        largest = None if largest is None else arguments.flag("largest", largest)
        order = self._order() if by is None else results.argsort(self.table, by, False if largest is None else largest)
        return results.rows(self.table, order)

    def to_csv(self, path: PathLike) -> None:
        """Write the table, a row a member."""
        results.to_csv(self.table, path)

    def _order(self) -> np.ndarray:
        return results.argsort(self.table, self.monitor, self.mode == "max", self.table["diverged"])

    def __repr__(self) -> str:
        return results.format_table(self.table, self._order())

    def _repr_html_(self) -> str:
        return results.format_html(self.table, self._order())


@insist_on_ctrl_c
@arguments.explain_call
def sweep(
    net: OfSettings[Layer],
    loss: OfSettings[LossLike],
    optimizer: OfSettings[optax.GradientTransformation],
    data: Sequence[Arrays],
    *,
    over: Any,
    epochs: int,
    key: KeyLike = 0,
    validation: float | Sequence[Arrays] | None = None,
    weights: ArrayLike | None = None,
    keep: str = "best",
    width: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: float | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_seconds: float = 1.0,
    progress: bool | str = True,
    on_segment: OnSegment | None = None,
    **training: Unpack[TrainingArguments],
) -> Sweep:
    """Train a network with many settings: `sweep(net, loss, lambda s: optax.sgd(s["lr"]), data, over={"lr": [...]})`.

    Every member is the run that `fit` would do alone with these settings and this key, to rounding. Members whose
    settings differ in floats are trained by one compiled program; settings that are all whole numbers (a depth,
    `batch_size`) may change shapes and are compiled once for each; widths of `dense` and activations mostly share one
    program (docs/understand/what_compiles.md).

    Args:
        net, loss, optimizer: as for `fit`; those that depend on the settings as functions of them.
        data, validation, weights: as for `fit`, shared by all members; no streams.
        over: a grid, as a dict of lists; or a list of points, dicts with the same names, such as `fnn.draws` makes.
            `seed` is each member's key, `batch_size`, `patience`, `min_delta` those of `fit`, all others your own.
        epochs: of every member; each stops by itself with `patience`.
        key: the same for all members, unless `seed` is among the settings.
        keep: "best" keeps the parameters of the best member, "all" every one's.
        width: members in one program; None: one after another, but many together where the network is small or the
            device is no CPU. With a width of your own, adding or reordering members changes no other's bits.
        devices: JAX devices to spread over, the same one twice for two threads; None: all, a CPU with a thread a core.
        memory: bytes to stay below (half of what is free); members are run in chunks that fit. On a CPU the histories
            of all members count.
        executor: a pool of workers to train on, in the place of threads here: anything with the interface of
            `concurrent.futures.Executor`; or a function that makes one, which is called again where a worker's death
            breaks the pool. The result has the same bits as without. See docs/devices.md.
        checkpoint, checkpoint_seconds, progress: as for `fit`; a chunk of members each.
        on_segment: as for `fit`, called with the segments of each chunk, by one thread at a time; `Progress.members`
            says of which members. If it returns True the study ends there, with what there is. Not beside `executor`,
            whose workers are other processes.
        training: `batch_size, settings, monitor, mode, patience, min_delta, metrics, penalty, gradient, reduction,
            shuffle` as for `fit`.

    Returns:
        A `Sweep`: a table to print and sort, the best member's run. Best is the lowest validation loss (or what
        `monitor` and `mode` say), without validation the lowest training loss. Members that diverged are marked, keep
        their last finite parameters, and come last.

    Raises:
        ValueError, TypeError: something does not fit; before anything trains.
        BlockingIOError: another process or thread trains in the checkpoint's folder; says which process.
        MemoryError: not even one member fits.
        KeyboardInterrupt: at Ctrl-C, as for `fit`; its `run` is the `Sweep` so far. SIGTERM likewise.

    Warns:
        TrainingInterrupted: your own handler of Ctrl-C or SIGTERM returned: so does what there is.

    >>> import fnn, numpy as np, optax
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> found = fnn.sweep(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]), (x, 3 * x),
    ...                   over={"lr": [0.001, 0.5]}, epochs=100, batch_size=16)
    >>> print(found.settings, found.run.params[0]["w"].round(4))
    {'lr': 0.5} [[3.]]
    """
    points, epochs, keep = check_points(over), arguments.epochs(epochs), arguments.one_of("keep", keep, ("best", "all"))
    how = execution_options(width, devices, memory, checkpoint, checkpoint_seconds, progress, executor, on_segment)
    key = arguments.key(key)
    with open_folder(how.checkpoint, of_study=True):  # before anything that takes time
        given = data, validation, weights, key, None, *loading_options(loss, training, points[0])
        rows, held, of_frame = load_arrays(*given)
        words = np.asarray(jax.random.key_data(key))
        tasks = [
            MemberSpec(point, arguments.seed_words([int(point["seed"])])[0] if "seed" in point else words)
            for point in points
        ]
        groups = group_members("sweep", (net, loss, optimizer), rows, tasks, training, how=how, epochs=epochs)
        check_matrices(groups[0].config, groups[0].members.take(0).settings, data, validation)
        figures = ResultTable(tasks, epochs, groups[0].config, rows.validation is not None)
        runs, in_shape = dict[int, Run](), example_shape(rows.train.x)

        def take(group: Group, outcome: ChunkResult) -> None:
            places = group.places[outcome.at]
            figures.add(places, outcome)
            scores = figures.scores()
            if keep == "all":
                runs.update({int(place): member_run(outcome, row, in_shape, held) for row, place in enumerate(places)})
                return
            row = int(np.argmin(scores[places]))
            # of equal ones the first, whichever thread comes first
            if not runs or (scores[places[row]], places[row]) < min((scores[i], i) for i in runs):
                runs.clear()
                runs[int(places[row])] = member_run(outcome, row, in_shape, held)

        with catch_signals() as signals:
            plans = run_groups("sweep", groups, epochs, how, take, signals.heard)
            table = {name: np.array([point[name] for point in points]) for name in points[0]} | figures.columns
            best = _best_member(figures, runs)
            own = own_runs(runs, groups).items()
            runs = {member: run_on_device(run)._replace(columns=of_frame) for member, run in own}
            found = Sweep(points, table, figures.histories, best, runs, figures.monitor, figures.mode, plans)
            signals.keep(found, functools.partial(interrupt_text, "sweep", figures, how))
        signals.warn(bool(figures.ended.all()))
        return found


def _best_member(figures: ResultTable, runs: dict[int, Run]) -> int:
    """The best of the members whose runs were kept; -1 if none has begun."""
    scores = figures.scores()
    best = min(runs, key=lambda member: (scores[member], member), default=-1)
    return best if best >= 0 and figures.has_run()[best] else -1
