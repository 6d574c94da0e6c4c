"""What a trained network says about any number of rows.

Rows go through one compiled program in chunks of a fixed size, the last one filled up; so memory depends on that size
and on what is kept of the outputs, not on the number of rows.
"""

from __future__ import annotations  # `help` then shows types by their names

import functools
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fnn import arguments
from fnn.arguments import trees
from fnn.arguments.leaves import row_count
from fnn.compilation.programs import canonical
from fnn.data import arrays, checks
from fnn.data.streams import DataLike, rechunk
from fnn.devices.memory import allow_transfers, free_bytes
from fnn.devices.placement import put_everywhere
from fnn.inference.reduction import check_functions, check_row_axis, combine_rows, require_arrays
from fnn.inference.row_chunks import input_chunks
from fnn.kernels.memory import aligned_copy
from fnn.layers.embedding import check_categories
from fnn.layers.passes import forward_layer
from fnn.layers.sparse import check_columns, check_matrix
from fnn.runs import Run
from fnn.training.layout import Layout, keep_whole, make_layout, split_arrays
from fnn.types import Array, Layer, Params, ShapeError, State, Tree

T = TypeVar("T")


class Trained(Protocol):
    """A run, or what has its parameters and its layer state."""

    @property
    def params(self) -> Params:
        """The parameters."""

    @property
    def state(self) -> State:
        """The state of its layers."""


@arguments.explain_call
def predict(
    net: Layer,
    run: Trained,
    x: DataLike,
    batch_size: int = 1024,
    *,
    device: bool = False,
    reduce: Callable[[Array], Tree] | None = None,
    combine: Callable[[Tree, Tree], Tree] | None = None,
    mesh: Mesh | None = None,
) -> Tree:
    """The outputs for all rows of `x`, in row order; computed in chunks by one compiled program.

    Args:
        net: the network.
        run: what `fit` returned, or anything with `params` and `state`.
        x: `(rows, ...)`; a `np.memmap` is never loaded whole. Or a stream of chunks: a generator, a generator
            function, a data loader, `fnn.memory_mapped(...)`; of chunks `(x, t)` the `t` are left alone.
        batch_size: rows at once; device memory depends on it, and not on the number of rows. Fewer rows are filled up
            to 1, 8, 64, 128, … of them, so that few programs compile.
        device: True leaves the result on the device, as JAX arrays; else NumPy arrays.
        reduce: a function of the outputs of a chunk, `(batch, ...)`, that gives what is to be kept of them, one thing
            a row, an array or a pytree of arrays: `reduce=lambda y: y.argmax(-1)` keeps classes, `jax.nn.softmax`
            makes probabilities. It is compiled into the program: pass the same function again, and nothing compiles.
        combine: an associative function that makes one thing of those of two rows, such as `jnp.add` or
            `jnp.maximum`; the result is then that of all rows together, without a rows axis.
        mesh: devices to split the rows of a chunk over, along the mesh's first axis.

    Returns:
        `(rows, ...)`, or what `reduce` and `combine` make of it.

    Raises:
        MemoryError: the result would not fit in memory; it names its size. Before anything is computed, if the number
            of rows is known.
        ValueError, TypeError: `x` is not usable; or `reduce` does not keep one thing per row.

    >>> import fnn, jax, jax.numpy as jnp
    >>> net = fnn.serial(fnn.dense(2))
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> run = fnn.Run(params, state, None, None)
    >>> x = [[1, 2, 3]] * 5
    >>> print(fnn.predict(net, run, x).shape, fnn.predict(net, run, x, reduce=lambda y: y.argmax(-1)).shape)
    (5, 2) (5,)
    >>> print(fnn.predict(net, run, x, reduce=jnp.ones_like, combine=jnp.add))
    [5. 5.]
    """
    size, device = arguments.whole_number("batch_size", batch_size, 1), arguments.flag("device", device)
    layout = make_layout(mesh, joint=False)
    run = checked_run(net, run, layout)
    check_functions(reduce, combine)

    def specialise(part: Tree) -> tuple[Callable[..., Tree], Tree]:
        program, made = _specialise(net, run, part, reduce, combine, layout)
        return program, made if combine is None else _specialise(net, run, part, reduce, None, layout)[1]

    return _predict_rows(specialise, net, run, x, size, device, reduce, combine)


