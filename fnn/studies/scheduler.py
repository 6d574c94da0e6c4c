"""The host's loop around many members: chunk after chunk, on one or several devices or threads, to the end.

Each chunk is run in segments, as `fit` is, so that Ctrl-C is heard, a bar is shown and checkpoints are written.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.data.warnings import find_caller, warnings_for
from fnn.devices.memory import free_bytes, usual_devices
from fnn.devices.threads import Interrupted, Task, results
from fnn.fitting import resume
from fnn.fitting.progress import study_progress_bar
from fnn.fitting.segments import concatenate, position, segments, without_debug_nans
from fnn.losses.reduction import dtype_of_sums
from fnn.runs import History, TrainState
from fnn.studies.chunks import Members, Shared, chunk_trainer, compiled_chunk, default_width, member_cost
from fnn.studies.groups import ExecutionOptions, Group
from fnn.training.config import TrainerConfig
from fnn.training.fused_loop import LONGEST_HISTORY
from fnn.training.state import dtype_of
from fnn.trees import is_key

PATIENCE = 10.0  # seconds that the other threads have to end, when one has raised an error


class ExecutionPlan(NamedTuple):
    """How members are run: so many in one program, on these devices (the same one twice: two threads)."""

    members: int
    width: int
    devices: tuple[Any, ...]
    bytes_: int  # about, at once

    def __reduce__(self) -> Any:  # for pickle: JAX's devices belong to a process, their names do not
        return ExecutionPlan, tuple(self._replace(devices=tuple(map(str, self.devices))))

    def __copy__(self) -> "ExecutionPlan":  # it never changes, and a copy stays in this process
        return self

    def __deepcopy__(self, memo: Any) -> "ExecutionPlan":
        return self

    def __repr__(self) -> str:
        many = "one after another" if self.width == 1 else f"{self.width} in one program"
        where = f"{len(set(self.devices))} devices" if len(set(self.devices)) > 1 else str(self.devices[0])
        threads = f", {len(self.devices)} threads" if len(self.devices) > len(set(self.devices)) else ""
        return f"{self.members} members, {many}, {where}{threads}, about {self.bytes_ / 1e6:.3g} MB"


class ChunkResult(NamedTuple):
    """What became of some members: where they stand in the list, their states and histories, on the host."""

    at: np.ndarray
    state: TrainState
    history: History


# ---- the plan


def make_plan(
    config: TrainerConfig,
    shared: Shared,
    members: Members,
    epochs: int,
    width: int | None,
    devices: Any,
    memory: float | None,
) -> ExecutionPlan:
    """How to run so many members: as asked, or as is usually fastest, in chunks that fit the memory.

    Args:
        width: members of a program; None: by their size.
        devices: JAX devices, the same one twice for two threads; None: all there are, a CPU with a thread a core.
        memory: bytes to keep below; None: half of what is free.

    Raises:
        MemoryError: not even one fits.
    """
    workers = tuple(devices) if devices is not None else usual_devices()
    places = history_capacity(epochs)
    each, weights, rows = member_cost(config, shared, members, places)
    free = free_bytes(workers)
    most_bytes = memory if memory is not None else None if free is None else free / 2
    room = None if most_bytes is None else int(most_bytes / each)  # members that fit
    if room == 0:
        raise MemoryError(
            f"memory: expected room for one member, about {each / 1e9:.3g} GB, got {(most_bytes or 0) / 1e9:.3g} GB. "
            "Take a smaller batch_size."
        )
    workers = workers[: min(len(members), room or len(members))]
    if width is None:
        width = default_width(len(members), len(workers), weights, rows, workers[0].platform)
    most = width if room is None else room // len(workers)
    width = width if width <= most else 1 << (most.bit_length() - 1)
    return ExecutionPlan(len(members), width, workers, each * width * len(workers))


def history_capacity(epochs: int) -> int:
    """Epochs that a history has room for: a power of two, so that another number of them seldom compiles again."""
    return min(LONGEST_HISTORY, 1 << max(0, epochs - 1).bit_length())


# ---- the loop


class Job(NamedTuple):
    """A group to be run: how far, how, and where its checkpoints are, if anywhere."""

    group: Group
    plan: ExecutionPlan
    epochs: int
    folder: str | None = None
    seconds: float = 1.0  # between checkpoints


def run_chunks(
    job: Job,
    take: Callable[[ChunkResult], None],
    show: Callable[[int, int, bool], None],
    must_stop: Callable[[], bool],
) -> None:
    """Run all members.

    Args:
        job: the members.
        take: called with each chunk's outcome, one at a time; chunks that a signal keeps from beginning have none.
        show: called with how many members have done how many epochs more, and whether these were their last.
        must_stop: whether to end early.
    """
    waiting = iter(range(0, len(job.group.members), job.plan.width))
    lock, failed = threading.Lock(), threading.Event()
    like = None if job.folder is None else _state_of_a_chunk(job)

    def ends() -> bool:
        return must_stop() or failed.is_set()

    def work(device: Any) -> None:
        shared = job.group.shared
        shared = shared._replace(data=jax.device_put(shared.data, device))
        there = job._replace(group=job.group._replace(shared=shared))
        while not ends():
            with lock:
                first = next(waiting, None)
            if first is None:
                return
            at = np.arange(first, min(first + job.plan.width, len(job.group.members)))

            def show_progress(epochs: int, finished: bool, some: int = len(at)) -> None:
                with lock:
                    show(some, epochs, finished)

            with without_debug_nans(), jax.disable_jit(False):  # compiled ahead, it runs only compiled
                outcome = _run_chunk(there, at, device, like, ends, show_progress)
            with lock:
                take(outcome)

    _run_on(job.plan.devices, work, failed)


def _run_on(devices: Sequence[Any], work: Callable[[Any], None], failed: threading.Event) -> None:
    """Call `work(device)` for each device: here for a single one, else in a thread for each."""

    def work_or_stop(device: Any) -> None:
        try:
            work(device)
        except Interrupted:
            return  # while a chunk compiled: it has not begun
        except BaseException:
            failed.set()  # the others end with their segments
            raise

    if len(devices) == 1:
        work_or_stop(devices[0])
        return
    caller = find_caller()

    def work_in_thread(device: Any) -> None:
        with warnings_for(caller):
            work_or_stop(device)

    tasks = [Task(functools.partial(work_in_thread, device), "fnn study") for device in devices]
    try:
        results(tasks)
    except BaseException:
        failed.set()
        for task in tasks:
            task.end(PATIENCE)
        raise


def _run_chunk(
    job: Job, at: np.ndarray, device: Any, like: Any, must_stop: Callable[[], bool], show: Callable[[int, bool], None]
) -> ChunkResult:
    """One chunk, from its beginning or its checkpoint; `like` is its state, shapes and dtypes, if it has one."""
    width, epochs, group = job.plan.width, job.epochs, job.group
    # the last one is filled up, so that all have one width: another width would have other last bits
    padded = np.append(at, np.repeat(at[-1:], width - len(at)))
    own = group.members.take(padded if width > 1 else at[0])
    data = jax.device_put(group.shared.of(own.fold), device)
    capacity = history_capacity(epochs)
    checkpoints = _checkpoints(job, at, own, like)  # raises where it is of another study: before anything compiles
    chunk = compiled_chunk(group.config, width, capacity, own, data, device, must_stop)
    state = chunk.init(own, data) if checkpoints.state is None else checkpoints.state
    histories = [_no_epochs(job, state.params) if checkpoints.state is None else checkpoints.history]
    done = position(state)[0]
    pace = checkpoints.pace
    pace.seconds_per_step = chunk.measured["seconds per step"]
    following = segments(chunk.run, state, data, epochs, group.config.batch_size, pace, capacity)
    with closing(following):
        for segment in following:
            state = segment.state
            histories.append(segment.history)
            show(segment.history.loss.shape[-1], False)
            checkpoints.write(state, histories)
            if must_stop():
                break
    checkpoints.write(state, histories, last=True)
    chunk.measured["seconds per step"] = pace.seconds_per_step
    history = concatenate(histories)
    reached, _, _, active = position(state)
    ended = reached >= epochs or not active
    show(epochs - reached + done if ended else 0, ended)
    state = jax.tree.map(lambda a: a if is_key(a) else np.asarray(a), state)  # NumPy holds no typed keys
    if width == 1:
        state, history = jax.tree.map(lambda a: a[None], (state, history))
    return ChunkResult(at, *jax.tree.map(lambda a: a[: len(at)], (state, history)))


def _no_epochs(job: Job, params: Any) -> History:
    """A chunk's history of no epochs."""
    blank: Any = np.zeros((job.plan.width, 0) if job.plan.width > 1 else 0, dtype_of_sums(dtype_of(params)))
    metrics = dict.fromkeys(job.group.config.metric_names, blank)
    validates = job.group.shared.data.validation is not None
    return History(blank, metrics, blank if validates else None, metrics if validates else {})


