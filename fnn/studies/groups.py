"""What sweeps, cross-validations and ensembles share: from a list of tasks to members that can run, to figures.

A task is one training run: its settings, its seed, its fold. Tasks whose settings differ in traced numbers alone are
members of one group, and one compiled program trains them all; whole numbers may change shapes (a width, a batch
size), so each combination of these is a group of its own.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn.compilation.programs import NUMBERS
from fnn.data import checks
from fnn.fitting import resume
from fnn.fitting.output_kinds import warn_of_mix_up
from fnn.fitting.progress import shown_members
from fnn.fitting.segments import guards_aside
from fnn.fitting.setup import OWN_SETTINGS, Asked, asked_recipe, made_ready, own_settings
from fnn.studies import tables
from fnn.studies.chunks import Members, Shared
from fnn.studies.scheduler import Job, Kept, Outcome, Plan, follow, planned
from fnn.studies.search_space import points_of, traced_and_static
from fnn.training.config import Recipe, check_readers, given, given_loss, takes_settings
from fnn.training.ranges import check_ranges
from fnn.types import Data, Layer, Loss, Penalty, Run, TrainingInterrupted, View

# arguments of `fit` that all members share
TRAINING = (
    "batch_size", "settings", "monitor", "mode", "patience", "min_delta", "metrics", "penalty", "gradient",
    "reduction", "shuffle",
)  # fmt: skip


# settings that are arguments of `fit` as well, and what they are at least
OWN_POINTS = {"seed": 0, "batch_size": 1, "patience": 1}


class Task(NamedTuple):
    """One training run of a study."""

    settings: dict[str, Any]  # those that differ from task to task
    key: np.ndarray  # raw key data
    fold: int = 0


class Group(NamedTuple):
    """Members that one program trains."""

    places: np.ndarray  # of its members among the tasks
    recipe: Recipe
    shared: Shared
    members: Members
    about: dict[str, Any]  # for a checkpoint


class Running(NamedTuple):
    """How a study is to be run, as the caller asks."""

    width: int | None = None
    devices: Any = None
    memory: float | None = None
    checkpoint: str | None = None
    checkpoint_seconds: float = 1.0
    progress: bool = True


def running(width: Any, devices: Any, memory: Any, checkpoint: Any, checkpoint_seconds: Any, progress: Any) -> Running:
    """These arguments, checked."""
    known = isinstance(devices, Sequence) and len(devices) > 0 and all(isinstance(d, jax.Device) for d in devices)
    if devices is not None and not known:
        raise TypeError(f"devices: expected a list of JAX devices, got {devices!r}. Do write devices=jax.devices().")
    return Running(
        width=None if width is None else checks.whole_number("width", width, 1),
        devices=devices,
        memory=None if memory is None else checks.number("memory", memory, 1),
        checkpoint=None if checkpoint is None else checks.folder("checkpoint", checkpoint),
        checkpoint_seconds=checks.number("checkpoint_seconds", checkpoint_seconds, 0),
        progress=checks.flag("progress", progress),
    )


# ---- from tasks to groups


def asked_points(over: Any) -> list[dict[str, Any]]:
    """The points to try; those of their settings that `fit` has as well, checked."""
    points = points_of(over)
    for name in ("key", NUMBERS):
        if name in points[0]:
            mend = "write 'seed'" if name == "key" else "rename it"
            raise ValueError(f"over: expected names of your own, got {name!r}, an argument. Do {mend}.")
    for point in points:
        for name in OWN_POINTS.keys() & point.keys():
            checks.whole_number(name, point[name], OWN_POINTS[name])
        checks.number("min_delta", point.get("min_delta", 0), 0)
    return points


def groups_of(
    who: str,
    parts: tuple[Any, Any, Any],
    data: Data,
    tasks: Sequence[Task],
    training: dict[str, Any],
    views: tuple[View | None, View | None] = (None, None),
    resumable: bool = False,
) -> list[Group]:
    """The tasks in groups, each traced, so that what does not fit raises before anything compiles.

    Args:
        who: the function that the caller called, for messages.
        parts: network, loss, optimizer.
        data: rows, checked and on the device.
        tasks: at least one, all with settings of the same names.
        training: the other arguments of `fit`.
        views: which rows each fold trains and validates on; leading axis: the folds.
        resumable: describe each group, for checkpoints; takes a pass over the data.
    """
    unknown = sorted(training.keys() - set(TRAINING))
    if unknown:
        raise TypeError(f"{who}: expected arguments of fit ({', '.join(TRAINING)}), got {unknown[0]}. Do look at fit.")
    points = list({id(task.settings): task.settings for task in tasks}.values())  # each once, not once per fold
    static = traced_and_static(points)[1] if points[0] else ()
    by_shape: dict[Any, list[int]] = {}
    for place, task in enumerate(tasks):
        by_shape.setdefault(tuple((name, task.settings[name]) for name in static), []).append(place)
    several = len(by_shape) > 1
    groups = [
        _group(
            parts, data, [tasks[i] for i in places], np.array(places), dict(same), training, views, resumable, several
        )
        for same, places in by_shape.items()
    ]
    # last, since of some mistakes (a width of 8.0) it says more when it is traced
    base = {name: float(value) for name, value in checks.settings(training.get("settings"), OWN_SETTINGS).items()}
    check_ranges([*parts, training.get("penalty")], points, base | own_settings(None, 0.0))
    first = groups[0]
    settings = {name: values[0] for name, values in first.members.settings.items()}
    net, loss = given("net", first.recipe.net, Layer, settings), given_loss(first.recipe.loss, settings)
    warn_of_mix_up(net, loss.name, None, data.train.x, 4)
    return groups


def _group(
    parts: tuple[Any, Any, Any],
    data: Data,
    tasks: list[Task],
    places: np.ndarray,
    same: dict[str, Any],
    training: dict[str, Any],
    views: tuple[View | None, View | None],
    resumable: bool,
    several: bool,
) -> Group:
    arguments = dict(training)
    base = checks.settings(arguments.pop("settings", None), OWN_SETTINGS)
    patience, min_delta = arguments.get("patience"), arguments.pop("min_delta", 0.0)
    min_delta = same.pop("min_delta", min_delta)
    differing = {name: [task.settings[name] for task in tasks] for name in tasks[0].settings if name not in same}
    differing.pop("seed", None)  # it is in the keys
    if "patience" in differing:
        arguments["patience"] = patience = differing["patience"][0]
    size = same.pop("batch_size", arguments.pop("batch_size", None))
    net, loss, optimizer, penalty = (_bound(part, same) for part in (*parts, arguments.pop("penalty", None)))
    recipe = asked_recipe(
        net, loss, optimizer, penalty=penalty, batch_size=size, validates=data.validation is not None, **arguments
    )
    numbers = base | own_settings(patience, min_delta) | {name: values[0] for name, values in differing.items()}
    key = jax.random.wrap_key_data(jax.device_put(tasks[0].key))
    asked = Asked(recipe, numbers, data, key, None, None)
    ready = made_ready(asked, alone=several)  # else an error of the last group would come after the first has trained
    check_readers(recipe, [name for name in (*same, *differing) if name not in (*OWN_POINTS, "min_delta")])
    about = {}
    if resumable:
        about = resume.description(recipe, dict.fromkeys(numbers, 0.0), data, jax.random.key(0), None, None)
        about |= {"views": resume.digest(views)} | {f"fixed[{name!r}]": value for name, value in same.items()}
    members = _members(tasks, ready.settings, differing)
    return Group(places, ready.recipe, Shared(data, *views), members, about)


def with_fixed(parts: tuple[Any, ...], point: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The parts of a run as functions of a point's traced settings alone, and the other settings."""
    static = traced_and_static([point])[1] if point else ()
    same = {name: point[name] for name in static}
    return tuple(_bound(part, same) for part in parts), same


