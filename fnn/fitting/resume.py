"""Checkpoints of a run under way: what they hold, whether the same run is asked for again, and when to write one."""

import functools
import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import trees
from fnn.compilation import cache
from fnn.compilation.components import components
from fnn.compilation.fingerprints import fingerprint
from fnn.compilation.probes import alike, probe
from fnn.data.reading import StreamRecord
from fnn.fitting.segments import concatenate, position
from fnn.storage import files
from fnn.storage.checkpoints import read_checkpoint, write_checkpoint
from fnn.training.config import TrainerConfig
from fnn.training.state import dtype_of
from fnn.types import Data, History, TrainState

FORMAT_NAME, FORMAT = "description", 2  # how a run is described: another format cannot be compared
PRINTED = ("net", "loss", "penalty", "gradient")  # to be read: that of a part which computes the same may differ
VERSIONS, PROGRAMS, VALUES = "versions", "programs", "values for fixed inputs"
READ = "read/"  # how the names of what was read of a stream begin
SHARE = 20  # times as long as a write took is the least until the next


# ---- what a run is


def describe_run(
    config: TrainerConfig,
    settings: Mapping[str, Any],
    data: Data,
    key: Any,
    params: Any,
    state: Any,
    stream: Any = None,
) -> dict[str, Any]:
    """What a run was asked for, as text and numbers: two of the same description give the same bits.

    This is the one place that says what identifies a run. The number of epochs is not part of it.

    - Functions (network, loss, gradient, penalty, optimizer, metrics) are told apart by what they compute: the program
      that they are traced to, its numbers apart from it. That is `exact`, unless it calls Python on the host: then the
      program says nothing about the function called, and what the part gives for fixed inputs is compared as well; so
      too where another version of JAX traced it. Those values are a function here, called where they are needed.
    - Names as printed say little and are there to be read; they have no addresses.
    - Arrays (data, parameters and layer state to start from) are told apart by their SHA-256: exact.
    - Settings and plain arguments are compared as they are: exact.
    - Of a stream the shape of a row and how a file is cut are here; `fnn.reading` compares the rows: exact for those
      that are read again.
    """
    functions = components(config, dict(settings), data.train, params)
    programs = {name: fingerprint(f.call, *f.arguments, lift=True) for name, f in functions.items()}
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
    made = functions["optimizer.init"].arguments[1]
    values = functools.cache(lambda: probe(config, tuple(settings), data.train, made))
    known = VALUES, str(about[PROGRAMS])
    exact = all(of.exact for of in programs.values())
    about[VALUES] = (lambda: cache.programs.get(known, values)) if exact else values
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


