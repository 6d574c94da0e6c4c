"""What sweeps, cross-validations and ensembles share: from a list of tasks to members that can run, to figures.

A task is one training run: its settings, its seed, its fold. Tasks whose settings differ in traced numbers alone are
members of one group, and one compiled program trains them all; whole numbers may change shapes (a depth, a batch
size), so each combination of these is a group of its own, but for widths that can share a padded network.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fnn import arguments
from fnn.data import checks
from fnn.devices.pools import check_executor
from fnn.fitting import resume
from fnn.fitting.output_kinds import warn_if_output_mismatch
from fnn.fitting.progress import OnSegment, check_on_segment, check_progress
from fnn.fitting.setup import trace_outputs, warn_of_unread
from fnn.gradients.cost import GradientFunction
from fnn.kernels.effort import EFFORTS
from fnn.studies.chunks import Members, Shared
from fnn.studies.folds import check_scaled
from fnn.studies.padding.families import ShapeTasks, join_shapes
from fnn.studies.padding.networks import Family
from fnn.studies.search_space import as_points, split_traced
from fnn.training.config import (
    OPTIMIZER_NUMBERS,
    RESERVED_SETTINGS,
    TrainerConfig,
    check_settings_are_used,
    check_settings_dict,
    loop_settings,
    missing_targets,
    resolve,
    resolve_loss,
    takes_settings,
    trainer_config,
)
from fnn.training.ranges import check_ranges
from fnn.training.state import Start
from fnn.types import Data, Layer, Loss, Metric, OfSettings, Penalty, RowSelection


class TrainingArguments(TypedDict, total=False):
    """Arguments of `fit` that all members share."""

    batch_size: int | None
    settings: dict[str, float] | None
    monitor: str
    mode: str | None
    patience: int | None
    min_delta: float
    metrics: Mapping[str, Metric] | None
    penalty: OfSettings[Penalty] | None
    gradient: Callable[..., GradientFunction]
    reduction: str
    shuffle: bool
    compile_effort: str


TRAINING = tuple(TrainingArguments.__annotations__)
NAMED = "optimizer", "loss", "epochs", "validation", "key", "weights", "progress", "checkpoint", "on_segment", "devices"

# settings that are arguments of `fit` as well, and what they are at least
OWN_POINTS = {"seed": 0, "batch_size": 1, "patience": 1}


class MemberSpec(NamedTuple):
    """One training run of a study."""

    settings: dict[str, Any]  # those that differ from task to task
    key: np.ndarray  # raw key data
    fold: int = 0


class Group(NamedTuple):
    """Members that one program trains."""

    places: np.ndarray  # of its members among the tasks
    config: TrainerConfig
    shared: Shared
    members: Members
    about: dict[str, Any]  # for a checkpoint
    effort: str = "auto"  # to compile with
    call: tuple[Any, ...] = ()  # the arguments that made it
    family: Family | None = None  # the networks of its members, where they are more than one

    def __reduce__(self) -> Any:  # for pickle: a traced configuration belongs to a process, what made it does not
        return _group, self.call


class ExecutionOptions(NamedTuple):
    """How a study is to be run, as the caller asks."""

    width: int | None = None
    devices: Any = None
    memory: float | None = None
    checkpoint: str | None = None
    checkpoint_seconds: float = 1.0
    progress: bool | str = True
    executor: Any = None
    on_segment: OnSegment | None = None

    @property
    def may_pad(self) -> bool:
        """Whether shapes may share a program: what others there are then decides the last bits of a member."""
        return self.checkpoint is None and self.width is None


def execution_options(
    width: Any,
    devices: Any,
    memory: Any,
    checkpoint: Any,
    checkpoint_seconds: Any,
    progress: Any,
    executor: Any,
    on_segment: Any,
) -> ExecutionOptions:
    """These arguments, checked."""
    if executor is not None and on_segment is not None:
        raise ValueError(
            "on_segment: expected None beside an executor, whose workers are other processes, got a function. "
            "Leave out one of them."
        )
    known = isinstance(devices, (list, tuple)) and devices and all(isinstance(d, jax.Device) for d in devices)
    if devices is not None and not known:
        got = arguments.describe_value(devices)
        raise TypeError(f"devices: expected a list of JAX devices, got {got}. Write devices=jax.devices().")
    return ExecutionOptions(
        width=None if width is None else arguments.whole_number("width", width, 1),
        devices=devices,
        memory=None if memory is None else arguments.number("memory", memory, 1),
        checkpoint=None if checkpoint is None else checks.folder("checkpoint", checkpoint),
        checkpoint_seconds=arguments.number("checkpoint_seconds", checkpoint_seconds, 0),
        progress=check_progress(progress),
        executor=check_executor(executor),
        on_segment=check_on_segment(on_segment),
    )


# ---- from tasks to groups


def check_points(over: Any) -> list[dict[str, Any]]:
    """The points to try; those of their settings that `fit` has as well, checked."""
    points = as_points(over)
    for name in ("key", OPTIMIZER_NUMBERS):
        if name in points[0]:
            hint = "Write 'seed'" if name == "key" else "Rename it"
            raise ValueError(f"over: expected names of your own, got {name!r}, an argument. {hint}.")
    for point in points:
        for name in OWN_POINTS.keys() & point.keys():
            arguments.whole_number(name, point[name], OWN_POINTS[name])
        arguments.number("min_delta", point.get("min_delta", 0), 0)
    return points


def group_members(
    who: str,
    parts: tuple[Any, Any, Any],
    data: Data,
    tasks: Sequence[MemberSpec],
    training: Mapping[str, Any],
    views: tuple[RowSelection | None, RowSelection | None] = (None, None),
    how: ExecutionOptions | None = None,
    epochs: int = 0,
) -> list[Group]:
    """The tasks in groups, each traced, so that what does not fit raises before anything compiles.

    Args:
        who: the function that the caller called, for messages.
        parts: network, loss, optimizer.
        data: rows, checked and on the device.
        tasks: at least one, all with settings of the same names.
        training: the other arguments of `fit`.
        views: which rows each fold trains and validates on; leading axis: the folds.
        how: how they are to be run. With a checkpoint each group is described, which takes a pass over the data.
        epochs: of each task.
    """
    unknown = sorted(training.keys() - set(TRAINING))
    if unknown:
        hint = arguments.argument_hint(unknown[0], (*TRAINING, *NAMED)) or f"Call help(fnn.{who})."
        got = f"{unknown[0]}={arguments.describe_value(training[unknown[0]])}"
        raise TypeError(f"{who}: expected arguments of its own or of fit, got {got}. {hint}")
    points = list({id(task.settings): task.settings for task in tasks}.values())  # each once, not once per fold
    static = split_traced(points)[1] if points[0] else ()
    by_shape: dict[Any, list[int]] = {}
    for place, task in enumerate(tasks):
        by_shape.setdefault(tuple((name, task.settings[name]) for name in static), []).append(place)
    may_pad, resumable = how is not None and how.may_pad, how is not None and how.checkpoint is not None
    groups = _joined_groups(parts, data, tasks, by_shape, training, views, epochs) if may_pad else []
    joined = {place for group in groups for place in group.places}
    groups += [
        _group(parts, data, [tasks[i] for i in places], np.array(places), dict(same), training, views, resumable)
        for same, places in by_shape.items()
        if not joined.issuperset(places)
    ]
    # last, since of some mistakes (a width of 8.0) it says more when it is traced
    base = {
        name: float(value) for name, value in check_settings_dict(training.get("settings"), RESERVED_SETTINGS).items()
    }
    check_ranges([*parts, training.get("penalty")], points, base | loop_settings(None, 0.0))
    first = groups[0]
    settings = {name: values[0] for name, values in first.members.settings.items()}
    net, loss = resolve("net", first.config.net, Layer, settings), resolve_loss(first.config.loss, settings)
    check_scaled(net, data.train.x, views[0])
    warn_if_output_mismatch(net, loss, None, data.train.x)
    return groups


def loading_options(loss: Any, training: Mapping[str, Any], point: Mapping[str, Any]) -> tuple[Any, Any]:
    """What the loading of a study's rows goes by: the reduction, and what stands for a missing target.

    >>> import fnn
    >>> from fnn.studies.groups import loading_options
    >>> loading_options(fnn.losses.masked(fnn.losses.huber(1.0), -1), {"reduction": "sum"}, {})
    ('sum', -1)
    """
    return training.get("reduction"), missing_targets(loss, training.get("settings"), point)


def _joined_groups(
    parts: tuple[Any, Any, Any],
    data: Data,
    tasks: Sequence[MemberSpec],
    by_shape: Mapping[Any, list[int]],
    training: Mapping[str, Any],
    views: tuple[RowSelection | None, RowSelection | None],
    epochs: int,
) -> list[Group]:
    """Groups of several shapes each, for those shapes that one padded program can train."""
    groups = []
    shapes = [
        ShapeTasks(dict(shape), [tasks[place].settings for place in places], places)
        for shape, places in by_shape.items()
    ]
    with contextlib.suppress(Exception):  # of a part that needs to know its shape, or is wrong: each shape alone tells
        for joined in join_shapes(parts, shapes, training, (*OWN_POINTS, "min_delta"), data.train, epochs):
            both = zip(joined.places, joined.settings, strict=True)
            own = [tasks[place]._replace(settings=settings) for place, settings in both]
            rest, places = {**training, "penalty": joined.penalty}, np.array(joined.places)
            groups.append(_group(joined.parts, data, own, places, joined.same, rest, views, False, joined.family))
    return groups


def _group(
    parts: tuple[Any, Any, Any],
    data: Data,
    tasks: list[MemberSpec],
    places: np.ndarray,
    same: dict[str, Any],
    training: Mapping[str, Any],
    views: tuple[RowSelection | None, RowSelection | None],
    resumable: bool,
    family: Family | None = None,
) -> Group:
    call = parts, data, tasks, places, dict(same), training, views, resumable, family
    rest = dict(training)
    base = check_settings_dict(rest.pop("settings", None), RESERVED_SETTINGS)
    effort = arguments.one_of("compile_effort", rest.pop("compile_effort", "auto"), ("auto", *EFFORTS))
    patience, min_delta = rest.get("patience"), rest.pop("min_delta", 0.0)
    min_delta = same.pop("min_delta", min_delta)
    differing = {name: [task.settings[name] for task in tasks] for name in tasks[0].settings if name not in same}
    differing.pop("seed", None)  # it is in the keys
    if "patience" in differing:
        rest["patience"] = patience = differing["patience"][0]
    size = same.pop("batch_size", rest.pop("batch_size", None))
    net, loss, optimizer, penalty = (_bind_static(part, same) for part in (*parts, rest.pop("penalty", None)))
    config = trainer_config(
        net, loss, optimizer, penalty=penalty, batch_size=size, validates=data.validation is not None, **rest
    )
    numbers = base | loop_settings(patience, min_delta) | {name: values[0] for name, values in differing.items()}
    key = jax.random.wrap_key_data(jax.device_put(tasks[0].key))
    start = Start(key, data, numbers)
    identified, full = trace_outputs(config, start)
    check_settings_are_used(config, [name for name in (*same, *differing) if name not in (*OWN_POINTS, "min_delta")])
    warn_of_unread(config, start, [name for name in differing if name not in (*OWN_POINTS, "min_delta")])
    about = {}
    if resumable:
        like = start._replace(key=jax.random.key(0), settings=dict.fromkeys(numbers, 0.0))
        least = None if views[0] is None else int(np.min(views[0].length))
        about = resume.describe_run(config, like, None, least)
        about |= (
            resume.describe_effort(effort)
            | {"views": resume.digest(views)}
            | {f"fixed[{name!r}]": value for name, value in same.items()}
        )
    members = _members(tasks, full.settings, differing)
    return Group(places, identified, Shared(data, *views), members, about, effort, call, family)


def bind_static(parts: tuple[Any, ...], point: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The parts of a run as functions of a point's traced settings alone, and the other settings."""
    static = split_traced([point])[1] if point else ()
    same = {name: point[name] for name in static}
    return tuple(_bind_static(part, same) for part in parts), same


