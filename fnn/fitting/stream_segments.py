"""Training on a stream: the steps of `fnn.training`, on one buffer after another; an epoch is still one epoch."""

import functools
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import jax
import numpy as np

from fnn import arguments
from fnn.arguments.leaves import example_shape, row_count, some_rows
from fnn.compilation.cache import programs
from fnn.compilation.frozen import freeze
from fnn.compilation.programs import compile_in_parallel, signature
from fnn.data.buffers import BufferPlan, buffers, first_record, prefetch
from fnn.data.reading import BufferRecord, StreamRecord
from fnn.data.shares import Shares
from fnn.data.streams import as_stream
from fnn.devices.placement import put_buffer, put_everywhere
from fnn.devices.threads import Task, never, results
from fnn.fitting.segments import SEGMENT_SECONDS, Pace, Segment
from fnn.layers.embedding import check_categories
from fnn.layers.passes import forward_layer, init_layer
from fnn.layers.sparse import check_columns, check_matrix
from fnn.runs import History, TrainState
from fnn.training.config import TrainerConfig, missing_targets, resolve, resolve_loss
from fnn.training.fused_loop import build_buffer_trainer
from fnn.training.layout import buffer_shardings
from fnn.training.state import dtype_of
from fnn.types import Buffer, Layer, Part


def _program(config: TrainerConfig, must_stop: Callable[[], bool], *arguments: Any) -> Callable[..., Any]:
    """A buffer trainer's `run` for buffers of such shapes, compiled. The state is donated, the buffer is not."""

    def make() -> tuple[Callable[..., Any], int]:
        frozen = freeze(build_buffer_trainer(config), arguments)
        put = functools.partial(put_everywhere, config.layout)
        run = frozen.jit(donates=True, put=put, **buffer_shardings(config.layout, *arguments[:2]))
        if not jax.config.jax_disable_jit:  # type: ignore[attr-defined]
            compile_in_parallel([lambda: run.lower(*arguments).compile], must_stop)
        return run, frozen.bytes

    if config.identity is None:  # nothing is known of it: nothing is remembered
        return make()[0]
    return programs.get(("stream", config, signature(arguments)), make, lambda made: made[1])[0]


