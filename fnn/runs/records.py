"""A run: its trainer, its state, its history, and what is left of it in the end."""

import csv
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.runs import markup
from fnn.types import Array, Columns, Params, PathLike, Shape, State, explain_attributes


class RunningSums(NamedTuple):
    """Running weighted sums over rows, from which true means come: the loss, the weights, each metric."""

    loss: Array
    weight: Array
    metrics: dict[str, Array]
    lost: Any = ()  # what rounding took from these three, where many are added


class TrainState(NamedTuple):
    """Everything a training run is made of, in one pytree: save it, go on later, and the bits are the same."""

    params: Params
    state: State
    optimizer: Any  # the optax state
    key: Array  # raw key data, which any file can hold
    settings: dict[str, Array]  # numbers that may differ from run to run without compiling again
    epoch: Array  # whole epochs done
    step: Array  # steps done of the epoch under way
    sums: RunningSums  # of the epoch under way
    best: Any  # (params, state) of the epoch whose `monitor` is best on the validation rows; () without them
    best_value: Array
    best_epoch: Array  # counted from 0; -1: none yet
    wait: Array  # epochs since the best
    active: Array  # False: stopped early, or diverged; frozen from then on
    diverged: Array  # (epoch, step) of the first non-finite value, counted from 0; (-1, -1): none


class History(NamedTuple):
    """One value per epoch: `loss` is the mean over the epoch's rows as they were trained on, without the penalty."""

    loss: Array
    metrics: dict[str, Array]
    validation_loss: Array | None
    validation_metrics: dict[str, Array]

    def figures(self) -> dict[str, Array]:
        """The figures under the names that they have in a table: `loss`, the metrics, these with `validation_`."""
        held = [] if self.validation_loss is None else [self.validation_loss, *self.validation_metrics.values()]
        names = history_columns(self.metrics, self.validation_loss is not None)[1:]
        return dict(zip(names, [self.loss, *self.metrics.values(), *held], strict=True))

    def to_csv(self, path: PathLike) -> None:
        """Write a table: a row an epoch, counted from 0; columns epoch, loss, metrics, then these with `validation_`.

        Numbers with all their digits, so that reading them back gives the same ones. Raises a ValueError where two
        columns have one name.

        >>> import fnn, numpy as np, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "history.csv")
        >>> fnn.History(np.float32([0.5, 0.1]), {}, np.float32([0.6, 0.3]), {}).to_csv(path)
        >>> print(path.read_text())
        epoch,loss,validation_loss
        0,0.5,0.6
        1,0.1,0.3
        """
        names = history_columns(self.metrics, self.validation_loss is not None)
        check_distinct(names)
        columns = self.figures().values()
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(zip(range(len(self.loss)), *map(np.asarray, columns), strict=True))


def _index(history: History, at: Any) -> Any:
    """A part by its number, as of every tuple; a name is an attribute."""
    if isinstance(at, str):
        hint = f"Write history.{at}." if at in History._fields else "Call history.figures()."
        raise TypeError(f"history: expected a name as an attribute, got [{at!r}]. {hint}")
    return tuple.__getitem__(history, at)


History.__getitem__ = _index  # type: ignore[method-assign,assignment]  # its types stay those of a tuple


class Trainer(NamedTuple):
    """A training run, pure and un-jitted: `jit` fuses it into one program, `vmap` makes many runs of it.

    - `init(key, data, settings) -> train_state`
    - `run(train_state, data, epochs) -> (train_state, history)`
    """

    init: Callable[..., TrainState]
    run: Callable[..., tuple[TrainState, History]]


