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

from fnn.arguments.trees import is_key
from fnn.data.warnings import find_caller, warnings_for
from fnn.devices.threads import Interrupted, Task, results
from fnn.fitting import resume
from fnn.fitting.progress import study_progress_bar
from fnn.fitting.segments import concatenate, position, segments, without_debug_nans
from fnn.kernels.effort import Work, choose_effort
from fnn.losses.reduction import dtype_of_sums
from fnn.runs import History, TrainState
from fnn.storage.checkpoints import read_checkpoint
from fnn.storage.folders import chunk_folder, chunks_in, group_folder, read_width, write_width
from fnn.studies.chunks import ExecutionPlan, Members, chunk_trainer, history_capacity, make_plan, trace_chunk
from fnn.studies.groups import ExecutionOptions, Group
from fnn.training.batches import batch_sizes, padded_rows
from fnn.training.state import dtype_of
from fnn.types import Data

PATIENCE = 10.0  # seconds that the other threads have to end, when one has raised an error


class ChunkResult(NamedTuple):
    """What became of some members: where they stand in the list, their states and histories, on the host."""

    at: np.ndarray
    state: TrainState
    history: History


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


def run_jobs(
    jobs: Sequence[Job],
    take: Callable[[Group, ChunkResult], None],
    show: Callable[[int, int, bool], None],
    must_stop: Callable[[], bool],
) -> None:
    """Run all members of all groups: their chunks wait in one queue, so that one compiles while another trains.

    Args:
        jobs: the groups.
        take: called with each chunk's outcome, one at a time; chunks that a signal keeps from beginning have none.
        show: called with how many members have done how many epochs more, and whether these were their last.
        must_stop: whether to end early.
    """
    devices = min((job.plan.devices for job in jobs), key=len)
    lock, failed = threading.Lock(), threading.Event()
    queue = ChunkQueue(jobs)
    likes = [None if job.folder is None else _state_of_a_chunk(job) for job in jobs]

    def ends() -> bool:
        return must_stop() or failed.is_set()

    def work(device: Any) -> None:
        placed: dict[int, Data] = {}  # the data of each group, once where groups share them
        while not ends() and (chunk := queue.take()) is not None:
            number, at = chunk
            job = jobs[number]
            shared = job.group.shared
            if id(shared.data) not in placed:
                placed[id(shared.data)] = jax.device_put(shared.data, device)
            group = job.group._replace(shared=shared._replace(data=placed[id(shared.data)]))

            def show_progress(epochs: int, finished: bool, some: int = len(at)) -> None:
                with lock:
                    show(some, epochs, finished)

            when_compiled = functools.partial(queue.note_compilation, number)
            with without_debug_nans(), jax.disable_jit(False):  # compiled ahead, it runs only compiled
                there = job._replace(group=group)
                outcome = _run_chunk(there, at, device, likes[number], ends, show_progress, when_compiled)
            with lock:
                take(job.group, outcome)

    if len(jobs) > 1:  # else an error of the last group would come after the first has trained
        _trace_first_chunks(jobs, devices[0])
    _run_on(devices, work, failed)


