"""Many runs of one config, its members: what each has of its own, and a chunk of them as one compiled program."""

import functools
import threading
from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from fnn import arguments
from fnn.arguments.leaves import some_rows
from fnn.compilation.cache import programs
from fnn.compilation.frozen import Frozen, freeze
from fnn.compilation.programs import compile_in_parallel, compile_with, signature
from fnn.devices.memory import free_bytes, usual_devices
from fnn.devices.threads import never
from fnn.fitting.setup import plain_errors
from fnn.kernels.compiler_options import quick_compile_options, small_network_options
from fnn.kernels.effort import count_work, effort_options
from fnn.losses.reduction import dtype_of_sums
from fnn.runs import TrainState
from fnn.training.batches import padded_rows
from fnn.training.config import TrainerConfig, bind
from fnn.training.fused_loop import LONGEST_HISTORY, build_trainer
from fnn.training.state import dtype_of
from fnn.types import Data, Part, RowSelection


class Members(NamedTuple):
    """What each run has of its own, one per row, on the host."""

    keys: np.ndarray  # raw key data, (members, words)
    settings: dict[str, np.ndarray]  # name -> (members, ...)
    fold: np.ndarray  # which of the views each trains on, (members,); zeros where there are none

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, at: Any) -> "Members":
        """Those in these places."""
        members: Members = jax.tree.map(lambda a: a[at], self)
        return members


class Shared(NamedTuple):
    """The rows that all members share; and, a fold each, which of them it trains and validates on."""

    data: Data
    train: RowSelection | None = None  # leading axis: the folds; on the host
    validation: RowSelection | None = None

    def of(self, fold: np.ndarray) -> Data:
        """The data of members with these folds, or of one."""
        views = [jax.tree.map(lambda a: a[fold], view) for view in (self.train, self.validation)]
        train, validation = (
            part if part is None or view is None else part._replace(view=view)
            for part, view in zip(self.data, views, strict=True)
        )
        return Data(train, validation)  # type: ignore[arg-type]


class Chunk:
    """A chunk of so many members, traced; and its programs for one device, once they are compiled.

    Args:
        starting: what begins it.
        running: what goes on with it.
        arguments: of `starting`, shapes and dtypes: keys, settings, data.
        device: where it runs.
        options: for the compiler.
    """

    def __init__(
        self, starting: Frozen, running: Frozen, arguments: tuple[Any, ...], device: Any, options: dict[str, Any]
    ) -> None:
        self.bytes, self.work = running.bytes, count_work(running.jaxpr)
        self.seconds_per_step: dict[str, float | None] = {}  # by effort, of the last run
        self._starting, self._running, self._arguments = starting, running, arguments
        self._device, self._options = device, options
        self._programs: dict[str, Any] = {}
        self._lock = threading.Lock()

    def compile(self, effort: str, must_stop: Callable[[], bool] = never) -> tuple[Callable[..., Any], ...]:
        """`init(keys, settings, data)` and `run(state, data, epochs, steps)`, compiled the first time."""
        with self._lock:
            if effort not in self._programs:
                options = self._options | effort_options(effort, self.work)
                # what compiles longest first: the other is lowered in Python meanwhile
                lowerings: list[Callable[[], Any]] = [
                    lambda: functools.partial(compile_with, self._lower_running(), options),
                    lambda: functools.partial(compile_with, self._lower_starting(), quick_compile_options()),
                ]
                self._programs[effort] = tuple(reversed(compile_in_parallel(lowerings, must_stop)))
            programs: tuple[Callable[..., Any], ...] = self._programs[effort]
            return programs

    def _lower_starting(self) -> Any:
        return self._starting.jit(put=self._put).lower(*self._on_device(self._arguments))

    def _lower_running(self) -> Any:
        given = self._starting.shapes, self._arguments[2], NUMBER, NUMBER
        return self._running.jit(donates=True, put=self._put).lower(*self._on_device(given))

    def _put(self, held: Any) -> Any:
        return jax.device_put(held, self._device)

    def _on_device(self, tree: Any) -> Any:
        there = SingleDeviceSharding(self._device)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there), tree)


# ---- programs

NUMBER = jax.ShapeDtypeStruct((), np.int32)  # of epochs, of steps


def chunk_trainer(config: TrainerConfig, width: int, places: int, data: Data) -> tuple[Callable[..., Any], ...]:
    """`init(keys, settings, data)` and `run(state, data, epochs, steps)` of a chunk, pure: one run, or `vmap` of it.

    Args:
        config: the run.
        width: how many members; 1: no leading axis at all, the very program that `fit` has.
        places: epochs that the history has room for.
        data: the chunk's, or the shapes of it: views have a leading axis if the width is above 1.
    """
    pure = build_trainer(config, places)

    def init(keys: Any, settings: Any, data: Data) -> TrainState:
        return pure.init(jax.random.wrap_key_data(keys), data, settings)

    if width == 1:
        return init, pure.run
    axes = Data(*(part and Part(None, None, None, part.view and 0) for part in data))  # type: ignore[arg-type]
    return jax.vmap(init, (0, 0, axes)), jax.vmap(pure.run, (0, axes, None, None))


def trace_chunk(config: TrainerConfig, width: int, places: int, members: Members, data: Data, device: Any) -> Chunk:
    """A chunk for one device, traced once for each shape of members and data."""
    arguments = (members.keys, members.settings, data)
    key = (config, width, places, signature(arguments), device)
    make = functools.partial(_trace, config, width, places, arguments, device)
    return programs.get(key, make, lambda chunk: chunk.bytes)


