"""What each member of a study ended with; and tables of numbers with names, printed, sorted, written to a file."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fnn import arguments
from fnn.data import checks
from fnn.data.arrays import owned_array
from fnn.fitting.segments import without_debug_nans
from fnn.runs import Run, check_distinct, history_columns, markup
from fnn.studies.groups import ExecutionOptions, Group, MemberSpec
from fnn.studies.jobs import ChunkResult
from fnn.studies.padding.networks import narrow_run
from fnn.training.config import TrainerConfig
from fnn.training.state import chosen_params
from fnn.types import PathLike


class ResultTable:
    """What each member ended with, a column a figure, a row a task; NaN where it has not run."""

    def __init__(
        self, tasks: list[MemberSpec], epochs: int, config: TrainerConfig, validates: bool, deviations: bool = False
    ):
        self.config, self.validates, self.epochs = config, validates, epochs
        count = len(tasks)
        metrics = dict(config.metrics)
        check_distinct(study_columns(metrics, validates, deviations), tasks[0].settings)
        names = history_columns(metrics, validates)[1:]
        self.columns: dict[str, np.ndarray] = {"epoch": np.full(count, -1)}
        self.columns |= {name: np.full(count, np.nan) for name in names}
        self.columns |= {"epochs": np.zeros(count, int), "diverged": np.zeros(count, bool)}
        self.histories = {name: np.full((count, epochs), np.nan, np.float32) for name in names}
        self.ended = np.zeros(count, bool)  # False: it has not run, or a signal ended it

    @property
    def monitor(self) -> str:
        """The column that says which member is best."""
        return f"validation_{self.config.monitor}" if self.validates else "loss"

    @property
    def mode(self) -> str:
        """Whether the smallest ("min") or the largest ("max") of it is best."""
        return self.config.mode

    def add(self, places: np.ndarray, outcome: ChunkResult, last: bool = False) -> None:
        """Fill in the rows of an outcome; `last`: the figures of the last epoch, not of the best."""
        state, columns = outcome.state, self.columns
        epochs = np.asarray(state.epoch)
        best = np.where(np.asarray(state.best_epoch) >= 0, state.best_epoch, epochs - 1)
        epoch = epochs - 1 if last else best
        history = outcome.history
        named: dict[str, Any] = {"loss": history.loss, **history.metrics}
        if self.validates:
            held: dict[str, Any] = {"loss": history.validation_loss, **history.validation_metrics}
            named |= {f"validation_{name}": values for name, values in held.items()}
        columns["epoch"][places], columns["epochs"][places] = epoch, epochs
        columns["diverged"][places] = np.asarray(state.diverged)[:, 0] >= 0
        self.ended[places] = ~np.asarray(state.active) | (epochs >= self.epochs)
        for name, values in named.items():
            values = np.asarray(values)
            if self.histories[name].dtype != values.dtype:
                self.histories[name] = self.histories[name].astype(values.dtype)
            self.histories[name][places, : values.shape[1]] = values
            for row, place in enumerate(places):
                columns[name][place] = values[row, epoch[row]] if epoch[row] >= 0 else np.nan

    def has_run(self) -> np.ndarray:
        """Which members have run; all, where there was nothing to run."""
        has_run: np.ndarray = (self.columns["epochs"] > 0) | self.columns["diverged"] | (self.epochs == 0)
        return has_run

    def scores(self) -> np.ndarray:
        """Smaller is better; what diverged, or has not run, is inf."""
        values = np.asarray(self.columns[self.monitor], float) * (-1 if self.mode == "max" else 1)
        return np.where(np.isfinite(values) & ~self.columns["diverged"], values, np.inf)


def interrupt_text(caller: str, figures: ResultTable, how: ExecutionOptions, name: str) -> str:
    """What a signal of this name ended, and what of it is kept."""
    members, begun = len(figures.ended), int(figures.has_run().sum())
    text = f"{caller}: expected {members} members to train {figures.epochs} epochs, got {name} when "
    text += "all was done" if figures.ended.all() else f"{begun} of them had begun"
    if not begun:
        return f"{text}; nothing has been trained. Call {caller} again to train."
    if how.checkpoint is None:
        return f"{text}; what there is of them is in no file. Pass checkpoint=folder to keep studies."
    return f"{text}; what could be written of them is kept in {how.checkpoint}. Call {caller} again to resume."


def member_run(outcome: ChunkResult, row: int, in_shape: Any, held: Any, last: bool = False) -> Run:
    """One member's run, still on the host; `last`: the parameters after the last epoch, not the best."""
    state = jax.tree.map(lambda a: a[row], outcome.state)
    params, layers = chosen_params(state, -1 if last else state.best_epoch)
    history = jax.tree.map(lambda a: a[row, : int(state.epoch)], outcome.history)
    return Run(params, layers, history, state, in_shape, held)


