"""`ensemble`: one network trained from many seeds at once, and what they say together."""

from __future__ import annotations  # `help` then shows types by their names

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn import arguments
from fnn.arguments.constants import memoise_constants
from fnn.arguments.leaves import example_shape
from fnn.data import arrays
from fnn.data.loading import load_arrays
from fnn.data.streams import DataLike
from fnn.fitting.interrupts import catch_signals, insist_on_ctrl_c
from fnn.fitting.output_kinds import to_probabilities
from fnn.fitting.progress import OnSegment
from fnn.fitting.setup import check_matrices
from fnn.inference.prediction import predict
from fnn.runs import Run
from fnn.storage.folders import open_folder
from fnn.studies import results
from fnn.studies.chunks import ExecutionPlan
from fnn.studies.groups import (
    Group,
    MemberSpec,
    TrainingArguments,
    execution_options,
    group_members,
    loading_options,
    member_keys,
)
from fnn.studies.jobs import ChunkResult
from fnn.studies.results import ResultTable, interrupt_text
from fnn.studies.scheduler import run_groups
from fnn.training.config import resolve_loss
from fnn.training.state import chosen_params
from fnn.types import (
    Array,
    ArrayLike,
    Arrays,
    Cache,
    Columns,
    Key,
    KeyLike,
    Layer,
    LossLike,
    OfSettings,
    Params,
    PathLike,
    State,
    Train,
    Tree,
)


class Prediction(NamedTuple):
    """What an ensemble says: the mean of its members' outputs (probabilities, for losses on logits), and how far they
    are apart, as their standard deviation; `(rows, ...)` each, of several outputs a dict or a tuple of these."""

    mean: Tree
    spread: Tree


class Ensemble(NamedTuple):
    """What `ensemble` returns.

    - `net`: the network.
    - `params`, `state`: of all members, with a leading axis; the best of each by validation, else its last finite ones.
    - `table`: column -> one value per member, as in a `Sweep`.
    - `histories`: figure -> `(members, epochs)`, NaN after a member's end.
    - `to_probabilities`: what is done to outputs before they are averaged.
    """

    net: Layer
    params: Any
    state: Any
    table: dict[str, np.ndarray]
    histories: dict[str, np.ndarray]
    to_probabilities: Any
    in_shape: Any
    plans: list[ExecutionPlan]
    columns: Columns | None = None  # as in a `Run`

    def predict(self, x: DataLike, batch_size: int = 1024) -> Prediction:
        """Mean and spread of what the members say of these rows, as `fnn.predict` takes them."""
        arrays.same_columns("x", self.columns, Columns(arrays.columns_in(x)), "ensemble")
        run = Run(self.params, self.state, None, None)  # type: ignore[arg-type]  # of many: not the shapes of one
        both = predict(_together(self.net, self.to_probabilities, self._count()), run, x, batch_size)
        return Prediction(*(jax.tree.map(lambda a, i=i: a[:, i], both) for i in (0, 1)))

    def member(self, i: int) -> Run:
        """One member's parameters and layer state, for `fnn.predict` and `fnn.save`."""
        count = self._count()
        i = arguments.whole_number("member", i, -count, "Pass 0 for the first.")
        if not -count <= i < count:
            raise IndexError(f"member: expected 0 to {count - 1}, got {i}. Leave out those that diverged.")
        params, state = jax.tree.map(lambda a: a[i], (self.params, self.state))
        return Run(params, state, None, None, self.in_shape, None, self.columns)  # type: ignore[arg-type]

    def to_csv(self, path: PathLike) -> None:
        """Write the table, a row per member."""
        results.to_csv(self.table, path)

    def _count(self) -> int:
        """How many members there are: those that have trained, and have not diverged."""
        leaves = jax.tree.leaves((self.params, self.state))
        return len(leaves[0]) if leaves else int((~self.table["diverged"]).sum())

    def __repr__(self) -> str:
        return results.format_table(self.table, range(len(self.table["epochs"])))

    def _repr_html_(self) -> str:
        return results.format_html(self.table, range(len(self.table["epochs"])))