class ChunkQueue:
    """The chunks of all groups that wait to be run.

    A worker takes one whose program is compiled; else the first of another group. So no worker waits for a program that
    another compiles while there is something else to do.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._lock = threading.Lock()
        self._compiled: set[int] = set()
        self._begun: set[int] = set()
        self._waiting = {number: _places(job) for number, job in enumerate(jobs)}

    def take(self) -> tuple[int, np.ndarray] | None:
        """The number of a job, and which of its members; None: no more wait."""
        with self._lock:
            if not self._waiting:
                return None
            number = min(self._waiting, key=lambda n: (n not in self._compiled, n in self._begun, n))
            self._begun.add(number)
            at = self._waiting[number].pop(0)
            if not self._waiting[number]:
                del self._waiting[number]
            return number, at

    def note_compilation(self, number: int) -> None:
        """The program of this job is compiled."""
        with self._lock:
            self._compiled.add(number)


def _places(job: Job) -> list[np.ndarray]:
    """Which members each chunk of a job has."""
    members, width = len(job.group.members), job.plan.width
    return [np.arange(first, min(first + width, members)) for first in range(0, members, width)]


def _trace_first_chunks(jobs: Sequence[Job], device: Any) -> None:
    """Trace each group that is not in a folder yet, so that what does not fit raises before anything compiles."""
    for job in jobs:
        if job.folder is None or not chunks_in(job.folder):
            own, data = _members_and_data(job, _places(job)[0], device)
            trace_chunk(job.group.config, job.plan.width, history_capacity(job.epochs), own, data, device)


def _members_and_data(job: Job, at: np.ndarray, device: Any) -> tuple[Members, Data]:
    """The members of a chunk, and the data with their folds, on a device.

    The last chunk is filled up, so that all have one width: another width would have other last bits.
    """
    width, group = job.plan.width, job.group
    padded = np.append(at, np.repeat(at[-1:], width - len(at)))
    own = group.members.take(padded if width > 1 else at[0])
    return own, jax.device_put(group.shared.of(own.fold), device)


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
    job: Job,
    at: np.ndarray,
    device: Any,
    like: Any,
    must_stop: Callable[[], bool],
    show: Callable[[int, bool], None],
    when_compiled: Callable[[], None],
) -> ChunkResult:
    """One chunk, from its beginning or its checkpoint; `like` is its state, shapes and dtypes, if it has one."""
    epochs, group = job.epochs, job.group
    own, data = _members_and_data(job, at, device)
    checkpoints = _checkpoints(job, at, own, like)  # raises where it is of another study: before anything compiles
    state, histories = checkpoints.state, [checkpoints.history]
    done, _, _, active = (0, 0, 0, True) if state is None else position(state)
    if state is None or (done < epochs and active):  # else it is read, and nothing compiles
        capacity = history_capacity(epochs)
        chunk = trace_chunk(group.config, job.plan.width, capacity, own, data, device)
        effort = _choose_effort(job, chunk.work)
        init, run = chunk.compile(effort, must_stop)
        when_compiled()
        if state is None:
            state = init(own.keys, own.settings, data)
            histories = [_no_epochs(job, state.params)]
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
    reached, _, _, active = position(state)
    ended = reached >= epochs or not active
    show(epochs - reached + done if ended else 0, ended)
    return _chunk_result(job, at, state, concatenate(histories))


def _chunk_result(job: Job, at: np.ndarray, state: TrainState, history: History) -> ChunkResult:
    """Of the members in these places, on the host: what fills the chunk up is left out."""
    state = jax.tree.map(lambda a: a if is_key(a) else np.asarray(a), state)  # NumPy holds no typed keys
    if job.plan.width == 1:
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
    """Run all groups until asked to stop; how each was run."""
    folders = [how.checkpoint and group_folder(how.checkpoint, number) for number in range(len(groups))]
    widths = [_known_width(folder, how.width) for folder in folders]
    count = sum(len(group.members) for group in groups)
    plans = [
        make_plan(
            group.config,
            group.shared,
            group.members,
            epochs,
            width or how.width,
            how.devices,
            how.memory,
            begun=width,
            in_all=count,
        )
        for group, width in zip(groups, widths, strict=True)
    ]
    for group, plan, folder in zip(groups, plans, folders, strict=True):
        _check_study(folder, group, plan.width)
    words = f"{title}: {'; '.join(map(str, plans))}"
    failures = resume.WriteFailures()
    jobs = [
        Job(group, plan, epochs, folder, how.checkpoint_seconds, failures, _effort(group, folder, how))
        for group, plan, folder in zip(groups, plans, folders, strict=True)
    ]
    for job in jobs:
        if job.folder is not None:
            _keep_width(job.folder, job.plan.width, failures)
    with study_progress_bar(how.progress, words, count, epochs) as show:
        run_jobs(jobs, take, show, must_stop)
    return plans


def _effort(group: Group, folder: str | None, how: ExecutionOptions) -> str:
    """To compile with. Where bits must stay, the same however many epochs and members there are."""
    kept = folder is not None or how.width is not None
    return "high" if kept and group.effort == "auto" else group.effort


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