def own_runs(runs: Mapping[int, Run], groups: Sequence[Group]) -> dict[int, Run]:
    """The runs of these members in their order, each as one of its own network, where it was trained padded."""
    found = {}
    for place in sorted(runs):
        group = next(group for group in groups if place in group.places)
        run, nets = runs[place], group.family
        optimizer = group.call[0][2]  # as it was given: that of the configuration is traced for the widest
        found[place] = run if nets is None else narrow_run(run, nets, optimizer)
    return found


def run_on_device(run: Run) -> Run:
    """A run as `fit` returns it."""
    with without_debug_nans():
        params, state, train_state = jax.tree.map(owned_array, (run.params, run.state, run.train_state))
    return run._replace(params=params, state=state, train_state=train_state)


Columns = Mapping[str, Any]  # name -> one value per row, NumPy


# ---- the names of all columns


def study_columns(metrics: Iterable[str], validates: bool, deviations: bool = False) -> list[str]:
    """Those of a study's table beside the settings; with `deviations` each figure has one more, with `_std`."""
    names = history_columns(metrics, validates)
    return [*names, *(f"{name}_std" for name in names[1:] if deviations), "epochs", "diverged"]


# ---- what is done with a table


def argsort(columns: Columns, by: str, largest: bool = False, last: Any = False) -> np.ndarray:
    """The places of the rows, best first; NaN last, and behind it those marked `last`. Equal ones stay in their order.

    >>> import numpy as np
    >>> from fnn.studies.results import argsort
    >>> print(argsort({"loss": np.array([0.3, np.nan, 0.1])}, "loss"))
    [2 0 1]
    """
    if not isinstance(by, str) or by not in columns:
        got = arguments.describe_value(by)
        raise ValueError(f"by: expected one of {', '.join(columns)}, got {got}. Name a column.")
    largest = arguments.flag("largest", largest)
    values = np.asarray(columns[by], float)
    order = np.argsort(-values if largest else values, kind="stable")
    return order[np.argsort(np.broadcast_to(last, values.shape)[order], kind="stable")]


def rows(columns: Columns, order: Any) -> list[dict[str, Any]]:
    """The rows in that order, as dicts of Python's numbers."""
    return [{name: values[i].item() for name, values in columns.items()} for i in order]


def format_table(columns: Columns, order: Any, most: int = 20) -> str:
    """The first rows in that order, as text.

    >>> import numpy as np
    >>> from fnn.studies.results import format_table
    >>> print(format_table({"lr": np.array([0.1, 1.0]), "loss": np.array([0.25, np.nan])}, [0, 1]))
       lr   loss
      0.1   0.25
        1    nan
    """
    body, left = _cells(columns, order, most)
    lines = [list(columns), *body]
    widths = [max(5, *map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines)
    return f"{text}\n{left}" if left else text


def format_html(columns: Columns, order: Any, most: int = 20) -> str:
    """The same for a notebook."""
    body, left = _cells(columns, order, most)
    return markup.table(body, list(columns), left)


def _cells(columns: Columns, order: Any, most: int) -> tuple[list[list[str]], str]:
    """The first rows in that order, as texts; and a line that says how many more there are, if there are."""
    places = list(order)
    left = len(places) - most
    body = [[_cell(values[i]) for values in columns.values()] for i in places[:most]]
    return body, f"and {left} more" if left > 0 else ""


def _cell(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else ""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def to_csv(columns: Columns, path: PathLike) -> None:
    """Write all rows, in their own order, with all digits."""
    with open(checks.path("path", path), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True))