@insist_on_ctrl_c
@arguments.explain_call
def ensemble(
    net: Layer,
    loss: OfSettings[LossLike],
    optimizer: OfSettings[optax.GradientTransformation],
    data: Sequence[Arrays],
    *,
    epochs: int,
    members: int = 10,
    key: KeyLike = 0,
    validation: float | Sequence[Arrays] | None = None,
    weights: ArrayLike | None = None,
    width: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: float | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_seconds: float = 1.0,
    progress: bool | str = True,
    on_segment: OnSegment | None = None,
    **training: Unpack[TrainingArguments],
) -> Ensemble:
    """Train a network from many seeds; what they say together is more often right, and their spread tells how sure.

    `mean = (1/n) Σ_i p_i(x)`, `spread = sqrt((1/n) Σ_i (p_i(x) - mean)²)`, with `p_i` the outputs of member `i`, as
    probabilities where the loss is one on logits (softmax or sigmoid): Lakshminarayanan, Pritzel & Blundell 2017.
    Member `i` is the run of `fit(..., key=key + i)`, to rounding; if the key is no integer, the first is of the key
    itself, the others of `jax.random.fold_in(key, i)`: other weights to begin with, another order of the rows.

    Args:
        net, loss, optimizer, data, validation, weights: as for `fit`.
        epochs: of every member; each stops by itself with `patience`.
        members: how many, at least 1.
        width, devices, memory, executor, checkpoint, checkpoint_seconds, progress, on_segment: as for `fnn.sweep`.
        training: `batch_size, settings, monitor, mode, patience, min_delta, metrics, penalty, gradient, reduction,
            shuffle` as for `fit`.

    Returns:
        An `Ensemble`, to `predict` with. Members that diverged are marked in its table and left out of it.

    Raises:
        ValueError, TypeError: something does not fit; before anything trains.
        KeyboardInterrupt: at Ctrl-C, as for `fit`; its `run` is the `Ensemble` so far, None if no member has trained.
            SIGTERM likewise.

    Warns:
        TrainingInterrupted: your own handler of Ctrl-C or SIGTERM returned: so does what there is.

    >>> import fnn, numpy as np, optax
    >>> x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
    >>> net = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(2))
    >>> data = x, (x[:, 0] > 0).astype(int)
    >>> found = fnn.ensemble(net, fnn.losses.sparse_softmax_cross_entropy, optax.adam(0.05), data, epochs=60, members=4)
    >>> mean, spread = found.predict([[0.9]])
    >>> print(mean.round(1), spread.shape)
    [[0. 1.]] (1, 2)
    """
    arguments.instance("net", net, Layer, "Pass a network that is made.")
    epochs, members = arguments.epochs(epochs), arguments.whole_number("members", members, 1)
    how = execution_options(width, devices, memory, checkpoint, checkpoint_seconds, progress, executor, on_segment)
    seed, key = key, arguments.key(key)
    with open_folder(how.checkpoint, of_study=True):  # before anything that takes time
        rows, _, columns = load_arrays(data, validation, weights, key, None, *loading_options(loss, training, {}))
        tasks = [MemberSpec({}, words) for words in member_keys(seed, members)]
        groups = group_members("ensemble", (net, loss, optimizer), rows, tasks, training, how=how, epochs=epochs)
        check_matrices(groups[0].config, groups[0].members.take(0).settings, data, validation)
        figures = ResultTable(tasks, epochs, groups[0].config, rows.validation is not None)
        kept: dict[int, Any] = {}

        def take(group: Group, outcome: ChunkResult) -> None:
            figures.add(outcome.at, outcome)
            state = outcome.state
            for row, place in enumerate(outcome.at):
                best = chosen_params(state, int(state.best_epoch[row]))
                kept[int(place)] = jax.tree.map(lambda a, row=row: a[row], best)

        with catch_signals() as signals:
            plans = run_groups("ensemble", groups, epochs, how, take, signals.heard)
            begun, found = figures.has_run(), None
            whole = [kept[i] for i in sorted(kept) if begun[i] and not figures.columns["diverged"][i]]
            if whole:
                params, state = jax.tree.map(lambda *a: arrays.owned_array(np.stack(a)), *whole)
                turn = to_probabilities(resolve_loss(loss, training.get("settings") or {}))
                shape = example_shape(rows.train.x)
                found = Ensemble(net, params, state, figures.columns, figures.histories, turn, shape, plans, columns)
            signals.keep(found, functools.partial(interrupt_text, "ensemble", figures, how))
        signals.warn(bool(figures.ended.all()))
        if found is None:
            got, hint = "all diverged", "Lower the learning rate"
            if not figures.ended.all():
                got, hint = "on_segment ended it too early", "Return True later"
            raise ValueError(f"ensemble: expected members that trained, got none: {got}. {hint}.")
        return found


@memoise_constants
def _together(net: Layer, turn: Any, count: int) -> Layer:
    """So many members as one network: outputs `(rows, 2, ...)`, mean and spread."""

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        def of_one(params: Params, state: State) -> Array:
            probabilities: Array = turn(net.forward(params, state, x, None, False)[0])
            return probabilities

        outputs = jax.vmap(of_one, axis_size=count)(params, state)
        return jax.tree.map(lambda y: jnp.stack([y.mean(0), y.std(0)], 1), outputs), state, None

    return Layer(f"ensemble of {net}", net.init, forward, net.backward)
