"""A run in several processes: what each does alike between segments, where one process alone would do as it likes."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arguments import trees
from fnn.compilation.programs import Program
from fnn.data.reading import StreamRecord
from fnn.data.shares import Shares
from fnn.data.streams import Stream
from fnn.devices.peers import Peers
from fnn.devices.placement import put_as
from fnn.fitting.interrupts import Signals
from fnn.fitting.progress import OnSegment, must_end
from fnn.fitting.resume import VALUES, Checkpoints, describe_effort, describe_run
from fnn.fitting.segments import Segment, concatenate
from fnn.runs import History, TrainState
from fnn.training.config import TrainerConfig
from fnn.training.layout import Layout, state_shardings
from fnn.training.state import Start
from fnn.types import Tree


def check_alike(peers: Peers, config: TrainerConfig, about: Mapping[str, Any], **more: Any) -> None:
    """Raise a ValueError that names what differs between the processes: network, settings, data, versions, place."""
    layout = config.layout
    assert layout is not None
    devices = [f"{device.process_index}:{device.id}" for device in layout.mesh.devices.flat]
    more |= {"mesh": f"{layout.mesh.shape} of {devices}", "place": str(layout.place)}
    more |= {"jaxlib": jax.lib.__version__, "x64": jax.config.jax_enable_x64}  # type: ignore[attr-defined]
    peers.check_same({name: value for name, value in about.items() if name != VALUES} | more)


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
        return Checkpoints(None if without else folder, about, program.state, no_epochs, epochs, seconds, stream)

    if peers is None or config.layout is None:
        return make()
    own = stream is not None and stream.own
    check_alike(peers, config, about, epochs=epochs, checkpoint=folder is not None, own_rows=own)
    return _those_of_first(peers, make, config.layout, program.state, stream)


def _those_of_first(
    peers: Peers, make: Callable[[bool], Checkpoints], layout: Layout, like: TrainState, stream: Stream | None
) -> Checkpoints:
    """Those of process 0, which reads and writes them; the others are given what it has read.

    Args:
        peers: the processes.
        make: makes the checkpoints; of no folder, for True.
        layout: of the run.
        like: shapes and dtypes of its state.
        stream: what it reads, where that is a stream.
    """
    made: list[Checkpoints] = [] if peers.index == 0 else [make(True)]

    def read() -> str:
        made.append(make(False))
        first = made[0]
        kept = {} if first.record is None else first.record.to_arrays()
        return json.dumps(first.state and [len(first.history.loss), {name: a.shape for name, a in kept.items()}])

    found = json.loads(peers.from_first(read))
    checkpoints = made[0]
    if found is None:
        return checkpoints
    epochs, of_record = found
    state, history, record = checkpoints.state, checkpoints.history, checkpoints.record
    shapes = trees.without_keys(like), jax.tree.map(lambda a: jax.ShapeDtypeStruct((epochs,), a.dtype), history)
    arrays: Any
    if peers.index == 0:
        arrays = trees.without_keys(state), history, {} if record is None else record.to_arrays()
    else:
        arrays = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
        arrays = (*arrays, {name: np.zeros(shape, np.int64) for name, shape in of_record.items()})
    state, history, kept = broadcast_bits(peers, arrays)
    placed = put_as(state_shardings(layout, like), trees.with_keys(state, like))
    checkpoints.restored = checkpoints.restored._replace(state=placed, history=history)
    if stream is not None:
        checkpoints.record = record or StreamRecord(kept, stream.numbered)
    return checkpoints


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
    return Shares(peers.index, peers.count, peers.gather_words)


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
    """Write a checkpoint, by process 0; what is split comes together in it first."""
    whole = gather(layout, state)
    if peers.index == 0:
        checkpoints.write(whole, histories, last=True)
    else:
        histories[:] = [concatenate(histories)]


def gather(layout: Layout, state: TrainState) -> TrainState:
    """A state of which each process can read every leaf."""
    if layout.place is None:
        return state
    whole: TrainState = jax.jit(lambda s: s, out_shardings=layout.everywhere)(state)
    return whole


def bring_home(layout: Layout, state: TrainState) -> TrainState:
    """A state as arrays of this process, unless it is split over all."""
    if layout.place is not None:
        return state
    plain = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), trees.without_keys(state))
    home: TrainState = trees.with_keys(plain, state)
    return home


def end_run(
    peers: Peers, layout: Layout, checkpoints: Checkpoints, state: TrainState, histories: list[History]
) -> tuple[TrainState, History]:
    """The end of a run and its history, once the last checkpoint is written."""
    if peers.agree(1, checkpoints.folder is not None, False, 0).write:
        write(peers, layout, checkpoints, state, histories)
    home = bring_home(layout, state)
    peers.wait_for_all("end")
    return home, concatenate(histories)
