"""Training on a stream: the fused step of `fnn.train`, on one buffer after another; an epoch is still one epoch."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn import checks
from fnn.batches import Batch
from fnn.buffers import Buffer, Plan, ahead, buffers
from fnn.early_stopping import end_epoch
from fnn.parts import Recipe, given, given_loss, parts
from fnn.segments import SEGMENT_SECONDS, Segment, joined
from fnn.state import blank_history, dtype_of, largest
from fnn.streams import as_stream
from fnn.train import NO_LIMIT, Progress, _after, _step, from_recipe
from fnn.types import Array, Data, History, Layer, Part, Rows, TrainState


def part_runner(recipe: Recipe) -> Callable[..., tuple[TrainState, History, Array]]:
    """The part of an epoch that lies in a buffer, as a pure function, un-jitted, as `fnn.trainer`'s `run` is.

    Returns `run_part(train_state, buffer, validation=None, steps=None) -> (train_state, row, ended)`. It trains on
    the batches of the buffer from `train_state.step` on, at most `steps` of them; with the last batch of the last
    buffer it ends the epoch as `run` does: means, validation, the best parameters, patience. `row` is the history's
    row then, else NaN.

    Rows are taken in the order that they have in the buffer: its maker shuffles. Given the same batches the steps are
    those of `run` where `run` masks its last batch: batch `j` of the epoch has the same key here and there.
    """
    size = recipe.batch_size
    if size is None:
        raise ValueError("batch_size: expected rows a step, got None; a stream is never a full batch. Do pass one.")

    def run_part(
        s: TrainState, buffer: Buffer, validation: Part | None = None, steps: Any = None
    ) -> tuple[TrainState, History, Array]:
        made, first = parts(recipe, s.settings), jnp.asarray(buffer.first, jnp.int32)
        end = first - (-jnp.asarray(buffer.count, jnp.int32) // size)
        key = jax.random.fold_in(jax.random.wrap_key_data(s.key), s.epoch)

        def one(j: Array, now: Progress) -> Progress:
            return _step(made, now, _nth(buffer, j - first, size), jax.random.fold_in(key, j), j)

        begin = jnp.maximum(largest(jnp.where(s.active, s.step, 0)), first)
        left = jnp.int32(NO_LIMIT) if steps is None else jnp.asarray(steps, jnp.int32)
        stop = begin + jnp.clip(end - begin, 0, left)
        now = Progress(s.params, s.state, s.optimizer, s.sums, s.active, jnp.int32(-1))
        now = lax.fori_loop(begin, stop, one, now)
        blank = jax.tree.map(lambda h: h[0], blank_history(1, s.params, made.metrics, validation is not None))
        ended = jnp.asarray(buffer.last) & (stop >= end)
        after, row = lax.cond(
            ended,
            lambda s: end_epoch(made, s, validation, s.active),
            lambda s: (s, blank),
            _after(s, now, s.active, stop),
        )
        return after, row, ended

    return run_part


def _nth(buffer: Buffer, k: Array, size: int) -> Batch:
    """Batch `k` of a buffer; rows past its count are filling."""
    x, t, weight = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, k * size, size), buffer.part)
    mask = k * size + jnp.arange(size, dtype=jnp.int32) < buffer.count
    return Batch(x, t, jnp.where(mask, weight, 0.0), Rows(mask))


class _Programs(NamedTuple):
    init: Callable[..., TrainState]
    run_part: Callable[..., Any]


@functools.lru_cache(maxsize=128)
def _programs(recipe: Recipe) -> _Programs:
    """Compiled once for each shape of buffer. The state is donated, the buffer is not."""
    return _Programs(jax.jit(from_recipe(recipe).init), jax.jit(part_runner(recipe), donate_argnums=0))


def fit_stream(
    recipe: Recipe,
    source: Any,
    *,
    epochs: int,
    key: Any = None,
    settings: Mapping[str, Any] | None = None,
    validation: Part | None = None,
    params: Any = None,
    state: Any = None,
    train_state: TrainState | None = None,
    buffer_rows: int | None = None,
    prepare: Callable[[Recipe, dict[str, Any], Part], tuple[Recipe, dict[str, Any]]] | None = None,
    between: Callable[[Segment], Any] | None = None,
) -> tuple[TrainState, History]:
    """The host's loop of `fit` where the data are a stream.

    Args:
        recipe: the run, with a `batch_size`; its `shuffle` shuffles the rows within each buffer, and the blocks of a
            memory-mapped file.
        source: what `fnn.streams.as_stream` takes.
        epochs: how many there are in all, those that `train_state` has done included.
        key: a `jax.random.key`; needed unless `train_state` is given.
        settings, validation, params, state: as for `fnn.trainer`'s `init`; copied.
        train_state: go on from here, within an epoch if need be; copied. The bits are those of a run that was never
            stopped, if the stream gives the same rows again and the buffers have the same size.
        buffer_rows: rows of a buffer, a multiple of the batch size; None: about 64 MB, or all rows where they are
            fewer.
        prepare: `(recipe, settings, part) -> (recipe, settings)`, called once with the rows of the first buffer: a
            recipe that computes the same and whose program is there already.
        between: called with every `Segment`, about half a second or what is left of a buffer. The run stops where it
            returns True. The state in it is donated to the next one: `between` must copy what it keeps.

    Returns:
        `(train_state, history)`; the history of the epochs run here, as NumPy arrays.

    Raises:
        ValueError, TypeError: a chunk is not usable; the message has its number. If it is in the first buffer, before
            anything compiles.

    >>> import fnn, fnn.stream_training, fnn.parts, jax, numpy as np, optax
    >>> def chunks(epoch):
    ...     for part in np.split(np.linspace(-1, 1, 30, dtype="float32")[:, None], 3):
    ...         yield part, 3 * part
    >>> recipe = fnn.parts.Recipe(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, optax.sgd(0.2), None,
    ...                           fnn.autodiff, (), 8, True, "mean", "loss", "min")
    >>> end, history = fnn.stream_training.fit_stream(recipe, chunks, epochs=20, key=jax.random.key(0))
    >>> print(end.params[0]["w"].round(4), history.loss.shape)
    [[3.]] (20,)
    """
    settings = dict(settings or {})
    if train_state is not None:
        params, seed = train_state.params, words_of(train_state.key)
    else:
        seed = words_of(jax.random.key_data(jax.random.split(key)[1]))  # of the key that the state will have
    plan = planned(recipe, source, buffer_rows, seed, settings, params)
    done, step = (0, 0) if train_state is None else (int(train_state.epoch), int(train_state.step))
    last = max(epochs, 1) if train_state is None else epochs  # with no epoch to run, a buffer still tells the shapes
    now, pieces = train_state, [_no_history(recipe, plan, validation)]
    with closing(ahead(buffers(plan, range(done, last), step))) as arriving:
        for first in arriving:
            if prepare is not None:
                recipe, settings = prepare(recipe, settings, first.part)
            programs = _programs(recipe._replace(shuffle=False))  # the host shuffles
            if now is None:
                one = Data(jax.tree.map(lambda a: a[:1], first.part), validation)
                start = functools.partial(programs.init, key, one, settings, params, state)
                _trace(programs.run_part, start, first, validation)
                now = start()
            else:
                now = jax.tree.map(jnp.copy, now)
            if epochs == 0:
                break
            rest = _after_it(first, arriving)
            del first  # or it would be kept while the others train
            for segment in stream_segments(programs.run_part, now, rest, plan.batch_size, validation, SEGMENT_SECONDS):
                now = segment.state
                pieces.append(segment.history)
                if between is not None and between(segment) is True:
                    break
            break
    assert now is not None  # a stream without rows has raised
    return now, joined(pieces)


def _after_it(first: Buffer, others: Iterator[Buffer]) -> Iterator[Buffer]:
    """`itertools.chain`, which would hold on to the first."""
    held = [first]
    del first
    yield held.pop()
    yield from others


def stream_segments(
    run_part: Callable[..., Any],
    state: TrainState,
    arriving: Iterator[Buffer],
    batch_size: int,
    validation: Part | None,
    seconds: float,
) -> Iterator[Segment]:
    """`fnn.segments.segments` for a stream: the first only compiles, and none is longer than a buffer.

    Args:
        run_part: what `part_runner` makes, compiled.
        state: where to begin; donated.
        arriving: the buffers from the one on that holds the batch that `state` stands at.
        seconds: how long a segment should take.
    """
    steps = 0
    for buffer in arriving:
        if not bool(state.active):
            return
        end = int(buffer.first) - (-int(buffer.count) // batch_size)
        epoch, step = int(state.epoch), int(state.step)
        if steps == 0:
            state, row, _ = run_part(state, buffer, validation, 0)  # compiles, and runs nothing
            none = jax.tree.map(lambda a: np.zeros(0, a.dtype), row)
            weights = sum(a.size for a in jax.tree.leaves(state.params))
            steps = max(1, int(0.1 * seconds / (1e-5 + 6 * weights * batch_size / 2e9)))  # a guess, measured from here
            yield Segment(state, none, 0.0)
        while step < end and bool(state.active):
            begun = time.perf_counter()
            state, row, ended = run_part(state, buffer, validation, steps)
            reached = end if bool(ended) else int(state.step)  # waits for the end
            elapsed, taken = time.perf_counter() - begun, max(1, reached - step)
            steps, step = max(1, int(seconds * taken / elapsed)), reached
            # an epoch that diverged has no row
            piece = jax.tree.map(lambda a: np.asarray(a)[None], row) if int(state.epoch) > epoch else none
            yield Segment(state, piece, taken * batch_size / elapsed)


def _no_history(recipe: Recipe, plan: Plan, validation: Any) -> History:
    blank = blank_history(0, np.zeros(1, plan.dtype), dict(recipe.metrics), validation is not None)
    return jax.tree.map(np.asarray, blank)


# ---- before anything compiles


def planned(recipe: Recipe, source: Any, buffer_rows: int | None, seed: Any, settings: Any, params: Any) -> Plan:
    """How the stream becomes buffers: what was asked for, checked."""
    size = checks.whole_number("batch_size", recipe.batch_size, 1)
    if buffer_rows is not None and checks.whole_number("buffer_rows", buffer_rows, 1) % size:
        raise ValueError(
            f"buffer_rows: expected a multiple of the batch size {size}, got {buffer_rows}. "
            f"Do write {-(-buffer_rows // size) * size}."
        )
    check = _target_check(recipe, settings)
    dtype = np.dtype(dtype_of(params))
    return Plan(as_stream("data", source), size, buffer_rows, seed, recipe.shuffle, dtype, check)


def words_of(key_data: Any) -> tuple[int, ...]:
    """Raw key data as numbers, the seed of the orders."""
    return tuple(np.asarray(key_data).ravel().tolist())


def _target_check(recipe: Recipe, settings: Any) -> Callable[[Any, Any], None] | None:
    """What looks at the values of a chunk's targets, if the loss has an opinion on them."""
    check = given_loss(recipe.loss, settings).check
    if check is None:
        return None
    net = given("net", recipe.net, Layer, settings)

    @functools.lru_cache
    def outputs(in_shape: Any) -> Any:
        def forward(x: Any) -> Any:
            params, state, _ = net.init(jax.random.key(0), in_shape)
            return net.forward(params, state, x, None, False)[0]

        return jax.eval_shape(forward, jax.ShapeDtypeStruct((1, *in_shape), jnp.result_type(float)))

    def of_chunk(x: Any, t: Any) -> None:
        y = outputs(x.shape[1:])
        check(jax.ShapeDtypeStruct((len(t), *y.shape[1:]), y.dtype), t)

    return of_chunk


def _trace(run_part: Any, start: Callable[[], Any], buffer: Buffer, validation: Any) -> None:
    """Trace, without compiling, so that what does not fit raises now."""
    try:
        jax.eval_shape(run_part, jax.eval_shape(start), buffer, validation, 0)
    except (ValueError, TypeError) as error:
        error.__notes__ = []  # a remark on JAX's internals, of no use for a mistake in the arguments
        raise
