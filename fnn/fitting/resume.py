"""Checkpoints of a run under way: what they hold, whether the same run is asked for again, and when to write one."""

import contextlib
import functools
import hashlib
import os
import re
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.arguments import trees
from fnn.compilation import cache
from fnn.compilation.components import components, uses_key
from fnn.compilation.fingerprints import fingerprint
from fnn.compilation.probes import alike, probe
from fnn.data.reading import StreamRecord
from fnn.data.streams import Stream
from fnn.data.warnings import warn
from fnn.fitting.segments import Pace, concatenate, position, segment_seconds
from fnn.runs import History, TrainState
from fnn.storage.checkpoints import WriteFailures, checkpoint_name, read_checkpoint, write_checkpoint
from fnn.storage.files import naming_damage, printable
from fnn.storage.pieces import Pieces
from fnn.training.config import TrainerConfig
from fnn.training.state import Start, dtype_of

FORMAT_NAME, FORMAT = "description", 2  # how a run is described: another format cannot be compared
PRINTED = ("net", "loss", "penalty", "gradient")  # to be read: that of a part which computes the same may differ
VERSIONS, PROGRAMS, VALUES = "versions", "programs", "values for fixed inputs"
NOISE, OF_STEP, OF_EPOCH = "noise of a full batch", "drawn with the key of its step", "drawn with the key of its epoch"
DEVICES = "devices"
READ = "read/"  # how the names of what was read of a stream begin
ANEW = "Restore it from a copy, or name another folder to start anew."
SHARE = 20  # times as long as a write took is the least until the next


# ---- what a run is


def describe_run(
    config: TrainerConfig, start: Start, stream: Stream | None = None, least: int | None = None
) -> dict[str, Any]:
    """What a run was asked for, as text and numbers: two of the same description give the same bits.

    This is the one place that says what identifies a run. The number of epochs is not part of it.

    - Functions (network, loss, gradient, penalty, optimizer, metrics) are identified by what they compute: the program
      that they are traced to, its numbers apart from it. That is `exact`, unless it calls Python on the host: then the
      program says nothing about the function called, and what the part gives for fixed inputs is compared as well; so
      too where another version of JAX traced it. Those values are a function here, called where they are needed.
    - Names as printed say little and are there to be read; they have no addresses.
    - Arrays (data, parameters and layer state to start from) are identified by their SHA-256: exact.
    - Settings and plain arguments are compared as they are: exact.
    - Where a full batch draws noise (dropout), with which key: an older fnn used another. `least` is how many rows it
      trains on at least, where these are a part of the data.
    - How many devices a mesh has changes the last bits alone: it is said, and not refused.
    - Of a stream the shape of a row and how a file is cut are here; `fnn.reading` compares the rows: exact for those
      that are read again.
    """
    key, data, settings, params, state = start
    functions = components(config, dict(settings), data.train, params)
    programs = {name: fingerprint(f.call, *f.arguments, lift=True, spare=f.spare) for name, f in functions.items()}
    named = {"net": config.net, "loss": config.loss, "penalty": config.penalty}
    named |= {"gradient": getattr(config.gradient, "__qualname__", type(config.gradient).__name__)}
    about: dict[str, Any] = {FORMAT_NAME: FORMAT} | {name: _text(thing) for name, thing in named.items()}
    about["metrics"] = [name for name, _ in config.metrics]
    plain = ("batch_size", "shuffle", "reduction", "monitor", "mode")
    about |= {name: getattr(config, name) for name in plain}
    about |= {f"settings[{name!r}]": float(value) for name, value in settings.items()}
    about |= {"key": np.asarray(jax.random.key_data(key)).tolist(), "params": digest(params), "state": digest(state)}
    for name, part in data._asdict().items():
        fields = zip(("x", "t", "weight"), part, strict=False) if part is not None else ()
        of_rows = _shape_text if stream is not None and name == "train" else digest
        about |= {f"{name} {field}": of_rows(array) for field, array in fields}
    if stream is not None:  # the name of a function says nothing
        about["stream"] = "chunks" if stream.chunk_rows is None else _text(stream)
        about["stream's chunk_rows"] = stream.chunk_rows
    about[PROGRAMS] = {
        name: {"program": of.digest[:16], "numbers": [float(n) for n in of.numbers], "exact": of.exact}
        for name, of in programs.items()
    }
    rows = len(data.train.x) if least is None else least
    full = stream is None and (config.batch_size is None or config.batch_size >= rows)
    about |= {NOISE: OF_STEP} if full and uses_key(functions["gradient"]) else {}
    made = functions["optimizer.init"].arguments[1]
    values = functools.cache(lambda: probe(config, tuple(settings), data.train, made))
    known = VALUES, str(about[PROGRAMS])
    exact = all(of.exact for of in programs.values())
    about[VALUES] = (lambda: cache.programs.get(known, values)) if exact else values
    about |= {} if config.layout is None else {DEVICES: config.layout.mesh.size}
    return about | {"dtype": str(dtype_of(made)), VERSIONS: versions()}


