"""A run in several processes: what each does alike between segments, where one process alone would do as it likes."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments import trees
from fnn.compilation.programs import Program
from fnn.data.reading import BufferRecord, StreamRecord
from fnn.data.shares import Shares
from fnn.data.streams import Stream
from fnn.devices.peers import Peers
from fnn.devices.placement import put_as, whole_on_host
from fnn.fitting.interrupts import Signals
from fnn.fitting.progress import OnSegment, must_end
from fnn.fitting.resume import PROGRAMS, VALUES, Checkpoints, describe_effort, describe_run
from fnn.fitting.segments import Segment, concatenate
from fnn.runs import History, Run, TrainState
from fnn.storage.folders import open_folder
from fnn.storage.pieces import (
    Piece,
    Pieces,
    Region,
    check_visible,
    describe,
    fill,
    from_description,
    read_pieces,
    region_of,
    remove_others,
    write_pieces,
)
from fnn.training.config import TrainerConfig
from fnn.training.layout import Layout, state_shardings
from fnn.training.state import Start
from fnn.types import Shape, Tree


@contextlib.contextmanager
def open_by_first(peers: Peers | None, folder: str | None) -> Iterator[None]:
    """Keep a folder for this run; of several processes process 0 does, and where it cannot, all raise its error."""
    with contextlib.ExitStack() as stack:

        def open_one() -> str:
            stack.enter_context(open_folder(folder, of_study=False))  # before what takes time
            return ""

        open_one() if peers is None else peers.from_first(open_one)
        yield


def check_alike(peers: Peers, config: TrainerConfig, about: Mapping[str, Any], **more: Any) -> None:
    """Raise a ValueError that names what differs between the processes: network, settings, data, versions, place."""
    layout = config.layout
    assert layout is not None
    devices = [f"{device.process_index}:{device.id}" for device in layout.mesh.devices.flat]
    more |= {"mesh": f"{layout.mesh.shape} of {devices}", "place": str(layout.place)}
    more |= {"jaxlib": jax.lib.__version__, "x64": jax.config.jax_enable_x64}  # type: ignore[attr-defined]
    more |= {f"{name} (what it computes)": of for name, of in about[PROGRAMS].items()}
    peers.check_same({name: value for name, value in about.items() if name not in (VALUES, PROGRAMS)} | more)


def open_checkpoints(
    peers: Peers | None,
    config: TrainerConfig,
    request: tuple[TrainerConfig, Start],
    program: Program,
    effort: str,
    folder: str | None,
    epochs: int,
    seconds: float,
    stream: Stream | None,
) -> Checkpoints:
    """The checkpoints of a run; of several processes, which compare their runs first, those of process 0."""
    about: dict[str, Any] = {}
    if folder is not None or peers is not None:
        about = describe_run(*request, stream) | describe_effort(effort)
    no_epochs = jax.tree.map(lambda a: np.zeros(0, a.dtype), program.history)

    def make(without: bool = False) -> Checkpoints:
        of_none = None if without else folder
        return Checkpoints(of_none, about, program.state, no_epochs, epochs, seconds, stream, whole=peers is None)

    if peers is None or config.layout is None:
        return make()
    own = stream is not None and stream.own
    check_alike(peers, config, about, epochs=epochs, checkpoint=folder is not None, own_rows=own)
    checkpoints = _those_of_first(peers, make, config.layout, program.state, stream, folder)
    checkpoints.shared = None if config.layout.place is None else folder
    return checkpoints


def _those_of_first(
    peers: Peers,
    make: Callable[[bool], Checkpoints],
    layout: Layout,
    like: TrainState,
    stream: Stream | None,
    folder: str | None,
) -> Checkpoints:
    """Those of process 0, which reads and writes them; the others are given what it has read.

    Args:
        peers: the processes.
        make: makes the checkpoints; of no folder, for True.
        layout: of the run.
        like: shapes and dtypes of its state.
        stream: what it reads, where that is a stream.
        folder: where each process reads what of a state in pieces is its own.
    """
    made: list[Checkpoints] = [] if peers.index == 0 else [make(True)]

    def read() -> str:
        made.append(make(False))
        state, history, _, _, _, split = made[0].restored
        shapes = {name: a.shape for name, a in _record_arrays(made[0]).items()}
        return json.dumps(state and [len(history.loss), shapes, split and describe(split)], default=str)

    found = json.loads(peers.from_first(read))
    checkpoints = made[0]
    if found is None:
        return checkpoints
    epochs, of_record, split = found
    pieces, names = from_description(split), trees.flatten_named(trees.without_keys(like), "state")
    kept = {name: a for name, a in names.items() if pieces is None or name not in pieces.shapes}
    history: Any = jax.tree.map(lambda a: np.zeros(epochs, a.dtype), checkpoints.history)
    arrays: Any = {name: np.zeros(a.shape, a.dtype) for name, a in kept.items()}, history
    arrays = (*arrays, {name: np.zeros(shape, np.int64) for name, shape in of_record.items()})
    if peers.index == 0:
        own = trees.flatten_named(trees.without_keys(checkpoints.state), "state")
        arrays = {name: own[name] for name in kept}, checkpoints.history, _record_arrays(checkpoints)
    leaves, history, record = broadcast_bits(peers, arrays)
    where = dict(zip(names, jax.tree.leaves(state_shardings(layout, like)), strict=True))
    placed = put_as({name: where[name] for name in kept}, leaves)
    if pieces is not None and folder is not None:
        placed |= _read_own(folder, pieces, where)
    state = jax.tree.unflatten(jax.tree.structure(like), [placed[name] for name in names])
    checkpoints.restored = checkpoints.restored._replace(state=trees.with_keys(state, like), history=history)
    if stream is not None and checkpoints.record is None:
        checkpoints.record = StreamRecord(record, stream.numbered)
    return checkpoints


def _record_arrays(checkpoints: Checkpoints) -> dict[str, np.ndarray]:
    return {} if checkpoints.record is None else checkpoints.record.to_arrays()


def _read_own(folder: str, pieces: Pieces, where: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays in pieces, placed so; of their numbers those that belong to this process."""
    own: dict[str, dict[Region, np.ndarray]] = {}
    for name, of in pieces.shapes.items():
        indices = where[name].addressable_devices_indices_map(of.shape).values()
        regions = {region_of(at, of.shape) for at in indices}
        own[name] = {region: np.empty([b - a for a, b in region], of.dtype) for region in regions}
    fill(own, read_pieces(folder, pieces))
    placed = {}
    for name, of in pieces.shapes.items():
        read = functools.partial(_region, own[name], of.shape)
        placed[name] = jax.make_array_from_callback(of.shape, where[name], read)
    return placed


