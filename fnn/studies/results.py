"""What each member of a study ended with."""

from typing import Any

import jax
import numpy as np

from fnn.data.arrays import owned_array
from fnn.fitting.segments import without_debug_nans
from fnn.optimizers.evaluation import evaluation_params
from fnn.runs import Run, check_distinct, history_columns
from fnn.studies import tables
from fnn.studies.groups import ExecutionOptions, MemberSpec
from fnn.studies.scheduler import ChunkResult
from fnn.training.config import TrainerConfig
from fnn.training.state import chosen_params


class ResultTable:
    """What each member ended with, a column a figure, a row a task; NaN where it has not run."""

    def __init__(
        self, tasks: list[MemberSpec], epochs: int, config: TrainerConfig, validates: bool, deviations: bool = False
    ):
        self.config, self.validates, self.epochs = config, validates, epochs
        count = len(tasks)
        metrics = dict(config.metrics)
        check_distinct(tables.study_columns(metrics, validates, deviations), tasks[0].settings)
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
    after_all = evaluation_params(state.optimizer, state.params), state.state
    params, layers = after_all if last else chosen_params(state, state.best_epoch)
    history = jax.tree.map(lambda a: a[row, : int(state.epoch)], outcome.history)
    return Run(params, layers, history, state, in_shape, held)


def run_on_device(run: Run) -> Run:
    """A run as `fit` returns it."""
    with without_debug_nans():
        params, state, train_state = jax.tree.map(owned_array, (run.params, run.state, run.train_state))
    return run._replace(params=params, state=state, train_state=train_state)