def _bind_static(thing: Any, same: dict[str, Any]) -> Any:
    """A function of the settings as one of the traced ones alone."""
    fixed = isinstance(thing, (Layer, Loss, Penalty, optax.GradientTransformation)) or not callable(thing)
    if fixed or not same or getattr(thing, "is_factory", False):
        return thing
    if not takes_settings(thing):
        return thing  # a loss, written as a plain function
    return lambda settings: thing({**settings, **same})


def _members(tasks: list[MemberSpec], settings: dict[str, Any], differing: dict[str, list[Any]]) -> Members:
    dtype = np.dtype(jnp.result_type(float))
    columns = {
        name: np.asarray(differing[name], dtype)
        if name in differing
        else np.repeat(np.asarray(value, dtype)[None], len(tasks), 0)
        for name, value in settings.items()
    }
    return Members(np.stack([task.key for task in tasks]), columns, np.array([task.fold for task in tasks]))


OF_MEMBERS = "settings, seeds and folds of these members"  # in the description of a chunk


# ---- keys


def member_keys(seed: Any, count: int) -> list[np.ndarray]:
    """Raw key data: of seeds `seed`, `seed + 1`, …; or of the key and those folded in from 1 on."""
    if isinstance(seed, (int, np.integer)):
        return list(arguments.seed_words([int(seed) + i for i in range(count)]))
    keys = [seed, *(jax.random.fold_in(seed, i) for i in range(1, count))]
    return [np.asarray(jax.random.key_data(key)) for key in keys]