def _region(regions: Mapping[Region, np.ndarray], shape: Shape, index: Any) -> np.ndarray:
    return regions[region_of(index, shape)]


def shares_of(peers: Peers | None, config: TrainerConfig, stream: Stream | None) -> Shares | None:
    """The processes that read a stream together, each its own rows; None where each has all rows."""
    if peers is None or config.layout is None or stream is None or not stream.own:
        return None
    mesh, size = config.layout.mesh, config.batch_size or 0
    owners = [{device.process_index for device in row.flat} for row in mesh.devices.reshape(len(mesh.devices), -1)]
    places = [at for of in owners for at in of]
    if any(len(of) > 1 for of in owners) or places != sorted(places) or len(set(map(places.count, places))) > 1:
        raise ValueError(
            f"mesh: expected the first axis to go through the processes one after the other, each with as many places, "
            f"got places of the processes {places}. Pass jax.make_mesh((jax.device_count(),), ('data',))."
        )
    if size % len(owners):
        raise ValueError(
            f"batch_size: expected a multiple of {len(owners)}, since each process reads its own rows, got {size}. "
            f"Write {-(-size // len(owners)) * len(owners)}."
        )
    return Shares(peers.index, peers.count, functools.partial(peers.gather_words, about="rows"))


def same_rows(peers: Peers | None, shares: Shares | None) -> Callable[[BufferRecord], BufferRecord]:
    """What compares a buffer of a stream between the processes, where each reads all rows; ValueError: they differ."""

    def same(mine: BufferRecord) -> BufferRecord:
        if peers is None or shares is not None:
            return mine
        of_all = [json.loads(word) for word in peers.gather_words(json.dumps(mine), "rows")]
        others = [index for index, of in enumerate(of_all) if of != of_all[0]]
        if others:
            raise ValueError(
                f"data: expected a stream of the same rows on all {peers.count} processes, got others on process "
                f"{', '.join(map(str, others))} than on 0 in epoch {mine.epoch} (counted from 0). "
                "Pass fnn.own_rows(stream) if each process reads its own rows."
            )
        return mine

    return same


def same_head(peers: Peers | None, shares: Shares | None, start: Start) -> Start:
    """The start with the first row of process 0, which stands for all, where each process has its own."""
    if peers is None or shares is None:
        return start
    return start._replace(data=start.data._replace(train=broadcast_bits(peers, start.data.train)))


