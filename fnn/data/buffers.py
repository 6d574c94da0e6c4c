"""Chunks of any size become buffers of one size: every row once an epoch, shuffled, read ahead by a thread.

A chunk is checked on arrival and copied to where rows are gathered. Once there are enough, they are copied in a random
order, and put on the device by one background thread while the buffer before trains. So at most three buffers exist at
a time: one gathering, one waiting, one training.
"""

import queue
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.arguments import sparse
from fnn.arguments.leaves import named_leaves
from fnn.data import arrays, checks
from fnn.data.reading import BufferRecord, check_sum
from fnn.data.shares import Filling, Shares, level, real_places
from fnn.data.streams import Seed, Stream, check_chunk, is_empty, philox
from fnn.data.warnings import find_caller, warnings_for
from fnn.devices.threads import STEP, Task, never
from fnn.kernels.memory import aligned_zeros
from fnn.types import Buffer, DType, Part, Shape, ShapeError, Tree

BUFFER_BYTES = 64_000_000
PATIENCE, PATIENCE_ON_SIGNAL = 10.0, 0.5  # seconds that a source has to end by itself
MOST_ROWS = 2**30  # of an epoch, over which weights must sum up; how many there are is not known before its end


class BufferPlan(NamedTuple):
    """How a stream becomes buffers."""

    stream: Stream
    batch_size: int
    rows: int | None  # of a buffer; None: as many as fit BUFFER_BYTES, or as there are
    seed: Seed
    shuffle: bool
    dtype: Any
    check: Callable[[Any, Any, Any], None] | None = None  # of values: `(x, t, inputs as they came) -> None`, raises
    check_seen: Callable[[BufferRecord], None] | None = None  # whether rows are those of before, raises
    missing: Any = None  # what the loss says of targets that are missing
    shares: Shares | None = None  # the processes that read it together; `batch_size` and `rows` are then of this one