class Run(NamedTuple):
    """What `fit` returns: the best parameters and their layer state, the history, and the state to go on from."""

    params: Params
    state: State
    history: History
    train_state: TrainState
    in_shape: Shape | None = None  # of one example, so that a saved run can be checked; of several arrays, of each
    validation_rows: Any = None  # which rows `fit(..., validation=0.2)` held back, as NumPy indices
    columns: Columns | None = None  # of the frames that it was trained with, so that others are refused

    @property
    def best_epoch(self) -> int | None:
        """The epoch that `params` are from, counted from 0, if validation has chosen one."""
        if self.train_state is None or int(self.train_state.best_epoch) < 0:
            return None
        return int(self.train_state.best_epoch)

    def __repr__(self) -> str:
        """A few lines: how large it is, each figure from the first epoch to the last, and how it ended."""
        if self._is_traced():
            return "run, traced"
        (first, count), *others = self._facts()
        inputs = "" if self.in_shape is None else f", inputs {self._inputs()}"
        return "\n  ".join([f"run: {first} {count}{inputs}", *(f"{name}: {text}" for name, text in others)])

    def _repr_html_(self) -> str:
        """The same as a table, and the curve of the loss, for a notebook."""
        if self._is_traced():
            return "run, traced"
        facts = self._facts()
        if self.in_shape is not None:
            facts.insert(1, ("inputs", str(self._inputs())))
        drawn = {name: values for name, values in self._figures().items() if name in ("loss", "validation_loss")}
        return markup.table(facts, ["run", ""]) + markup.curves(drawn)

    def _inputs(self) -> Any:
        """The shape of an example; of several arrays those of each."""
        return self.in_shape if isinstance(self.in_shape, dict) else tuple(self.in_shape or ())

    def _is_traced(self) -> bool:
        return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self))

    def _figures(self) -> dict[str, np.ndarray]:
        """What there is of its history; nothing of the histories of many runs."""
        if not isinstance(self.history, History) or np.ndim(self.history.loss) != 1:
            return {}
        return {name: np.asarray(values) for name, values in self.history.figures().items() if np.size(values)}

    def _facts(self) -> list[tuple[str, str]]:
        """What there is to say, each with its name."""
        facts = [("parameters", f"{sum(np.size(leaf) for leaf in jax.tree.leaves(self.params)):,}")]
        if isinstance(self.history, History) and np.ndim(self.history.loss) == 1:
            facts += [("epochs", str(len(self.history.loss)))]
        facts += [(name, f"{values[0]:.4g} -> {values[-1]:.4g}") for name, values in self._figures().items()]
        if isinstance(self.train_state, TrainState) and np.shape(self.train_state.diverged) == (2,):
            facts += [] if self.best_epoch is None else [("best epoch", f"{self.best_epoch}, counted from 0")]
            epoch, step = np.asarray(self.train_state.diverged).tolist()
            facts += [("diverged", "no" if epoch < 0 else f"in epoch {epoch}, step {step}")]
        return facts


explain_attributes(
    Run,
    {
        "predict": "Call fnn.predict(net, run, x).",
        "evaluate": "Call fnn.evaluate(net, run, (x, t), metrics).",
        "save": "Call fnn.save(path, net, run).",
    }
    | dict.fromkeys(("loss", "losses", "accuracy"), "Its history has figures: use run.history.loss.")
    | dict.fromkeys(("parameters", "weights"), "Use run.params."),
)


class Progress(NamedTuple):
    """How far a run has come: what `on_segment=f` calls `f` with, after each segment of about half a second.

    - `first_epoch`: the number of the first epoch of `history`, counted from 0. Where an epoch takes longer than a
      segment the history may be empty; then that is the number of the epoch under way.
    - `history`: of the epochs that ended in the segment.
    - `epochs`: how many the run is to have.
    - `best_epoch`: so far, counted from 0, where there are validation rows; else None.
    - `rows_per_second`: trained on in the segment.
    - `members`: None for a run of `fit`. In a study, which members the segment is of: several are trained together.
      Numbers are rows of the table of a sweep or an ensemble; in a cross-validation `point * folds + fold`. Then all
      values of `history` are `(members, epochs)`, and `best_epoch` is `(members,)`, -1 for none yet.
    """

    first_epoch: int
    history: History
    epochs: int
    best_epoch: Any
    rows_per_second: float
    members: np.ndarray | None = None


class TrainingDiverged(UserWarning):
    """A cost or a parameter became non-finite; the run stopped at the last finite parameters.

    A warning, or with `fit(..., on_nan="raise")` an exception, whose `run` is what `fit` would have returned.
    """

    run: "Run | None" = None


class TrainingInterrupted(UserWarning):
    """Ctrl-C or SIGTERM ended a run early, and a handler of the program's own returned: the run so far came back.

    Without such a handler Ctrl-C raises a KeyboardInterrupt, and SIGTERM ends the process.
    """


def history_columns(metrics: Iterable[str], validates: bool = True) -> list[str]:
    """Those of a history: `epoch`, then figures, `loss` and the metrics, then these with `validation_`.

    >>> from fnn.runs import history_columns
    >>> history_columns(["accuracy"])
    ['epoch', 'loss', 'accuracy', 'validation_loss', 'validation_accuracy']
    """
    names = ["loss", *metrics]
    return ["epoch", *names, *(f"validation_{name}" for name in names if validates)]


def check_distinct(columns: Iterable[str], settings: Iterable[str] = ()) -> None:
    """Raise a ValueError where a metric, or a setting, has the name of another column: one would overwrite the other.

    >>> from fnn.runs import check_distinct
    >>> from fnn.studies.results import study_columns
    >>> check_distinct(study_columns(["error", "error_std"], True, deviations=True))
    Traceback (most recent call last):
    ...
    ValueError: metrics: expected names of your own, got 'error_std', a column of the result. Rename it.
    """
    seen: set[str] = set()
    for name in columns:
        if name in seen:
            raise ValueError(f"metrics: expected names of your own, got {name!r}, a column of the result. Rename it.")
        seen.add(name)
    for name in sorted(seen.intersection(settings)):
        raise ValueError(f"over: expected names of your own, got {name!r}, a column of the result. Rename it.")
