"""A chunk of members, run to its end in segments: in a thread of the caller's, or as a task of a worker."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from math import ceil
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.arguments import trees
from fnn.arguments.trees import is_key
from fnn.devices.atomic import make_folder
from fnn.fitting import resume
from fnn.fitting.interrupts import catch_signals
from fnn.fitting.progress import StudyListener
from fnn.fitting.segments import concatenate, position, segments, without_debug_nans
from fnn.kernels.effort import Work, choose_effort
from fnn.losses.reduction import dtype_of_sums
from fnn.runs import History, TrainState
from fnn.storage.checkpoints import WriteFailures
from fnn.storage.folders import chunk_folder
from fnn.storage.locks import lock_folder
from fnn.studies.chunks import ExecutionPlan, Members, chunk_trainer, history_capacity, trace_chunk
from fnn.studies.groups import OF_MEMBERS, Group
from fnn.training.batches import batch_sizes, padded_rows
from fnn.training.state import dtype_of
from fnn.types import Data

PATIENCE = 10.0  # seconds that a worker waits for the folder of a chunk, in which the worker before it still writes


class Job(NamedTuple):
    """A group to be run: how far, how, and where its checkpoints are, if anywhere."""

    group: Group
    plan: ExecutionPlan
    epochs: int
    folder: str | None = None
    seconds: float = 1.0  # between checkpoints
    failures: WriteFailures | None = None  # of the whole study
    effort: str = "auto"  # to compile with
    listener: StudyListener | None = None  # between segments
    programs: int = 1  # that are compiled at a time


class ChunkResult(NamedTuple):
    """What became of some members: where they stand in the list, their states and histories, on the host."""

    at: np.ndarray
    state: TrainState
    history: History


def run_chunk(
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
    own, data = members_and_data(job, at, device)
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
                ends = job.listener is not None and job.listener.must_end(segment, group.places[at])
                if ends or must_stop():
                    break
        checkpoints.write(state, histories, last=True)
        chunk.seconds_per_step[effort] = pace.seconds_per_step
    reached, _, _, active = position(state)
    ended = reached >= epochs or not active
    show(epochs - reached + done if ended else 0, ended)
    return _chunk_result(job, at, state, concatenate(histories))


def members_and_data(job: Job, at: np.ndarray, device: Any) -> tuple[Members, Data]:
    """The members of a chunk, and the data with their folds, on a device.

    The last chunk is filled up, so that all have one width: another width would have other last bits.
    """
    width, group = job.plan.width, job.group
    padded = np.append(at, np.repeat(at[-1:], width - len(at)))
    own = group.members.take(padded if width > 1 else at[0])
    return own, jax.device_put(group.shared.of(own.fold), device)


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
    shared = job.group.shared
    rows = padded_rows(shared.data.train) if shared.train is None else int(np.max(shared.train.length))
    _, batches = batch_sizes(rows, job.group.config.batch_size)
    epochs = job.epochs * ceil(chunks / len(job.plan.devices))
    return choose_effort(work, epochs, epochs * batches, job.programs)


def _no_epochs(job: Job, params: Any) -> History:
    """A chunk's history of no epochs."""
    blank: Any = np.zeros((job.plan.width, 0) if job.plan.width > 1 else 0, dtype_of_sums(dtype_of(params)))
    metrics = dict.fromkeys(job.group.config.metric_names, blank)
    validates = job.group.shared.data.validation is not None
    return History(blank, metrics, blank if validates else None, metrics if validates else {})


def state_of_a_chunk(job: Job) -> Any:
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


# ---- in a worker


def run_in_worker(job: Job, at: np.ndarray, must_stop: Callable[[], bool], show: Callable[[int], None]) -> ChunkResult:
    """A chunk as a task. A Ctrl-C that comes to the worker ends it early, with what there is."""
    done = 0

    def add(epochs: int, finished: bool) -> None:
        nonlocal done
        done += epochs
        show(done)

    like = None if job.folder is None else state_of_a_chunk(job)
    try:
        with _chunk_lock(job, at), catch_signals() as signals, without_debug_nans(), jax.disable_jit(False):
            describe = f"members {at[0]} to {at[-1]}: expected this worker to train them, got {{}}".format
            signals.keep(None, describe)
            ends = functools.partial(_any_of, must_stop, signals.heard)
            outcome = run_chunk(job, at, jax.local_devices()[0], like, ends, add, lambda: None)
            signals.keep(outcome, describe)
    except KeyboardInterrupt as stop:
        if getattr(stop, "run", None) is None:
            raise
        outcome = stop.run  # type: ignore[attr-defined]
    state = trees.without_keys(outcome.state)
    return ChunkResult(outcome.at, jax.tree.map(np.asarray, state), outcome.history)


def _any_of(*conditions: Callable[[], bool]) -> bool:
    return any(condition() for condition in conditions)


@contextlib.contextmanager
def _chunk_lock(job: Job, at: np.ndarray) -> Iterator[None]:
    """Keep others out of the folder of a chunk. One who works for a caller that was killed ends with its segment."""
    if job.folder is None:
        yield
        return
    folder = chunk_folder(job.folder, int(at[0]), int(at[-1]), job.plan.width)
    make_folder(folder)
    until = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock_folder(folder))
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
        yield