def _checked_chunks(plan: BufferPlan, epoch: int, like: dict[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """The chunks of an epoch, each checked, all of them `like` the first of the run, which fills that in."""
    cut = like["cut"]
    for number, value in enumerate(plan.stream.chunks(plan.seed, epoch, plan.shuffle)):
        if isinstance(value, (tuple, list)) and all(map(is_empty, value)):
            continue
        name = f"data, chunk {number}"
        chunk = check_chunk(name, value, plan.dtype, cut, plan.missing)
        fill = like.setdefault("fill", sparse.Room())
        chunk = fill(f"{name}, x", value[0], chunk[0]), *chunk[1:]
        if chunk[2] is not None:
            checks.check_weights(f"{name}, weights", chunk[2], MOST_ROWS, plan.dtype)
        about = _describe_leaves(chunk, plan.dtype)
        columns = arrays.columns(value)
        arrays.same_columns((f"{name}, x", f"{name}, t"), like.setdefault("columns", columns), columns)
        cut.warn(plan.dtype)
        first = like.setdefault("about", about)
        for leaf in [*first, *about]:
            if first.get(leaf) != about.get(leaf):
                raise ShapeError(
                    f"{name}, {leaf}: expected {_describe(first.get(leaf))} as in the first chunk, "
                    f"got {_describe(about.get(leaf))}. Give all chunks the same shape and dtype."
                )
        if plan.check is not None:
            try:
                plan.check(chunk[0], chunk[1], value[0])
            except (ValueError, TypeError) as error:
                raise type(error)(f"{name}: {error}") from None
        yield chunk


def _describe_leaves(chunk: tuple[Tree, Tree, Any], dtype: DType) -> dict[str, tuple[Shape, DType]]:
    """The shape of a row and the dtype of each array of a chunk, by name."""
    x, t, weight = chunk
    found = {name: (a.shape[1:], a.dtype) for name, a in (named_leaves("x", x) | named_leaves("t", t)).items()}
    return found if weight is None else found | {"weights": (weight.shape[1:], np.dtype(dtype))}


def _describe(about: tuple[Shape, DType] | None) -> str:
    return "none" if about is None else f"rows of shape {about[0]} and {np.dtype(about[1]).name}"


# ---- buffers of one size


def buffers(plan: BufferPlan, epochs: Iterable[int], step: int = 0) -> Generator[Buffer, None, None]:
    """The buffers of these epochs, on the host; from the one that has batch `step` of the first epoch on.

    Every row is in exactly one buffer of an epoch. A buffer's order depends on the seed, the epoch and the buffer's
    place alone, so that a run can be resumed at any of them, if `plan.rows` is what it was.

    Raises:
        ValueError: there are no rows, or all weigh nothing, or `plan.check_seen` finds others than before.
    """
    first = None
    for gathered in _together(plan, _gather(plan, epochs)):
        seen = gathered.seen
        first = seen.epoch if first is None else first
        if plan.check_seen is not None:
            plan.check_seen(seen)
        passed = step // (gathered.rows // plan.batch_size) if seen.epoch == first else 0
        if seen.last or seen.buffer >= passed:
            yield _buffer(plan, gathered)


def first_record(plan: BufferPlan) -> BufferRecord:
    """The first buffer of all, for a look at what is in it; of what there is to warn of, its training will."""
    with warnings.catch_warnings(), closing(_gather(plan, [0], quiet=True)) as local:
        warnings.simplefilter("ignore")
        return next(_together(plan, local)).seen


def _together(plan: BufferPlan, local: Generator[Filling, int | None, None]) -> Iterator[Filling]:
    """What is gathered, as it is, or levelled with what other processes have."""
    return local if plan.shares is None else level(plan.shares, plan.batch_size, plan.rows, local)


def _gather(plan: BufferPlan, epochs: Iterable[int], quiet: bool = False) -> Generator[Filling, int | None, None]:
    """The rows of each buffer. Where `plan.rows` does not say how many fit, the first epoch does, for all of them.

    What is sent at the end of an epoch is how many they are from then on.
    """
    stage: Any = None
    like: dict[str, Any] = {"cut": checks.LostDigits(quiet=quiet)}
    rows, room = plan.rows, 0
    structure: Any = None
    for epoch in epochs:
        index, filled, weighed, check = 0, 0, False, 0
        for x, t, weight in _checked_chunks(plan, epoch, like):
            leaves, structure = jax.tree.flatten((x, t))
            if stage is None:
                room = _room(plan, leaves) if rows is None else rows
                stage = _staging_arrays(room, leaves, plan.dtype)
            done, weighed = 0, weighed or weight is None or bool(weight.any())
            while done < len(leaves[0]):
                if filled == room:  # there is a row beyond it, so it is not the last
                    rows = room
                    check = check_sum([kept[:filled] for kept in stage], check)  # it may have room for more
                    record = BufferRecord(epoch, index, (index + 1) * room, check)
                    yield Filling(stage, room, record, filled, structure=structure)
                    index, filled = index + 1, 0
                n = min(room - filled, len(leaves[0]) - done)
                for kept, new in zip(stage, [*leaves, weight], strict=True):
                    kept[filled : filled + n] = 1 if new is None else new[done : done + n]
                filled, done = filled + n, done + n
        if filled == 0:
            raise ValueError(
                f"data: expected at least one row, got a stream without any in epoch {epoch}. "
                "Pass a stream that starts anew each epoch."
            )
        if not weighed:
            raise ValueError("data: expected a weight above 0, got zeros only. Leave them out to count all rows alike.")
        check = check_sum([kept[:filled] for kept in stage], check)
        record = BufferRecord(epoch, index, index * room + filled, check, True)
        fits = -(-filled // plan.batch_size) * plan.batch_size if rows is None else rows  # all there is fits in one
        rows = room = (yield Filling(stage, fits, record, filled, structure=structure)) or fits


def _room(plan: BufferPlan, leaves: list[np.ndarray]) -> int:
    """Rows of a buffer: whole batches, about BUFFER_BYTES, and no more than there are, where that is known."""
    row_bytes = sum(a.nbytes for a in _staging_arrays(1, leaves, plan.dtype)[:-1])
    batches = max(1, BUFFER_BYTES // (row_bytes * plan.batch_size))
    if plan.stream.rows is not None and plan.shares is None:
        batches = min(batches, -(-plan.stream.rows // plan.batch_size))
    return batches * plan.batch_size


def _staging_arrays(rows: int, leaves: list[np.ndarray], dtype: DType) -> list[np.ndarray]:
    """Where the rows of a buffer are gathered, in the order in which they come. Used again for every buffer."""
    return [*(np.empty((rows, *a.shape[1:]), a.dtype) for a in leaves), np.empty(rows, dtype)]


def _buffer(plan: BufferPlan, gathered: Filling) -> Buffer:
    """A copy of the rows gathered, shuffled; filled up with the first of them, whose weight there is 0."""
    stage, rows, seen, count, counts, structure = gathered
    drawn = () if plan.shares is None else (plan.shares.process,)
    order = philox(1, *plan.seed, *seen[:2], *drawn).permutation(count) if plan.shuffle else np.arange(count)
    size, filled = plan.batch_size, -(-max((count, *counts)) // plan.batch_size) * plan.batch_size
    made: list[Any] = []
    for kept in stage:
        new = aligned_zeros((rows, *kept.shape[1:]), kept.dtype)
        np.take(kept[:count], order, 0, out=new[:count], mode="clip")  # this mode writes without a copy between
        new[count:filled] = kept[0]
        made.append(new)
    made[-1][count:] = 0
    first = np.int32(seen.buffer * (rows // size))
    ends = np.bool_(seen.last), np.uint32(seen.check_sum)
    shared = plan.shares is not None
    made = [a.reshape(-1, size, *a.shape[1:]) if shared else a for a in made]
    x, t = jax.tree.unflatten(structure, made[:-1])
    if not shared:
        return Buffer(Part(x, t, made[-1]), first, np.int32(count), *ends)
    mask = real_places(counts, size, rows)
    return Buffer(Part(x, t, made[-1]), first, np.int32(filled * len(counts)), *ends, mask)


# ---- read ahead


def prefetch(
    items: Generator[Any, None, None],
    put: Callable[[Any], Any] = jax.device_put,
    must_stop: Callable[[], bool] = never,
) -> Generator[Any, None, None]:
    """The items, each made and put on the device by one background thread while the one before it is in use.

    An error of the thread is raised here. Close the iterator (or drop it) to end the thread; it ends before it makes
    another item. A source that hangs is left after some seconds. Where the program was asked to stop there are no more
    items, also in the midst of waiting for one.
    """
    # no SimpleQueue: before Python 3.13 its `get` has no end where a signal's handler ends after the timeout
    made, caller = queue.Queue[Any](), find_caller()
    room, stop = threading.Semaphore(1), threading.Event()

    def work() -> None:
        try:
            with warnings_for(caller):
                room.acquire()
                for item in items:
                    made.put((put(item), None))
                    del item
                    room.acquire()  # until the last one has been taken
                    if stop.is_set():
                        break
            made.put((None, StopIteration()))
        except BaseException as error:
            made.put((None, error))
        finally:
            items.close()

    try:
        task = Task(work, "fnn stream", here=False)
    except RuntimeError:  # Python starts no threads any more, because it is about to end
        yield from map(put, items)
        return
    try:
        while not must_stop():
            try:
                item, error = made.get(timeout=STEP)
            except queue.Empty:
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield item
    finally:
        stop.set()
        room.release()
        task.end(PATIENCE_ON_SIGNAL if must_stop() else PATIENCE)
