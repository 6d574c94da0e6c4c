"""The host's loop around many members: chunk after chunk, on one or several devices or threads, to the end.

Each chunk is run in segments, as `fit` is, so that Ctrl-C is heard, a bar is shown and checkpoints are written.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import resume
from fnn.interrupts import noted
from fnn.members import Chunk, Members, Shared, compiled, size_of_member, usual_width
from fnn.memory import free_bytes
from fnn.parts import Recipe
from fnn.segments import joined, place, segment_seconds, segments
from fnn.train import LONGEST_HISTORY
from fnn.types import History, TrainState


class Plan(NamedTuple):
    """How members are run: so many in one program, on these devices (the same one twice: two threads)."""

    members: int
    width: int
    devices: tuple[Any, ...]
    bytes_: int  # about, at once

    def __repr__(self) -> str:
        many = "one after another" if self.width == 1 else f"{self.width} in one program"
        where = f"{len(set(self.devices))} devices" if len(set(self.devices)) > 1 else str(self.devices[0])
        threads = f", {len(self.devices)} threads" if len(self.devices) > len(set(self.devices)) else ""
        return f"{self.members} members, {many}, {where}{threads}, about {self.bytes_ / 1e6:.3g} MB"


class Outcome(NamedTuple):
    """What became of some members: where they stand in the list, their states and histories, on the host."""

    at: np.ndarray
    state: TrainState
    history: History


class Kept(NamedTuple):
    """Where a study keeps what it has done, and how often it writes; no folder: nowhere."""

    folder: str | None
    seconds: float
    about: dict[str, Any]


# ---- the plan


def planned(
    recipe: Recipe, shared: Shared, members: Members, epochs: int, width: int | None, devices: Any, memory: float | None
) -> Plan:
    """How to run so many members: as asked, or as is usually fastest, in chunks that fit the memory.

    Args:
        width: members of a program; None: by their size.
        devices: JAX devices, the same one twice for two threads; None: all there are, a CPU with a thread a core.
        memory: bytes to keep below; None: half of what is free.

    Raises:
        MemoryError: not even one fits.
    """
    workers = tuple(devices) if devices is not None else usual_devices()
    workers = workers[: max(1, len(members))]
    places = room_for(epochs)
    each, weights, rows = size_of_member(recipe, shared, members, places)
    free = free_bytes(True) if memory is None else 2 * memory
    most = len(members) if free is None else int(free / 2 / each / len(workers))
    if most < 1:
        raise MemoryError(
            f"memory: expected room for one member on each of {len(workers)} devices or threads, about "
            f"{each * len(workers) / 1e9:.3g} GB, got {(free or 0) / 2e9:.3g} GB. Do take a smaller batch_size."
        )
    if width is None:
        width = usual_width(len(members), len(workers), weights, rows, workers[0].platform)
    width = min(width, 1 << (most.bit_length() - 1) if most < width else width)
    return Plan(len(members), width, workers, each * width * len(workers))


def usual_devices() -> tuple[Any, ...]:
    """All devices of the kind that JAX uses; of a single CPU as many times as there are cores: a thread each."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu" and len(devices) == 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        devices = devices * cores
    return tuple(devices)


def room_for(epochs: int) -> int:
    """Epochs that a history has room for: a power of two, so that another number of them seldom compiles again."""
    return min(LONGEST_HISTORY, 1 << max(0, epochs - 1).bit_length())


# ---- the loop


class Job(NamedTuple):
    """Members to be run: what they are, how far, how, and where that is kept."""

    recipe: Recipe
    shared: Shared
    members: Members
    epochs: int
    plan: Plan
    kept: Kept


def follow(job: Job, take: Callable[[Outcome], None], show: Callable[[int, int, bool], None]) -> list[str]:
    """Run all members; the signals that ended it early.

    Args:
        job: the members.
        take: called with each chunk's outcome, one at a time; chunks that a signal keeps from beginning have none.
        show: called with how many members have done how many epochs more, and whether these were their last.
    """
    waiting = iter(range(0, len(job.members), job.plan.width))
    lock, failed = threading.Lock(), threading.Event()
    x64 = jnp.result_type(float) == np.float64  # belongs to a thread

    with noted() as names:

        def work(device: Any) -> None:
            there = job._replace(shared=job.shared._replace(data=jax.device_put(job.shared.data, device)))
            while not names and not failed.is_set():
                with lock:
                    first = next(waiting, None)
                if first is None:
                    return
                at = np.arange(first, min(first + job.plan.width, len(job.members)))

                def shown(epochs: int, finished: bool, some: int = len(at)) -> None:
                    with lock:
                        show(some, epochs, finished)

                outcome = _followed(there, at, device, names, shown)
                with lock:
                    take(outcome)

        def in_thread(device: Any) -> None:
            with jax.enable_x64(x64):
                try:
                    work(device)
                except BaseException:
                    failed.set()
                    raise

        if len(job.plan.devices) == 1:
            work(job.plan.devices[0])
        else:
            with ThreadPoolExecutor(len(job.plan.devices)) as pool:
                running = [pool.submit(in_thread, device) for device in job.plan.devices]
                try:
                    for future in running:
                        future.result()
                except BaseException:
                    failed.set()  # the others end with their segments
                    raise
    return names


def _followed(job: Job, at: np.ndarray, device: Any, names: list[str], show: Callable[[int, bool], None]) -> Outcome:
    """One chunk, from its beginning or its checkpoint."""
    width, epochs = job.plan.width, job.epochs
    # the last one is filled up, so that all have one width: another width would have other last bits
    filled = np.append(at, np.repeat(at[-1:], width - len(at)))
    own = job.members.taken(filled if width > 1 else at[0])
    data = jax.device_put(job.shared.of(own.fold), device)
    places = room_for(epochs)
    chunk = compiled(job.recipe, width, places, own, data, device)
    state, pieces, write = _begun(chunk, own, data, job, at)
    done = place(state)[0]
    pace = segment_seconds(None), places, chunk.pace.get("seconds a step")
    with closing(segments(chunk.run, state, data, epochs, job.recipe.batch_size, *pace)) as following:
        for segment in following:
            state = segment.state
            if segment.seconds_a_step is not None:
                chunk.pace["seconds a step"] = segment.seconds_a_step
            pieces.append(segment.history)
            show(segment.history.loss.shape[-1], False)
            write(state, pieces)
            if names:
                break
    write(state, pieces, True)
    history = joined(pieces)
    reached, _, _, active = place(state)
    ended = reached >= epochs or not active
    show(epochs - reached + done if ended else 0, ended)
    state = jax.tree.map(np.asarray, state)
    if width == 1:
        state, history = jax.tree.map(lambda a: a[None], (state, history))
    return Outcome(at, *jax.tree.map(lambda a: a[: len(at)], (state, history)))


def _begun(
    chunk: Chunk, own: Members, data: Any, job: Job, at: np.ndarray
) -> tuple[TrainState, list[History], Callable[..., None]]:
    """The state to go on from, the history up to there, and how to keep what comes."""
    width, kept = job.plan.width, job.kept
    start = chunk.init(own, data)
    none = jax.tree.map(lambda a: np.zeros((width, 0) if width > 1 else 0, a.dtype), chunk.history)
    if kept.folder is None:
        return start, [none], lambda *of: None
    folder = os.path.join(kept.folder, f"members-{at[0]}-{at[-1]}")
    about = kept.about | {"members": resume.digest(own), "width": width}
    found = resume.found(folder, about, start, none)
    return found.state or start, [found.history], resume.writer(folder, about, found, kept.seconds)
