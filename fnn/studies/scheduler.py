"""The host's loop around many members: chunk after chunk, on one or several devices or threads, to the end.

Each chunk is run in segments, as `fit` is, so that Ctrl-C is heard, a bar is shown and checkpoints are written. On a
pool of workers each chunk is a task.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fnn.arguments import trees
from fnn.data.warnings import find_caller, warn, warnings_for
from fnn.devices.pools import Pool
from fnn.devices.threads import STEP, Interrupted, Task, results
from fnn.fitting import resume
from fnn.fitting.progress import StudyListener, study_progress_bar
from fnn.fitting.segments import position, without_debug_nans
from fnn.storage.checkpoints import WriteFailures, read_checkpoint
from fnn.storage.folders import chunk_folder, chunks_in, group_folder, read_width, write_width
from fnn.studies.chunks import ExecutionPlan, history_capacity, make_plan, trace_chunk
from fnn.studies.groups import OF_MEMBERS, ExecutionOptions, Group
from fnn.studies.jobs import ChunkResult, Job, members_and_data, run_chunk, run_in_worker, state_of_a_chunk
from fnn.types import Data

PATIENCE = 10.0  # seconds that the other threads have to end, when one has raised an error


# ---- the loop


def run_jobs(
    jobs: Sequence[Job],
    take: Callable[[Group, ChunkResult], None],
    show: Callable[[int, int, bool], None],
    must_stop: Callable[[], bool],
) -> None:
    """Run all members of all groups: their chunks wait in one queue, so that one compiles while another trains.

    Several workers compile the first groups while the others are still traced. None trains before all are.

    Args:
        jobs: the groups.
        take: called with each chunk's outcome, one at a time; chunks that a signal keeps from beginning have none.
        show: called with how many members have done how many epochs more, and whether these were their last.
        must_stop: whether to end early.
    """
    devices = min((job.plan.devices for job in jobs), key=len)
    lock, failed = threading.Lock(), threading.Event()
    queue = ChunkQueue(jobs, len(devices))
    likes = [None if job.folder is None else state_of_a_chunk(job) for job in jobs]

    def ends() -> bool:
        return must_stop() or failed.is_set()

    traces = Traces(jobs, devices[0], ends)

    def run(job: Job, number: int, at: np.ndarray, device: Any) -> None:
        def show_progress(epochs: int, finished: bool) -> None:
            with lock:
                show(len(at), epochs, finished)

        def wait_for_traces() -> None:
            queue.note_compilation(number)
            traces.wait()

        with without_debug_nans(), jax.disable_jit(False):  # compiled ahead, it runs only compiled
            outcome = run_chunk(job, at, device, likes[number], ends, show_progress, wait_for_traces)
        with lock:
            take(jobs[number].group, outcome)

    work = functools.partial(_run_chunks, jobs, queue, run, ends)
    _trace_first_chunk(jobs[0], devices[0])  # by itself: it compiles that much sooner
    if len(devices) == 1:
        traces.make()
        with contextlib.suppress(Interrupted):  # while a chunk compiled: it has not begun
            work(devices[0])
        return
    _run_in_threads(devices, work, traces.make, failed)


class Traces:
    """The traces of all groups but the first, which one thread makes; the others wait for them before they train.

    So what does not fit raises before anything trains.

    Args:
        jobs: the groups.
        device: where the first chunk of each will run.
        ends: whether to end early.
    """

    def __init__(self, jobs: Sequence[Job], device: Any, ends: Callable[[], bool]) -> None:
        self._jobs, self._device, self._ends = jobs, device, ends
        self._here, self._made = threading.get_ident(), threading.Event()

    def make(self) -> None:
        """Trace them."""
        for job in self._jobs[1:]:
            if not self._ends():
                _trace_first_chunk(job, self._device)
        self._made.set()

    def wait(self) -> None:
        """Return once all are made.

        Raises:
            Interrupted: the program was asked to stop, or another thread has failed.
        """
        if threading.get_ident() == self._here and not self._made.is_set():
            self.make()  # Python is about to end, and starts no threads
        while not self._made.wait(STEP) and not self._ends():
            pass
        if self._ends():
            raise Interrupted


def _run_chunks(
    jobs: Sequence[Job],
    queue: "ChunkQueue",
    run: Callable[[Job, int, np.ndarray, Any], None],
    ends: Callable[[], bool],
    device: Any,
) -> None:
    """What a worker does: chunk after chunk, with the data of their groups on its device."""
    placed: dict[int, Data] = {}  # the data of each group, once where groups share them
    while not ends() and (chunk := queue.take()) is not None:
        number, at = chunk
        job = jobs[number]
        shared = job.group.shared
        if id(shared.data) not in placed:
            placed[id(shared.data)] = jax.device_put(shared.data, device)
        group = job.group._replace(shared=shared._replace(data=placed[id(shared.data)]))
        run(job._replace(group=group), number, at, device)


def run_jobs_on_pool(
    executor: Any,
    folder: str | None,
    jobs: Sequence[Job],
    take: Callable[[Group, ChunkResult], None],
    show: Callable[[int, int, bool], None],
    must_stop: Callable[[], bool],
) -> None:
    """`run_jobs` with each chunk as a task of a pool. The chunks are those that there are without, and so the bits."""
    if len(jobs) > 1:  # of a single one the first worker tells what does not fit
        for job in jobs:
            _trace_first_chunk(job, job.plan.devices[0])
    tasks = [(number, at) for number, job in enumerate(jobs) for at in _places(job)]
    tasks.sort(key=lambda task: int(task[1][0]))  # the first workers have different programs to compile
    likes, shown = [state_of_a_chunk(job) for job in jobs], [0] * len(tasks)

    def show_progress(place: int, epochs: int, finished: bool = False) -> None:
        more = max(0, epochs - shown[place])  # a chunk that runs again has fewer than before
        shown[place] += more
        show(len(tasks[place][1]), more, finished)

    sent = [job._replace(failures=None, listener=None) for job in jobs]
    with Pool(executor, folder, warn) as pool:
        for place, outcome in pool.results(run_in_worker, sent, tasks, show_progress, must_stop):
            number = tasks[place][0]
            reached, _, _, active = position(outcome.state)
            ended = reached >= jobs[number].epochs or not active
            show_progress(place, jobs[number].epochs if ended else 0, ended)
            state = trees.with_keys(outcome.state, likes[number])
            take(jobs[number].group, outcome._replace(state=state))


class ChunkQueue:
    """The chunks of all groups that wait to be run.

    Several workers begin one group more than there are workers, so that each compiles a program while the others have
    chunks to train: a group that began last would let them wait. Else a worker takes a chunk whose program is compiled.
    """

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self._lock = threading.Lock()
        self._ahead = workers if workers > 1 else 0  # one alone has nobody to train meanwhile
        self._compiled: set[int] = set()
        self._begun: set[int] = set()
        self._waiting = {number: _places(job) for number, job in enumerate(jobs)}

    def take(self) -> tuple[int, np.ndarray] | None:
        """The number of a job, and which of its members; None: no more wait."""
        with self._lock:
            if not self._waiting:
                return None
            ahead = len(self._begun & self._waiting.keys()) <= self._ahead
            number = min(
                self._waiting, key=lambda n: (ahead and n in self._begun, n not in self._compiled, n in self._begun, n)
            )
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


def _trace_first_chunk(job: Job, device: Any) -> None:
    """Trace a group that is not in a folder yet, so that what does not fit raises before anything trains."""
    if job.folder is None or not chunks_in(job.folder):
        own, data = members_and_data(job, _places(job)[0], device)
        trace_chunk(job.group.config, job.plan.width, history_capacity(job.epochs), own, data, device)


def _run_in_threads(
    devices: Sequence[Any], work: Callable[[Any], None], meanwhile: Callable[[], None], failed: threading.Event
) -> None:
    """Call `work(device)` in a thread for each device, and `meanwhile()` here."""
    caller = find_caller()

    def work_in_thread(device: Any) -> None:
        try:
            with warnings_for(caller):
                work(device)
        except Interrupted:
            return
        except BaseException:
            failed.set()  # the others end with their segments
            raise

    tasks = [Task(functools.partial(work_in_thread, device), "fnn study") for device in devices]
    try:
        meanwhile()
        results(tasks)
    except BaseException:
        failed.set()
        for task in tasks:
            task.end(PATIENCE)
        raise


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
    widths = [known_width(folder, how.width) for folder in folders]
    count = sum(len(group.members) for group in groups)
    plan_of = functools.partial(make_plan, epochs=epochs, devices=how.devices, memory=how.memory, in_all=count)
    plans = [
        plan_of(group.config, group.shared, group.members, width=width or how.width, begun=width, kinds=_kinds(group))
        for group, width in zip(groups, widths, strict=True)
    ]
    for group, plan, folder in zip(groups, plans, folders, strict=True):
        check_study(folder, group, plan.width)
    words = f"{title}: {'; '.join(map(str, plans))}"
    failures, listener = WriteFailures(), StudyListener(how.on_segment, epochs)
    at_once = min(2, len(groups), *(len(plan.devices) for plan in plans))  # XLA compiles a program on about two cores
    job_of = functools.partial(
        Job, epochs=epochs, seconds=how.checkpoint_seconds, failures=failures, listener=listener, programs=at_once
    )
    jobs = [
        job_of(group, plan, folder=folder, effort=_effort(group, folder, how))
        for group, plan, folder in zip(groups, plans, folders, strict=True)
    ]
    for job in jobs:
        if job.folder is not None:
            keep_width(job.folder, job.plan.width, failures)
    with study_progress_bar(how.progress, words, count, epochs) as show:
        if how.executor is None:
            run_jobs(jobs, take, show, lambda: must_stop() or listener.stopped)
        else:
            run_jobs_on_pool(how.executor, how.checkpoint, jobs, take, show, must_stop)
    return plans


def _kinds(group: Group) -> int:
    """How many different activations its networks have in one place, at most."""
    return 1 if group.family is None else group.family.most_kinds()


def _effort(group: Group, folder: str | None, how: ExecutionOptions) -> str:
    """To compile with. Where bits must stay, the same however many epochs and members there are."""
    kept = folder is not None or how.width is not None
    return "high" if kept and group.effort == "auto" else group.effort


# ---- the folder of a group


def check_study(folder: str | None, group: Group, width: int) -> None:
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


def known_width(folder: str | None, asked: int | None) -> int | None:
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


def keep_width(folder: str, width: int, failures: WriteFailures) -> None:
    """Write the width down, if it is not there."""
    try:
        if read_width(folder) != width:
            write_width(folder, width)
    except OSError as error:
        failures.warn(error)