def _trace(config: TrainerConfig, width: int, places: int, arguments: Any, device: Any) -> Chunk:
    init, run = chunk_trainer(config, width, places, arguments[2])
    structure, shapes = signature(arguments)
    arguments = jax.tree.unflatten(structure, shapes)
    with plain_errors():  # both, before either is compiled, so that what does not fit raises now
        starting = freeze(init, arguments)
        running = freeze(run, (starting.shapes, arguments[2], NUMBER, NUMBER))
    return Chunk(starting, running, arguments, device, small_network_options() if width > 1 else {})


# ---- how many at a time


# measured on two cores: 16 of 4-16-3 in one program take half the time of one after another, of 64-100-10 four fifths;
# of 784-128-10 there is nothing to gain
SMALL = 2_000_000  # weights × rows of a batch
# likewise of members with different activations: a program of several computes each activation for each member. With
# three, 16 of 4-16-3 take 0.57 of one after another, 4 to 8 of 30-32-3 0.9, of 64-64-3 1.18
SMALL_WITH_KINDS = 100_000
TINY = 4_000  # likewise; 256 of 2-3-2 in one program take a quarter less than 16, much of which was the host's
TINY_WIDTHS = (256, 128, 64, 32)
WIDTHS = (16, 12, 8, 6, 4, 3, 2, 1)  # members of such a program; few, so that studies of many sizes share programs


def member_cost(config: TrainerConfig, shared: Shared, members: Members, places: int) -> tuple[int, int, int, int]:
    """About how many bytes a member takes while it trains; how many numbers its parameters have; rows of a batch; bytes
    of its history per epoch. Found once for each identified config and shape of member and data.

    Its state twice, since a step makes a new one, what backward needs of a batch, its history.
    """
    one = members.take(0)
    data = shared.of(one.fold)
    key = ("member_cost", config, places, signature((one.keys, one.settings, data)))
    return programs.get(key, functools.partial(_trace_cost, config, places, one, data))


def _trace_cost(config: TrainerConfig, places: int, one: Members, data: Data) -> tuple[int, int, int, int]:
    state = jax.eval_shape(chunk_trainer(config, 1, places, data)[0], one.keys, one.settings, data)
    rows = min(config.batch_size or padded_rows(data.train), padded_rows(data.train))

    def cache(settings: Any, params: Any, layers: Any, key: Any, x: Any) -> Any:
        return bind(config, settings).net.forward(params, layers, x, key, True)

    x = some_rows(data.train.x, rows)
    kept = jax.eval_shape(cache, state.settings, state.params, state.state, arguments.key(0), x)
    figures = (1 + len(config.metrics)) * (1 if data.validation is None else 2)
    history = figures * jnp.dtype(dtype_of_sums(dtype_of(state.params))).itemsize
    weights = sum(a.size for a in jax.tree.leaves(state.params))
    return 2 * _bytes(state) + 2 * _bytes(kept) + 2 * history * places, weights, rows, history


def _bytes(tree: Any) -> int:
    return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(tree) if hasattr(a, "dtype"))


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
    kinds: int = 1,
) -> ExecutionPlan:
    """How to run so many members: as asked, or as is usually fastest, in chunks that fit the memory.

    Args:
        width: members of a program; None: by their size.
        devices: JAX devices, the same one twice for two threads; None: all there are, a CPU with a thread a core.
        memory: bytes to keep below; None: half of what is free.
        begun: the width of chunks that are there already, and must stay theirs.
        in_all: members of all groups, whose histories are kept; None: there is no other group.
        kinds: different activations that members have in one place.

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
    workers = workers[: min(in_all or len(members), max(1, (room or len(workers)) // (begun or 1)))]
    if width is None:
        width = default_width(len(members), len(workers), weights, rows, workers[0].platform, kinds)
    most = width if room is None or begun is not None else room // len(workers)
    width = width if width <= most else 1 << (most.bit_length() - 1)
    return ExecutionPlan(len(members), width, workers, kept + each * width * len(workers))


def history_capacity(epochs: int) -> int:
    """Epochs that a history has room for: a power of two, so that another number of them seldom compiles again."""
    return min(LONGEST_HISTORY, 1 << max(0, epochs - 1).bit_length())


def default_width(members: int, workers: int, weights: int, rows: int, platform: str, kinds: int = 1) -> int:
    """How many members to put into one program, where the caller does not say.

    On a CPU one after another, but for small networks, much of whose time is that of calling XLA's operations: many
    of them share a call. On other devices as many as there are: one alone leaves nearly all of it idle.
    """
    chunks = workers * (4 if platform == "cpu" else 1)  # several each, so that all end at about the same time
    share = 1 << (ceil(members / chunks) - 1).bit_length()  # a power of two
    if platform != "cpu":
        return min(share, 4096)
    if weights * rows > (SMALL if kinds == 1 else SMALL_WITH_KINDS):
        return 1

    def cost(width: int) -> int:
        """What the busiest worker has to do: chunks, the last of which is filled up, and a call costs a member's."""
        return ceil(ceil(members / width) / workers) * (width + 1)

    widths = (*TINY_WIDTHS, *WIDTHS) if weights * rows < TINY else WIDTHS
    return min((width for width in widths if width <= share), key=cost)