def _bound(thing: Any, same: dict[str, Any]) -> Any:
    """A function of the settings as one of the traced ones alone."""
    fixed = isinstance(thing, (Layer, Loss, Penalty, optax.GradientTransformation)) or not callable(thing)
    if fixed or not same or getattr(thing, "is_factory", False):
        return thing
    if not takes_settings(thing):
        return thing  # a loss, written as a plain function
    return lambda settings: thing({**settings, **same})


def _members(tasks: list[Task], settings: dict[str, Any], differing: dict[str, list[Any]]) -> Members:
    dtype = np.dtype(jnp.result_type(float))
    columns = {
        name: np.asarray(differing[name], dtype)
        if name in differing
        else np.repeat(np.asarray(value, dtype)[None], len(tasks), 0)
        for name, value in settings.items()
    }
    return Members(np.stack([task.key for task in tasks]), columns, np.array([task.fold for task in tasks]))


# ---- running them


def run_groups(
    title: str, groups: list[Group], epochs: int, how: Running, take: Callable[[Group, Outcome], None]
) -> tuple[list[Plan], list[str]]:
    """Run all groups, one after another; how each was run, and the signals that ended it early."""
    folders = [how.checkpoint and f"{how.checkpoint}/{number}" for number in range(len(groups))]
    plans = [
        planned(group.recipe, group.shared, group.members, epochs, _width(folder, how), how.devices, how.memory)
        for group, folder in zip(groups, folders, strict=True)
    ]
    names: list[str] = []
    words = f"{title}: {'; '.join(map(str, plans))}"
    with shown_members(how.progress, words, sum(len(group.members) for group in groups), epochs) as show:
        for group, plan, folder in zip(groups, plans, folders, strict=True):
            if names:
                break
            _keep_width(folder, plan.width)
            kept = Kept(folder, how.checkpoint_seconds, group.about)
            job = Job(group.recipe, group.shared, group.members, epochs, plan, kept)
            names += follow(job, functools.partial(take, group), show)
    return plans, names