def _shape_text(array: Any) -> str:
    return f"{array.dtype}{array.shape[1:]}"


def _text(thing: Any) -> str:
    return re.sub(r"0x[0-9a-fA-F]+", "0x", str(thing))


def versions() -> dict[str, str]:
    """What the bits may depend on, that nobody asks for."""
    return {"fnn": version("fnn"), "jax": jax.__version__, "device": jax.default_backend()}


def digest(tree: Any) -> str | None:
    """SHA-256 of arrays, with their shapes and dtypes."""
    if tree is None:
        return None
    made = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(trees.without_keys(tree)):
        array: Any = np.ascontiguousarray(leaf)
        made.update(f"{array.dtype}{array.shape}".encode())
        made.update(array.reshape(-1).view(np.uint8))  # of bfloat16 NumPy gives out no buffer
    return made.hexdigest()[:16]


def describe_effort(effort: str) -> dict[str, str]:
    """How hard a run was compiled, which may change its last bits; "high" where nothing is said of it."""
    return {} if effort in ("auto", "high") else {"compile_effort": effort}


def check_same(folder: str, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Raise a ValueError that lists everything in which this run is not the one of the checkpoint.

    A description that has not the parts that `describe_run` makes is a DamagedFile.
    """
    _check_description(folder, expected)
    if expected.get(FORMAT_NAME) != FORMAT:
        raise ValueError(
            f"checkpoint: expected one that describes its run as this version of fnn does, got that of another in "
            f"{folder}. Go on with the version that wrote it, or name another folder to start anew."
        )
    expected = {NOISE: OF_EPOCH, **expected} if NOISE in got else expected
    others = expected[VERSIONS] != got[VERSIONS]
    if others:
        warn(
            f"checkpoint: expected {_version_text(expected[VERSIONS])} as in {folder}, "
            f"got {_version_text(got[VERSIONS])}. "
            "Go on if the last bits need not be those of a run without interruption.",
        )
    if expected.get(DEVICES, 1) != got.get(DEVICES, 1):
        warn(
            f"checkpoint: expected a mesh of {expected.get(DEVICES, 1)} devices as in {folder}, "
            f"got {got.get(DEVICES, 1)}. Go on if the last bits need not be those of a run without interruption.",
        )
    changed, doubtful = _other_programs(expected[PROGRAMS], got[PROGRAMS], others)
    lines = []
    for name in [*expected, *(got.keys() - expected.keys())]:
        a, b = expected.get(name, "none"), got.get(name, "none")
        if name in PRINTED and name not in changed and (name not in doubtful or "0x" in f"{a}{b}"):
            continue  # a function of another name that computes the same
        if name not in (VERSIONS, PROGRAMS, VALUES, DEVICES) and a != b:
            lines.append(f"  {name}: expected {printable(a)}, got {printable(b)}")
    lines += changed.values()
    if doubtful:
        lines += _other_values(folder, sorted(doubtful), expected, got)
    if lines:
        raise ValueError(
            "\n".join([f"checkpoint: expected the run that {folder} is of, got one that differs:", *lines])
            + "\nPass the same arguments as before, or name another folder to start anew."
        )


def _other_programs(expected: Any, got: Any, others: bool) -> tuple[dict[str, str], set[str]]:
    """The parts that compute something else, with what to say; and those of which the programs do not say it."""
    changed, doubtful = {}, set()
    none = {"program": "none", "numbers": [], "exact": True}
    for name in [*expected, *(got.keys() - expected.keys())]:
        a, b = expected.get(name, none), got.get(name, none)
        if a["program"] == b["program"] and a["numbers"] != b["numbers"]:
            of, by = _short(a["numbers"], 9), _short(b["numbers"], 9)
            changed[name] = f"  {name} (what it computes): expected the numbers {of}, got {by}"
        elif a["program"] != b["program"] and (not others or a is none or b is none):
            changed[name] = f"  {name} (what it computes): expected {a['program']}, got {b['program']}"
        elif a["program"] != b["program"] or not (a["exact"] and b["exact"]):
            doubtful.add("optimizer" if name.startswith("optimizer.") else name)
    return changed, doubtful


def _other_values(folder: str, names: list[str], expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """The parts that give other values for fixed inputs."""
    lines, unknown, here = [], [], got[VALUES]()
    for name in names:
        a, b = expected[VALUES].get(name), here.get(name)
        if a is None or b is None:
            unknown.append(name)
        elif not alike(a, b, got["dtype"]):
            lines.append(f"  {name} (what it gives for fixed inputs): expected {_short(a)}, got {_short(b)}")
    if unknown and not lines:
        warn(
            f"checkpoint: expected the {', '.join(unknown)} of {folder}, got what could not be compared with it. "
            "Go on if it is the same.",
        )
    return lines


def _short(values: list[float], digits: int = 6) -> str:
    return f"[{', '.join(f'{value:.{digits}g}' for value in values[:8])}{', …' if len(values) > 8 else ''}]"


def _version_text(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


# ---- reading and writing


class Restored(NamedTuple):
    """A run to resume: its state (None if there is none), its history so far, the number of the next checkpoint."""

    state: TrainState | None
    history: History
    number: int
    read: Any = None  # `StreamRecord.to_arrays()` of a stream
    values: Any = None  # of the parts of the run, if they are known to be those of the checkpoint
    pieces: Pieces | None = None  # of what is shapes in the state, where the caller reads those


class Checkpoints:
    """The checkpoints of a run: the state to resume from, if any, and the writer of new ones. No folder: neither.

    A checkpoint is written not more often than every so many seconds, and not for more than a twentieth of the time;
    the last one always. A write that fails (the disk is full) warns once, and the run goes on.

    Args:
        folder: made when the first is written; whoever calls this holds its lock. None: nothing is kept.
        about: `describe_run` of this run.
        like: its state, or the shapes and dtypes of it.
        history: its history, of no epochs.
        epochs: how many it is to have.
        seconds: between checkpoints, at least.
        stream: what it reads, where that is a stream.
        failures: of all chunks, where this is of one of them.
        whole: whether arrays in pieces are put together here.

    Raises:
        ValueError: the folder is of another run; lists what differs.
        DamagedFile: there are checkpoints, all of them damaged; or one says what cannot be.
        OSError: the folder cannot be read.
    """

    def __init__(
        self,
        folder: str | None,
        about: Mapping[str, Any],
        like: TrainState,
        history: History,
        epochs: int,
        seconds: float,
        stream: Stream | None = None,
        failures: WriteFailures | None = None,
        whole: bool = True,
    ) -> None:
        self.folder, self.about, self.seconds = folder, about, seconds
        self.shared: str | None = None  # where all of several processes write pieces of their state
        self.pace = Pace(segment_seconds(None if folder is None else seconds))
        self.record: StreamRecord | None = None
        self.restored = Restored(None, history, 0)
        self.failures = failures or WriteFailures()
        self._due = time.monotonic() + seconds
        if folder is not None:
            self.restored = _restore(folder, about, like, history, whole)
            done = self.history.loss.shape[-1]
            if done > epochs:
                raise ValueError(
                    f"checkpoint: expected at least {done} epochs, which {folder} has behind it, got epochs={epochs}. "
                    "Ask for as many, or name another folder to start anew."
                )
            self.record = None if stream is None else _read_before(folder, self.restored, stream)
        self._number = self.restored.number
        self._written = None if self.state is None else position(self.state)

    @property
    def state(self) -> TrainState | None:
        """The state to resume from."""
        return self.restored.state

    @property
    def history(self) -> History:
        """The history up to there."""
        return self.restored.history

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return self.folder is not None and time.monotonic() >= self._due

    def holds(self, state: TrainState) -> bool:
        """Whether this state is in the folder."""
        return self.folder is not None and position(state) == self._written

    def write(self, state: TrainState, histories: list[History], last: bool = False, split: Any = None) -> None:
        """Write a checkpoint if it is time; the histories become one. `split()`: the files of what is shapes in it."""
        if self.folder is None or not (last or self.due) or position(state) == self._written:
            return
        begin = time.monotonic()
        histories[:] = [concatenate(histories)]
        tree = {"state": trees.without_keys(state), "history": histories[0]}
        tree |= {} if self.record is None else {READ[:-1]: self.record.to_arrays()}
        try:
            values = self.restored.values or self.about[VALUES]()
            write_checkpoint(self.folder, self._number, tree, {**self.about, VALUES: values}, split and split())
            self._number, self._written = self._number + 1, position(state)
        except (OSError, MemoryError) as error:
            self.failures.warn(error)
        self._due = time.monotonic() + max(self.seconds, SHARE * (time.monotonic() - begin))


def _restore(folder: str, about: Mapping[str, Any], like: TrainState, history: History, whole: bool) -> Restored:
    """What is in a folder, if it is of this run."""
    checkpoint = read_checkpoint(folder, whole)
    if checkpoint is None:
        return Restored(None, history, 0)
    for text in checkpoint.damaged:
        warn(f"checkpoint: {text} The one before it is used.")
    path = os.path.join(folder, checkpoint_name(checkpoint.number))
    expected = checkpoint.description
    check_same(folder, expected, about)
    same_versions = expected[VERSIONS] == about[VERSIONS]
    with naming_damage(path, "the state of this run", ANEW) if same_versions else contextlib.nullcontext():
        leaves = {name: leaf for name, leaf in checkpoint.leaves.items() if not name.startswith(READ)}
        read = {name.removeprefix(READ): checkpoint.leaves[name] for name in checkpoint.leaves.keys() - leaves.keys()}
        epochs = leaves["history/loss"].shape[-1]
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*a.shape[:-1], epochs), a.dtype), history)
        tree = trees.unflatten_named(trees.without_keys({"state": like, "history": shapes}), leaves, folder)
        _check_epochs(tree["state"], epochs)
    state = trees.with_keys(tree["state"], like)
    values = expected[VALUES] if same_versions else None
    return Restored(
        state, jax.tree.map(np.asarray, tree["history"]), checkpoint.number + 1, read, values, checkpoint.pieces
    )


def _check_description(path: str, about: Any) -> None:
    """Raise a DamagedFile where a description of this format has not the parts that `describe_run` makes."""
    with naming_damage(path, "the description of a run", ANEW):
        if about.get(FORMAT_NAME) != FORMAT:  # `check_same` says so
            return
        numbers = [*about[VALUES].values(), *(of["numbers"] for of in about[PROGRAMS].values())]
        texts = [*about[VERSIONS].values(), *(of["program"] for of in about[PROGRAMS].values())]
        exact = [of["exact"] for of in about[PROGRAMS].values()]
        kinds = ((str, texts), (bool, exact), (list, numbers), ((int, float), [n for some in numbers for n in some]))
        for kind, things in kinds:
            if not all(isinstance(thing, kind) for thing in things):
                raise TypeError(f"something else than {kind}")


def _check_epochs(state: TrainState, epochs: int) -> None:
    """Raise a ValueError where the counters of a state cannot be those of a run with so many epochs of history."""
    epoch, step, best = (np.asarray(a) for a in (state.epoch, state.step, state.best_epoch))
    if epoch.max() != epochs or epoch.min() < 0 or step.min() < 0 or best.min() < -1 or best.max() >= max(epochs, 1):
        raise ValueError(f"epoch {epoch.max()}, step {step.max()} and best epoch {best.max()} of {epochs}")


def _read_before(path: str, restored: Restored, stream: Stream) -> StreamRecord:
    """What the run has read of its stream."""
    with naming_damage(path, "what was read of a stream", ANEW):
        record = StreamRecord(restored.read, stream.numbered)
        if len(record.whole) != restored.history.loss.shape[-1] or not 0 <= (record.room or 0) < 2**27:
            raise ValueError(f"{len(record.whole)} epochs in buffers of {record.room} rows")
    return record