def _state_of_a_chunk(job: Job) -> Any:
    """Shapes and dtypes, the same for all chunks."""
    width = job.plan.width
    own = job.group.members.take(np.zeros(width, int) if width > 1 else 0)
    data = job.group.shared.of(own.fold)
    init = chunk_trainer(job.group.config, width, history_capacity(job.epochs), data)[0]
    return jax.eval_shape(init, own.keys, own.settings, data)


def _checkpoints(job: Job, at: np.ndarray, own: Members, like: Any) -> resume.Checkpoints:
    """Those of a chunk."""
    width, nothing = job.plan.width, None if like is None else _no_epochs(job, like.params)
    if job.folder is None:
        return resume.Checkpoints(None, {}, like, nothing, job.epochs, job.seconds)  # type: ignore[arg-type]
    folder = os.path.join(job.folder, f"members-{at[0]}-{at[-1]}-width-{width}")
    about = job.group.about | {"settings, seeds and folds of these members": resume.digest(own), "width": width}
    return resume.Checkpoints(folder, about, like, nothing, job.epochs, job.seconds)  # type: ignore[arg-type]


def run_groups(
    title: str,
    groups: list[Group],
    epochs: int,
    how: ExecutionOptions,
    take: Callable[[Group, ChunkResult], None],
    must_stop: Callable[[], bool],
) -> list[ExecutionPlan]:
    """Run all groups, one after another, until told to stop; how each was run."""
    folders = [how.checkpoint and f"{how.checkpoint}/{number}" for number in range(len(groups))]
    plans = [
        make_plan(group.config, group.shared, group.members, epochs, _width(folder, how), how.devices, how.memory)
        for group, folder in zip(groups, folders, strict=True)
    ]
    words = f"{title}: {'; '.join(map(str, plans))}"
    with study_progress_bar(how.progress, words, sum(len(group.members) for group in groups), epochs) as show:
        for group, plan, folder in zip(groups, plans, folders, strict=True):
            if must_stop():
                break
            _keep_width(folder, plan.width)
            job = Job(group, plan, epochs, folder, how.checkpoint_seconds)
            run_chunks(job, functools.partial(take, group), show, must_stop)
    return plans


def _width(folder: str | None, how: ExecutionOptions) -> int | None:
    """The requested width, else the width this study was started with: another would form other chunks."""
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