def _width(folder: str | None, how: Running) -> int | None:
    """As asked for, else as the study in that folder was begun: another width would be other chunks."""
    if how.width is not None or folder is None:
        return how.width
    try:
        return int(Path(folder, "width").read_text())
    except (OSError, ValueError):  # there is none, or a process was killed while it wrote this
        return None


def _keep_width(folder: str | None, width: int) -> None:
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "width").write_text(str(width))


# ---- figures


class Figures:
    """What each member ended with, a column a figure, a row a task; NaN where it has not run."""

    def __init__(self, tasks: list[Task], epochs: int, recipe: Recipe, validates: bool, deviations: bool = False):
        self.recipe, self.validates, self.epochs = recipe, validates, epochs
        count = len(tasks)
        metrics = dict(recipe.metrics)
        tables.check_distinct(tables.study_columns(metrics, validates, deviations), tasks[0].settings)
        names = tables.history_columns(metrics, validates)[1:]
        self.columns: dict[str, np.ndarray] = {"epoch": np.full(count, -1)}
        self.columns |= {name: np.full(count, np.nan) for name in names}
        self.columns |= {"epochs": np.zeros(count, int), "diverged": np.zeros(count, bool)}
        self.histories = {name: np.full((count, epochs), np.nan, np.float32) for name in names}
        self.ended = np.zeros(count, bool)  # False: it has not run, or a signal ended it

    @property
    def judge(self) -> str:
        """The column that says which member is best."""
        return f"validation_{self.recipe.monitor}" if self.validates else "loss"

    @property
    def largest(self) -> bool:
        """Whether more of it is better."""
        return self.recipe.mode == "max"

    def add(self, places: np.ndarray, outcome: Outcome, last: bool = False) -> None:
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

    def begun(self) -> np.ndarray:
        """Which members have run; all, where there was nothing to run."""
        return (self.columns["epochs"] > 0) | self.columns["diverged"] | (self.epochs == 0)

    def scores(self) -> np.ndarray:
        """Smaller is better; what diverged, or has not run, is inf."""
        values = np.asarray(self.columns[self.judge], float) * (-1 if self.largest else 1)
        return np.where(np.isfinite(values) & ~self.columns["diverged"], values, np.inf)


def interrupted(who: str, names: list[str], figures: Figures, how: Running) -> bool:
    """Whether a signal came before the end; then a warning says how far it was."""
    if not names or figures.ended.all():
        return False
    done = figures.columns["epochs"]
    mend = f"call {who} again to go on from there" if how.checkpoint else "pass checkpoint=folder to be able to go on"
    warnings.warn(
        f"{who}: expected {len(done)} members to train {figures.epochs} epochs, got {names[0]} when {(done > 0).sum()} "
        f"of them had begun; what there is comes back. Do {mend}.",
        TrainingInterrupted,
        stacklevel=3,
    )
    return True


def run_of(outcome: Outcome, row: int, in_shape: Any, held: Any, last: bool = False) -> Run:
    """One member's run, still on the host; `last`: the parameters after the last epoch, not the best."""
    state = jax.tree.map(lambda a: a[row], outcome.state)
    params, layers = state.best if state.best_epoch >= 0 and not last else (state.params, state.state)
    history = jax.tree.map(lambda a: a[row, : int(state.epoch)], outcome.history)
    return Run(params, layers, history, state, in_shape, held)


def on_device(run: Run) -> Run:
    """A run as `fit` returns it."""
    with guards_aside():
        params, state, train_state = jax.tree.map(jnp.asarray, (run.params, run.state, run.train_state))
    return run._replace(params=params, state=state, train_state=train_state)


def keys_from(seed: Any, count: int) -> list[np.ndarray]:
    """Raw key data: of seeds `seed`, `seed + 1`, …; or of the key and those folded in from 1 on."""
    if isinstance(seed, (int, np.integer)):
        return list(checks.seed_words([int(seed) + i for i in range(count)]))
    keys = [seed, *(jax.random.fold_in(seed, i) for i in range(1, count))]
    return [np.asarray(jax.random.key_data(key)) for key in keys]