def check_same(folder: str, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Raise a ValueError that lists everything in which this run is not the one of the checkpoint."""
    if expected.get(FORMAT_NAME) != FORMAT:
        raise ValueError(
            f"checkpoint: expected one that describes its run as this version of fnn does, got that of another in "
            f"{folder}. Go on with the version that wrote it, or name another folder to start anew."
        )
    others = expected[VERSIONS] != got[VERSIONS]
    if others:
        warnings.warn(
            f"checkpoint: expected {_version_text(expected[VERSIONS])} as in {folder}, "
            f"got {_version_text(got[VERSIONS])}. "
            "Go on if the last bits need not be those of a run without interruption.",
            stacklevel=5,
        )
    changed, doubtful = _other_programs(expected[PROGRAMS], got[PROGRAMS], others)
    lines = []
    for name in [*expected, *(got.keys() - expected.keys())]:
        a, b = expected.get(name, "none"), got.get(name, "none")
        if name in PRINTED and name not in changed and (name not in doubtful or "0x" in f"{a}{b}"):
            continue  # a function of another name that computes the same
        if name not in (VERSIONS, PROGRAMS, VALUES) and a != b:
            lines.append(f"  {name}: expected {a}, got {b}")
    lines += changed.values()
    if doubtful:
        lines += _other_values(folder, sorted(doubtful), expected, got)
    if lines:
        raise ValueError(
            "\n".join([f"checkpoint: expected the run that {folder} is of, got one that differs:", *lines])
            + "\nDo ask for the same as before, or name another folder to start anew."
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
        warnings.warn(
            f"checkpoint: expected the {', '.join(unknown)} of {folder}, got what could not be compared with it. "
            "Go on if it is the same.",
            stacklevel=6,
        )
    return lines


def _short(values: list[float], digits: int = 6) -> str:
    return f"[{', '.join(f'{value:.{digits}g}' for value in values[:8])}{', …' if len(values) > 8 else ''}]"


def _version_text(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


# ---- reading and writing


class Found(NamedTuple):
    """A run to go on with: its state (None if there is none), its history so far, the number of the next checkpoint."""

    state: TrainState | None
    history: History
    number: int
    read: Any = None  # `Reading.kept()` of a stream
    values: Any = None  # of the parts of the run, if they are known to be those of the checkpoint


def find(folder: str, about: Mapping[str, Any], like: TrainState, history: History) -> Found:
    """What is in a folder, if it is of this run.

    Args:
        folder: made if it is not there.
        about: `describe_run` of this run.
        like: its state, or the shapes and dtypes of it.
        history: its history, of no epochs.

    Raises:
        ValueError: it is of another run; lists what differs.
        DamagedFile: there are checkpoints, all of them damaged.
        OSError: the folder cannot be made or read.
    """
    files.import_safetensors()
    _make(folder)
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        return Found(None, history, 0)
    for text in checkpoint.damaged:
        warnings.warn(f"checkpoint: {text} The one before it is used.", stacklevel=4)
    check_same(folder, checkpoint.description, about)
    shape = checkpoint.leaves["history/loss"].shape
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(shape, a.dtype), history)
    leaves = {name: leaf for name, leaf in checkpoint.leaves.items() if not name.startswith(READ)}
    read = {name.removeprefix(READ): checkpoint.leaves[name] for name in checkpoint.leaves.keys() - leaves.keys()}
    tree = trees.unflatten_named(trees.without_keys({"state": like, "history": shapes}), leaves, folder)
    state = trees.with_keys(tree["state"], like)
    values = checkpoint.description[VALUES] if checkpoint.description[VERSIONS] == about[VERSIONS] else None
    return Found(state, jax.tree.map(np.asarray, tree["history"]), checkpoint.number + 1, read, values)


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        got = os.strerror(error.errno or 0)
        raise OSError(
            error.errno, f"checkpoint: expected a folder, got {got!r} for {folder}. Name one that can be made."
        ) from None


def writer(
    folder: str, about: dict[str, Any], found: Found, seconds: float, reading: StreamRecord | None = None
) -> Callable[..., None]:
    """A function `write(state, pieces, last=False)`, which does so if it is time; `pieces` become one.

    Not more often than every so many seconds, and not for more than a twentieth of the time; the last one always. A
    write that fails (the disk is full) warns once, and the run goes on.
    """
    now = time.monotonic
    due, failed, number = now() + seconds, False, found.number
    there = None if found.state is None else position(found.state)

    def write(state: TrainState, pieces: list[History], last: bool = False) -> None:
        nonlocal due, failed, number, there
        if (not last and now() < due) or position(state) == there:
            return
        begun = now()
        pieces[:] = [concatenate(pieces)]
        try:
            tree = {"state": trees.without_keys(state), "history": pieces[0]}
            tree |= {} if reading is None else {READ[:-1]: reading.kept()}
            write_checkpoint(folder, number, tree, about | {VALUES: found.values or about[VALUES]()})
            number, there = number + 1, position(state)
        except OSError as error:
            if not failed:
                warnings.warn(
                    f"checkpoint: {error} Training goes on; were it killed now, it would go on from the checkpoint "
                    "before this one. Every further write is tried, in silence.",
                    stacklevel=4,
                )
            failed = True
        due = now() + max(seconds, SHARE * (now() - begun))

    return write
