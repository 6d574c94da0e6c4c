"""The host's loop around many members: chunk after chunk, on one or several devices or threads, to the end.

Each chunk is run in segments, as `fit` is, so that Ctrl-C is heard, a bar is shown and checkpoints are written.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from math import ceil
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.data.warnings import find_caller, warnings_for
from fnn.devices.memory import free_bytes, usual_devices
from fnn.devices.threads import Interrupted, Task, results
from fnn.fitting import resume
from fnn.fitting.progress import study_progress_bar
from fnn.fitting.segments import concatenate, position, segments, without_debug_nans
from fnn.kernels.effort import Work, choose_effort
from fnn.losses.reduction import dtype_of_sums
from fnn.runs import History, TrainState
from fnn.storage.checkpoints import read_checkpoint
from fnn.storage.folders import chunk_folder, chunks_in, group_folder, read_width, write_width
from fnn.studies.chunks import Members, Shared, chunk_trainer, default_width, member_cost, trace_chunk
from fnn.studies.groups import ExecutionOptions, Group
from fnn.training.batches import batch_sizes, padded_rows
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
    begun: int | None = None,
    in_all: int | None = None,
) -> ExecutionPlan:
    """How to run so many members: as asked, or as is usually fastest, in chunks that fit the memory.

    Args:
        width: members of a program; None: by their size.
        devices: JAX devices, the same one twice for two threads; None: all there are, a CPU with a thread a core.
        memory: bytes to keep below; None: half of what is free.
        begun: the width of chunks that are there already, and must stay theirs.
        in_all: members of all groups, whose histories are kept; None: there is no other group.

    Raises:
        MemoryError: not even one fits.
    """
    workers = tuple(devices) if devices is not None else usual_devices()
    places = history_capacity(epochs)
    each, weights, rows, history = member_cost(config, shared, members, places)
    # where the device's memory is the host's: the histories of all members, and twice those of a chunk, to be joined
    on_host = workers[0].platform == "cpu"
    kept = (in_all or len(members)) * history * epochs if on_host else 0
    each += 2 * history * epochs if on_host else 0
    free = free_bytes(workers)
    most_bytes = memory if memory is not None else None if free is None else free / 2
    room = None if most_bytes is None else max(0, int((most_bytes - kept) / each))  # members that fit
    if room == 0:
        hint = "Take fewer epochs or members" if kept > each else "Take a smaller batch_size"
        raise MemoryError(
            f"memory: expected room for one member and the histories of all, about {(kept + each) / 1e9:.3g} GB, "
            f"got {(most_bytes or 0) / 1e9:.3g} GB. {hint}."
        )
    if begun is not None and room is not None and room < begun and memory is not None:
        raise MemoryError(
            f"memory: expected room for the {begun} members per program with which the study was started, about "
            f"{(kept + begun * each) / 1e9:.3g} GB, got {memory / 1e9:.3g} GB. "
            "Raise it, or name another folder to start anew."
        )
    workers = workers[: min(len(members), max(1, (room or len(members)) // (begun or 1)))]
    if width is None:
        width = default_width(len(members), len(workers), weights, rows, workers[0].platform)
    most = width if room is None or begun is not None else room // len(workers)
    width = width if width <= most else 1 << (most.bit_length() - 1)
    return ExecutionPlan(len(members), width, workers, kept + each * width * len(workers))


def history_capacity(epochs: int) -> int:
    """Epochs that a history has room for: a power of two, so that another number of them seldom compiles again."""
    return min(LONGEST_HISTORY, 1 << max(0, epochs - 1).bit_length())


# ---- the loop


OF_MEMBERS = "settings, seeds and folds of these members"


class Job(NamedTuple):
    """A group to be run: how far, how, and where its checkpoints are, if anywhere."""

    group: Group
    plan: ExecutionPlan
    epochs: int
    folder: str | None = None
    seconds: float = 1.0  # between checkpoints
    failures: resume.WriteFailures | None = None  # of the whole study
    effort: str = "auto"  # to compile with


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
    chunk = trace_chunk(group.config, width, capacity, own, data, device)
    effort = _choose_effort(job, chunk.work)
    init, run = chunk.compile(effort, must_stop)
    state = init(own.keys, own.settings, data) if checkpoints.state is None else checkpoints.state
    histories = [_no_epochs(job, state.params) if checkpoints.state is None else checkpoints.history]
    done = position(state)[0]
    pace = checkpoints.pace
    pace.seconds_per_step = chunk.seconds_per_step.get(effort)
    following = segments(run, state, data, epochs, group.config.batch_size, pace, capacity)
    with closing(following):
        for segment in following:
            state = segment.state
            histories.append(segment.history)
            show(segment.history.loss.shape[-1], False)
            checkpoints.write(state, histories)
            if must_stop():
                break
    checkpoints.write(state, histories, last=True)
    chunk.seconds_per_step[effort] = pace.seconds_per_step
    history = concatenate(histories)
    reached, _, _, active = position(state)
    ended = reached >= epochs or not active
    show(epochs - reached + done if ended else 0, ended)
    state = jax.tree.map(lambda a: a if is_key(a) else np.asarray(a), state)  # NumPy holds no typed keys
    if width == 1:
        state, history = jax.tree.map(lambda a: a[None], (state, history))
    return ChunkResult(at, *jax.tree.map(lambda a: a[: len(at)], (state, history)))


def _choose_effort(job: Job, work: Work) -> str:
    """What ends soonest for all chunks that a worker runs."""
    if job.effort != "auto":
        return job.effort
    chunks = ceil(job.plan.members / job.plan.width)
    _, batches = batch_sizes(padded_rows(job.group.shared.data.train), job.group.config.batch_size)
    epochs = job.epochs * ceil(chunks / len(job.plan.devices))
    return choose_effort(work, epochs, epochs * batches)


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
    folder = chunk_folder(job.folder, int(at[0]), int(at[-1]), width)
    about = job.group.about | {OF_MEMBERS: resume.digest(own), "width": width}
    return resume.Checkpoints(
        folder,
        about,
        like,
        nothing,  # type: ignore[arg-type]
        job.epochs,
        job.seconds,
        failures=job.failures,
    )


def run_groups(
    title: str,
    groups: list[Group],
    epochs: int,
    how: ExecutionOptions,
    take: Callable[[Group, ChunkResult], None],
    must_stop: Callable[[], bool],
) -> list[ExecutionPlan]:
    """Run all groups, one after another, until asked to stop; how each was run."""
    folders = [how.checkpoint and group_folder(how.checkpoint, number) for number in range(len(groups))]
    widths = [_known_width(folder, how.width) for folder in folders]
    count = sum(len(group.members) for group in groups)
    plans = [
        make_plan(*group[1:4], epochs, width or how.width, how.devices, how.memory, width, count)
        for group, width in zip(groups, widths, strict=True)
    ]
    for group, plan, folder in zip(groups, plans, folders, strict=True):
        _check_study(folder, group, plan.width)
    words = f"{title}: {'; '.join(map(str, plans))}"
    failures = resume.WriteFailures()
    with study_progress_bar(how.progress, words, count, epochs) as show:
        for group, plan, folder in zip(groups, plans, folders, strict=True):
            if must_stop():
                break
            if folder is not None:
                _keep_width(folder, plan.width, failures)
            effort = group.effort
            if effort == "auto" and (folder is not None or how.width is not None):
                effort = "high"  # the same however many epochs and members there are: other bits would follow
            job = Job(group, plan, epochs, folder, how.checkpoint_seconds, failures, effort)
            run_chunks(job, functools.partial(take, group), show, must_stop)
    return plans


def _check_study(folder: str | None, group: Group, width: int) -> None:
    """Raise a ValueError where the chunks in a folder are another study's, though their names are not this one's.

    A chunk of this name is compared when it is run. More or fewer members than before are no other study.
    """
    others = [] if folder is None else chunks_in(folder)
    first = min(width, len(group.members)) - 1
    if folder is None or not others or chunk_folder(folder, 0, first, width) in others:
        return
    checkpoint = read_checkpoint(others[0])
    if checkpoint is not None:
        expected = checkpoint.description
        if isinstance(expected, dict):
            expected = {name: value for name, value in expected.items() if name not in (OF_MEMBERS, "width")}
        resume.check_same(others[0], expected, group.about)


def _known_width(folder: str | None, asked: int | None) -> int | None:
    """The width that the study in this folder was started with: another would form other chunks, and train them anew.

    None: there is no such study.
    """
    width = None if folder is None else read_width(folder)
    if width is not None and asked not in (None, width):
        raise ValueError(
            f"width: expected {width}, with which the study in {folder} was started, got {asked}. "
            "Omit width, or name another folder to start anew."
        )
    return width


def _keep_width(folder: str, width: int, failures: resume.WriteFailures) -> None:
    """Write the width down, if it is not there."""
    try:
        if read_width(folder) != width:
            write_width(folder, width)
    except OSError as error:
        failures.warn(error)