@arguments.explain_call
def predictor(
    net: Layer,
    run: Trained,
    batch_size: int = 1024,
    *,
    reduce: Callable[[Array], Tree] | None = None,
    mesh: Mesh | None = None,
) -> Callable[[DataLike], Tree]:
    """A function of the inputs, `x -> outputs`, for serving: as `predict`, with the network checked once, here.

    It takes any number of rows. Rows are filled up to 1, 8, 64, 128, … or `batch_size` of them, and a program for that
    many is compiled when they first come, and held. Any number of threads may call the function at once.
    The parameters are those of now. Functions of your own (a layer, `reduce`) are read when a program is compiled.

    Args:
        net, run, batch_size, reduce, mesh: as for `predict`.

    Raises:
        ValueError, TypeError: as `predict`, of the network now, of the inputs at each call.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.dense(2))
    >>> params, state, _ = net.init(jax.random.key(0), (3,))
    >>> serve = fnn.predictor(net, fnn.Run(params, state, None, None))
    >>> print(serve([[1, 2, 3]]).shape, serve([[1, 2, 3]] * 5).shape)
    (1, 2) (5, 2)
    """
    size = arguments.whole_number("batch_size", batch_size, 1)
    layout = make_layout(mesh, joint=False)
    run = checked_run(net, run, layout)
    check_functions(reduce, None)
    programs: dict[Any, tuple[Callable[..., Tree], Tree]] = {}

    def specialise(part: Tree) -> tuple[Callable[..., Tree], Tree]:
        leaves, structure = jax.tree.flatten(part)
        key = structure, *((a.shape, a.dtype) for a in leaves)
        if key not in programs:
            programs[key] = _specialise(net, run, part, reduce, None, layout)
        return programs[key]

    def serve(x: DataLike) -> Tree:
        return _predict_rows(specialise, net, run, x, size, False, reduce, None)

    return serve


def _predict_rows(
    specialise: Callable[[Tree], tuple[Callable[..., Tree], Tree]],
    net: Layer,
    run: Run,
    x: DataLike,
    size: int,
    device: bool,
    reduce: Callable[[Array], Tree] | None,
    combine: Callable[[Tree, Tree], Tree] | None,
) -> Tree:
    """What is kept of all rows; `specialise(part)` gives the program of such a chunk, and what it keeps of one."""
    checks.outside_of_jit("x", x)
    check_matrix("x", x, net)

    def trace(part: Tree) -> tuple[Callable[..., Tree], Tree]:
        program, made = specialise(part)
        check_row_axis(made, row_count(part), reduce)
        return program, made

    rows, size, chunks = input_chunks(x, run, size)
    kept: Any = None
    before: Any = None
    done = 0
    for chunk, count in rechunk(chunks, size):
        check_categories(net, "x", chunk[0], done, count)
        check_columns("x", chunk[0], net, done)
        done += count
        part = jax.tree.map(aligned_copy, chunk[0])
        if kept is None:
            program, made = with_true_rows(trace, count, part)
            kept = _Reducer(combine) if combine is not None else _RowCollector(made, rows, size, device)
        with allow_transfers():  # of the rows, and of how many there are
            now = program(run.params, run.state, part, np.int32(count)), count
        if before is not None:  # fetched while the next chunk is computed
            kept.add(*before)
        before = now
    if kept is None:
        raise ValueError("x: expected at least one row, got a stream without any. Pass rows.")
    if size <= FEW and not device:
        _look_for(before[0])
    kept.add(*before)
    return kept.result(device)


def checked_run(net: object, run: Any, layout: Layout | None = None) -> Run:
    """What was trained with this network, on every device of the mesh, if any; its arrays are nobody else's."""
    if not isinstance(net, Layer):
        of_settings = callable(net) and not isinstance(net, type)
        hint = "Pass net(found.settings)." if of_settings else "Pass the network first."
        hint = arguments.adapter_hint(net) or hint
        got = type(net).__name__ if of_settings else arguments.describe_thing(net)
        raise TypeError(f"net: expected a Layer, got {got}. {hint}")
    if hasattr(run, "member"):
        raise TypeError("run: expected one run, got an ensemble. Call its own predict(x), or pass its member(0).")
    if isinstance(run, type) or not (hasattr(run, "params") and hasattr(run, "state")):
        hint = "Pass found.run." if hasattr(run, "run") else "Pass the whole of it, not its parameters alone."
        raise TypeError(f"run: expected what fit returned, got {arguments.describe_thing(run)}. {hint}")
    in_shape, columns = getattr(run, "in_shape", None), getattr(run, "columns", None)
    trees.check_fits_network(net, run.params, run.state, in_shape, "run")
    cut: list[str] = []
    params, state = arrays.owned_arrays("run", (run.params, run.state), cut)
    checks.LostDigits(cut).warn(np.float32)
    params, state = put_everywhere(layout, (params, state))
    nothing: Any = None
    return Run(params, state, nothing, nothing, in_shape, None, columns)


def _chunk_program(
    net: Layer,
    reduce: Callable[[Array], Tree] | None,
    combine: Callable[[Tree, Tree], Tree] | None,
    layout: Layout | None,
) -> Callable[..., Tree]:
    """(params, state, x, how many rows are real) -> what is kept of the outputs."""

    def of_chunk(params: Params, state: State, x: Array, count: Array) -> Tree:
        y = forward_layer(net, params, state, split_arrays(layout, x), None, False)[0]
        y = y if reduce is None else require_arrays("reduce", arguments.call("reduce", reduce, y))
        return keep_whole(layout, y if combine is None else combine_rows(combine, y, count))

    return of_chunk