def stream_segments(
    config: TrainerConfig,
    source: Any,
    state: TrainState,
    epochs: int,
    validation: Part | None = None,
    pace: Pace | None = None,
    buffer_rows: int | None = None,
    reading: StreamRecord | None = None,
    must_stop: Callable[[], bool] = never,
    shares: Shares | None = None,
    same: Callable[[BufferRecord], BufferRecord] = lambda record: record,
) -> Generator[Segment, None, None]:
    """`fnn.fitting.segments.segments` for a stream: the first only compiles, and none is longer than a buffer.

    The bits are those of a run that was never stopped, if the stream gives the same rows again and `reading` is that
    of the run so far. Close the iterator, or use it up, to end the thread that reads ahead.

    Args:
        config: the run, with a `batch_size`; its `shuffle` shuffles the rows within each buffer, and the blocks of a
            memory-mapped file.
        source: what `fnn.data.streams.as_stream` takes.
        state: where to begin, within an epoch if need be; donated.
        epochs: how many there are in all, those that `state` has behind it included.
        validation: rows to validate on.
        pace: how long a segment should take.
        buffer_rows: rows of a buffer, a multiple of the batch size; None: about 64 MB, or all rows of the first epoch
            where they are fewer.
        reading: what the run has read so far, kept up to date; it knows the rows of a buffer, and compares.
        must_stop: whether to end early, also in the midst of waiting for rows or for the compiler.
        shares: the processes, each of which reads its own rows; None: the source has all of them.
        same: returns what it is called with, what a buffer says of its rows; raises where other processes say else.

    Raises:
        Interrupted: it was to end while it compiled, or while it compared the first rows.
        ValueError, TypeError: a chunk is not usable; the message has its number. If it is in the first buffer, before
            the run is compiled.
        ValueError: rows are not those that `reading` has seen.

    >>> import fnn, fnn.fitting.stream_segments, fnn.training.config, jax, numpy as np, optax
    >>> def chunks(epoch):
    ...     for part in np.split(np.linspace(-1, 1, 30, dtype="float32")[:, None], 3):
    ...         yield part, 3 * part
    >>> config = fnn.training.config.TrainerConfig(
    ...     fnn.serial(fnn.dense(1)), fnn.losses.squared_error, optax.sgd(0.2), None, fnn.autodiff, (), 8, True, "mean"
    ... )
    >>> one = fnn.Data(fnn.Part(*next(chunks(0))))
    >>> state = jax.jit(fnn.trainer(config.net, config.loss, config.optimizer).init)(jax.random.key(0), one)
    >>> for segment in fnn.fitting.stream_segments.stream_segments(config, chunks, state, epochs=20):
    ...     state = segment.state
    >>> print(state.params[0]["w"].round(4), int(state.epoch))
    [[3.]] 20
    """
    reading, pace = StreamRecord() if reading is None else reading, pace or Pace(SEGMENT_SECONDS)
    plan = _make_plan(config, source, buffer_rows or reading.room, state)._replace(check_seen=reading.check)
    size = plan.batch_size
    if shares is not None:
        rows = plan.rows and plan.rows // shares.processes
        plan = plan._replace(batch_size=size // shares.processes, rows=rows, shares=shares)
    one_order = config._replace(shuffle=False)  # the host shuffles
    done, step, run = int(state.epoch), int(state.step), None
    if done > 0 and reading.first is not None:
        reading.warn_if_it_shuffles()
        first = Task(functools.partial(first_record, plan), "fnn stream")
        reading.check_first(results([first], must_stop)[0])
    if done >= epochs or not bool(state.active):
        return
    put = jax.device_put if shares is None else lambda buffer: buffer
    with closing(prefetch(buffers(plan, range(done, epochs), step), put, must_stop)) as arriving:
        for arrived in arriving:
            buffer = put_buffer(config.layout, arrived)
            end = int(buffer.first) - (-int(buffer.count) // size)
            epoch, step, ended = int(state.epoch), int(state.step), False
            room = row_count(buffer.part.x) if shares is None else buffer.mask.size
            reading.take(same(_record(buffer, epoch, size, room)), room)
            if run is None:
                run = _program(one_order, must_stop, state, buffer, validation, np.int32(0))
                state, row, over = run(state, buffer, validation, np.int32(0))  # compiles, and runs no step
                ended = bool(over)  # where a stream has fewer rows than the state has steps behind it
                none = jax.tree.map(lambda a: np.zeros(0, a.dtype), row)
                yield Segment(state, _piece(row, ended, none, reading), 0.0)
            while not ended and (step < end or bool(buffer.last)) and bool(state.active):
                begin = time.perf_counter()
                state, row, over = run(state, buffer, validation, np.int32(pace.steps))
                ended = bool(over)  # waits for the end
                reached = end if ended else int(state.step)
                seconds, steps = time.perf_counter() - begin, max(1, reached - step)
                pace.measure(seconds, steps)
                step = reached
                piece = _piece(row, int(state.epoch) > epoch, none, reading)  # an epoch that diverged has no row
                yield Segment(state, piece, steps * size / seconds)
            if not bool(state.active):
                return


def _piece(row: History, ended: bool, none: History, reading: StreamRecord) -> History:
    """The history of an epoch that has ended, else that of none."""
    if not ended:
        return none
    reading.end_epoch()
    row_alone: History = jax.tree.map(lambda a: np.asarray(a)[None], row)
    return row_alone


def _record(buffer: Buffer, epoch: int, batch_size: int, room: int) -> BufferRecord:
    """What a buffer says about its epoch, up to its end."""
    first = int(buffer.first)
    index = first * batch_size // room
    rows = first * batch_size + int(buffer.count)
    return BufferRecord(epoch, index, rows, int(buffer.check_sum), bool(buffer.last))


# ---- before anything compiles


def _make_plan(config: TrainerConfig, source: Any, buffer_rows: int | None, state: TrainState) -> BufferPlan:
    """How the stream becomes buffers: what was asked for, checked."""
    size = arguments.whole_number("batch_size", config.batch_size, 1)
    if buffer_rows is not None and arguments.whole_number("buffer_rows", buffer_rows, 1) % size:
        raise ValueError(
            f"buffer_rows: expected a multiple of the batch size {size}, got {buffer_rows}. "
            f"Write {-(-buffer_rows // size) * size}."
        )
    seed = tuple(np.asarray(state.key).ravel().tolist())
    dtype = np.dtype(dtype_of(state.params))
    check = _value_check(config, state.settings)
    missing = missing_targets(config.loss, state.settings)
    return BufferPlan(as_stream("data", source), size, buffer_rows, seed, config.shuffle, dtype, check, missing=missing)


def _value_check(config: TrainerConfig, settings: Any) -> Callable[[Any, Any, Any], None]:
    """What looks at the values of a chunk: of inputs that an embedding gets, of targets that the loss judges."""
    check = resolve_loss(config.loss, settings).check
    net = resolve("net", config.net, Layer, settings)

    @functools.lru_cache
    def outputs(structure: Any, shapes: Any) -> Any:
        def forward(x: Any) -> Any:
            params, state, _ = init_layer(net, jax.random.key(0), example_shape(x))
            return forward_layer(net, params, state, x, None, False)[0]

        return jax.eval_shape(forward, jax.tree.unflatten(structure, shapes))

    def of_chunk(x: Any, t: Any, given: Any) -> None:
        check_categories(net, "x", x)
        check_matrix("x", given, net)
        check_columns("x", x, net)
        if check is None:
            return
        y = outputs(*signature(some_rows(x, 1)))
        check(some_rows(y, row_count(t)), t)

    return of_chunk