def broadcast_bits(peers: Peers, tree: Tree) -> Tree:
    """The arrays of process 0, bit by bit: a sum, which a broadcast is, would make 0 of -0."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf) for leaf in leaves]
    sent = peers.broadcast([np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in arrays])
    got = [np.asarray(b).view(a.dtype).reshape(a.shape) for a, b in zip(arrays, sent, strict=True)]
    return jax.tree.unflatten(structure, got)


def end_segment(
    peers: Peers | None,
    config: TrainerConfig,
    checkpoints: Checkpoints,
    segment: Segment,
    histories: list[History],
    on_segment: OnSegment | None,
    epochs: int,
    signals: Signals,
) -> bool:
    """Write a checkpoint if it is time, on all processes alike; whether the run ends with this segment."""
    if peers is None or config.layout is None:
        checkpoints.write(segment.state, histories)
        return must_end(on_segment, segment, epochs) or signals.heard()
    end, layout = must_end(on_segment, segment, epochs), config.layout
    pace = checkpoints.pace
    peers.measure(pace.seconds)
    number = max(map(int, signals.numbers), default=0)
    agreed = peers.agree(pace.own_steps, checkpoints.due, end, number)
    pace.agreed = agreed.steps
    if agreed.write:
        write(peers, layout, checkpoints, segment.state, histories)
    if agreed.signal and not signals.numbers and agreed.signal in signals.before:
        signals.note(agreed.signal, None)  # this process ends as the one does that has got it
    return agreed.end or bool(agreed.signal)


def write(peers: Peers, layout: Layout, checkpoints: Checkpoints, state: TrainState, histories: list[History]) -> None:
    """Write a checkpoint, by process 0; of what is split each process writes its pieces first."""
    if layout.place is None or checkpoints.shared is None:
        _write_by_first(peers, checkpoints, state, histories)
        return
    folder, leaves = checkpoints.shared, trees.flatten_named(trees.without_keys(state), "state")
    split = {name: a for name, a in leaves.items() if not a.is_fully_replicated}
    try:
        word = list(write_pieces(folder, peers.index, _own_pieces(split)))
    except (OSError, MemoryError) as error:
        word = [f"{error} (On process {peers.index} of {peers.count}.)"]
    words = [json.loads(word) for word in peers.gather_words(json.dumps(word), "pieces")]

    def files() -> dict[str, str]:
        for word in words:
            if len(word) == 1:
                raise OSError(word[0])
        check_visible(folder, dict(words))
        return dict(words)

    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) if name in split else a for name, a in leaves.items()]
    without: TrainState = trees.with_keys(jax.tree.unflatten(jax.tree.structure(state), shapes), state)
    _write_by_first(peers, checkpoints, without, histories, files)
    if checkpoints.holds(state):
        before = checkpoints.restored.pieces
        checkpoints.restored = checkpoints.restored._replace(pieces=Pieces(files(), {}))
        remove_others(folder, [*files(), *(() if before is None else before.files)])


def _write_by_first(
    peers: Peers, checkpoints: Checkpoints, state: TrainState, histories: list[History], split: Any = None
) -> None:
    if peers.index == 0:
        checkpoints.write(state, histories, last=True, split=split)
    else:
        histories[:] = [concatenate(histories)]


def _own_pieces(split: Mapping[str, Any]) -> Iterator[Piece]:
    """The parts of arrays that this process writes: each number is in one part of one process."""
    for name, a in split.items():
        for shard in a.addressable_shards:
            if shard.replica_id == 0:
                yield Piece(name, region_of(shard.index, a.shape), np.asarray(shard.data))


def bring_home(layout: Layout, state: TrainState) -> TrainState:
    """A state as arrays of this process, unless it is split over all."""
    if layout.place is not None:
        return state
    plain = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), trees.without_keys(state))
    home: TrainState = trees.with_keys(plain, state)
    return home


def with_own_params(peers: Peers | None, layout: Layout | None, run: Run) -> Run:
    """A run whose parameters this process has whole, in the host's memory where they are split over all processes."""
    if peers is None or layout is None or layout.place is None:
        return run

    def bring(a: Any) -> Any:
        return jnp.asarray(np.asarray(a)) if a.is_fully_replicated else whole_on_host(layout, a)

    params, state = jax.tree.map(bring, (run.params, run.state))
    return run._replace(params=params, state=state)


def end_run(
    peers: Peers, layout: Layout, checkpoints: Checkpoints, state: TrainState, histories: list[History]
) -> tuple[TrainState, History]:
    """The end of a run and its history, once the last checkpoint is written."""
    if peers.agree(1, checkpoints.folder is not None and not checkpoints.holds(state), False, 0).write:
        write(peers, layout, checkpoints, state, histories)
    home = bring_home(layout, state)
    peers.wait_for_all("end")
    return home, concatenate(histories)