def output_shapes(net: Layer, run: Run, x: Tree, layout: Layout | None = None) -> Tree:
    """The shapes and dtypes of the outputs for these rows."""
    return _specialise(net, run, x, None, None, layout)[1]


def _specialise(
    net: Layer,
    run: Run,
    x: Tree,
    reduce: Callable[[Array], Tree] | None,
    combine: Callable[[Tree, Tree], Tree] | None,
    layout: Layout | None,
) -> tuple[Callable[..., Tree], Tree]:
    parts, name = (net, reduce, combine), "predict" if layout is None else ("predict", layout)
    return canonical(name, parts, _chunk_program(*parts, layout), run.params, run.state, x, np.int32(0))


def with_true_rows(trace: Callable[..., T], count: int, *filled: Tree) -> T:
    """`trace(*filled)`; where the shapes do not fit, its error for the rows that the caller has passed."""
    try:
        return trace(*filled)
    except ShapeError:
        trace(*jax.tree.map(lambda array: array[:count], filled))
        raise


# ---- where the results go

FEW, SOON = 8, 1e-4  # rows whose outputs are there within these seconds


def _look_for(outputs: Tree) -> None:
    """Look whether outputs are there, again and again, but not for long.

    To sleep until they are takes longer than to compute a row: a thread that sleeps is woken some 30 µs late.
    """
    late = [a for a in jax.tree.leaves(outputs) if hasattr(a, "is_ready")]  # with jit off they may be NumPy's
    until = time.perf_counter() + SOON
    while not all(a.is_ready() for a in late) and time.perf_counter() < until:
        pass


LITTLE = 2**24  # bytes that are always there: to ask for the free memory takes longer than to predict one row


class _RowCollector:
    """One thing a row, in row order. Written in place where the number of rows is known."""

    def __init__(self, made: Tree, rows: int | None, size: int, device: bool):
        self.rows, self.done, self.on_device = rows, 0, device and rows is not None
        self.row_bytes = sum(a.size // size * a.dtype.itemsize for a in jax.tree.leaves(made))
        self.parts: Any = []
        if rows is None:
            return
        room = -(-rows // size) * size if device else rows
        _check_room(self.row_bytes * room, rows, device)
        if device:
            with allow_transfers():  # of the zero that it is filled with
                self.parts = jax.tree.map(lambda a: jnp.zeros((room, *a.shape[1:]), a.dtype), made)
        else:
            self.parts = jax.tree.map(lambda a: np.empty((room, *a.shape[1:]), a.dtype), made)

    def add(self, values: Tree, count: int) -> None:
        if self.rows is None:
            _check_room(self.row_bytes * self.done, self.done, False)  # once more as much, to put them together
            self.parts.append(jax.tree.map(lambda a: np.asarray(a)[:count], values))
        elif self.done + count > self.rows:
            raise ValueError(f"x: expected {self.rows} rows, got more. Give the stream its true number of rows.")
        elif self.on_device:
            self.parts = _write_rows(self.parts, values, jax.device_put(np.int32(self.done)))
        else:
            for kept, new in zip(jax.tree.leaves(self.parts), jax.tree.leaves(values), strict=True):
                kept[self.done : self.done + count] = np.asarray(new)[:count]
        self.done += count

    def result(self, device: bool) -> Tree:
        if self.rows is None:
            whole = jax.tree.map(lambda *parts: np.concatenate(parts), *self.parts)
            return jax.device_put(whole) if device else whole
        if all(len(a) == self.done for a in jax.tree.leaves(self.parts)):
            return self.parts
        with allow_transfers():  # of the place where it is cut
            return jax.tree.map(lambda a: a[: self.done], self.parts)


@functools.partial(jax.jit, donate_argnums=0)
def _write_rows(whole: Tree, part: Tree, at: Array) -> Tree:
    return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, at, 0), whole, part)


class _Reducer:
    """One thing of all rows."""

    def __init__(self, combine: Callable[[Tree, Tree], Tree]):
        self.combine, self.value = combine, None

    def add(self, value: Tree, count: int) -> None:
        self.value = value if self.value is None else self.combine(self.value, value)

    def result(self, device: bool) -> Tree:
        return self.value if device else jax.tree.map(np.asarray, self.value)


def _check_room(size: int, rows: int, device: bool) -> None:
    """Raise now what would end the process later."""
    if size < LITTLE:
        return
    free = free_bytes(jax.devices()[:1] if device else ())
    if free is not None and size > free:
        raise MemoryError(
            f"predict: expected a result that fits in memory, got {size / 1e9:.3g} GB for {rows} rows with "
            f"{free / 1e9:.3g} GB free. Keep less of it (reduce=), or write it to a file chunk by chunk."
        )
