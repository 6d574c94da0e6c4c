"""Checkpoints of a run under way: what they hold, whether the same run is asked for again, and when to write one."""

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import files, named_arrays
from fnn.checkpoint import read_checkpoint, write_checkpoint
from fnn.part_functions import part_functions
from fnn.parts import Recipe
from fnn.segments import joined, place
from fnn.tracing import traced
from fnn.types import Data, History, TrainState

VERSIONS = "versions"
SHARE = 20  # times as long as a write took is the least until the next


# ---- what a run is


def description(
    recipe: Recipe, settings: Mapping[str, Any], data: Data, key: Any, params: Any, state: Any
) -> dict[str, Any]:
    """What a run was asked for, as text and numbers: two of the same description give the same bits.

    Functions are told apart by what they compute, data by their SHA-256. The number of epochs is not part of it.
    """
    functions = part_functions(recipe, dict(settings), data.train, params)
    programs = {name: traced(f.call, *f.arguments).digest for name, f in functions.items()}
    told = {"net": recipe.net, "loss": recipe.loss, "penalty": recipe.penalty}
    asked: dict[str, Any] = {name: str(thing) for name, thing in told.items() if "0x" not in str(thing)}
    asked |= {f"{name} (what it computes)": text[:16] for name, text in programs.items()}
    asked |= {
        "gradient": getattr(recipe.gradient, "__qualname__", "?"),
        "metrics": [name for name, _ in recipe.metrics],
    }
    plain = ("batch_size", "shuffle", "reduction", "monitor", "mode")
    asked |= {name: getattr(recipe, name) for name in plain}
    asked |= {f"settings[{name!r}]": float(value) for name, value in settings.items()}
    asked |= {"key": np.asarray(jax.random.key_data(key)).tolist(), "params": digest(params), "state": digest(state)}
    for name, part in data._asdict().items():
        fields = zip(("x", "t", "weight"), part, strict=False) if part is not None else ()
        asked |= {f"{name} {field}": digest(array) for field, array in fields}
    return asked | {VERSIONS: versions()}


def versions() -> dict[str, str]:
    """What the bits may depend on, that nobody asks for."""
    return {"fnn": version("fnn"), "jax": jax.__version__, "device": jax.default_backend()}


def digest(tree: Any) -> str | None:
    """SHA-256 of arrays, with their shapes and dtypes."""
    if tree is None:
        return None
    made = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        array: Any = np.ascontiguousarray(leaf)
        made.update(f"{array.dtype}{array.shape}".encode())
        made.update(memoryview(array).cast("B") if array.size else b"")
    return made.hexdigest()[:16]


def check_same(folder: str, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Raise a ValueError that lists everything in which this run is not the one of the checkpoint."""
    others = expected[VERSIONS] != got[VERSIONS]
    if others:
        warnings.warn(
            f"checkpoint: expected {_words(expected[VERSIONS])} as in {folder}, got {_words(got[VERSIONS])}. "
            "Do go on if the last bits need not be those of a run without interruption.",
            stacklevel=4,
        )
    lines = []
    for name in [*expected, *(got.keys() - expected.keys())]:
        a, b = expected.get(name, "none"), got.get(name, "none")
        # another JAX traces to another text: that says nothing then
        if name != VERSIONS and a != b and not (others and "computes" in name):
            lines.append(f"  {name}: expected {a}, got {b}")
    if lines:
        raise ValueError(
            "\n".join([f"checkpoint: expected the run that {folder} is of, got one that differs:", *lines])
            + "\nDo ask for the same as before, or name another folder to start anew."
        )


def _words(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


# ---- reading and writing


class Found(NamedTuple):
    """A run to go on with: its state (None if there is none), its history so far, the number of the next checkpoint."""

    state: TrainState | None
    history: History
    number: int


def found(folder: str, about: Mapping[str, Any], like: TrainState, history: History) -> Found:
    """What is in a folder, if it is of this run.

    Args:
        folder: made if it is not there.
        about: `description` of this run.
        like: its state, or the shapes and dtypes of it.
        history: its history, of no epochs.

    Raises:
        ValueError: it is of another run; lists what differs.
        DamagedFile: there are checkpoints, all of them damaged.
        OSError: the folder cannot be made or read.
    """
    files.safetensors_of_numpy()
    _make(folder)
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        return Found(None, history, 0)
    for text in checkpoint.damaged:
        warnings.warn(f"checkpoint: {text} The one before it is used.", stacklevel=4)
    check_same(folder, checkpoint.description, about)
    shape = checkpoint.leaves["history/loss"].shape
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(shape, a.dtype), history)
    tree = named_arrays.filled({"state": like, "history": shapes}, checkpoint.leaves, folder)
    return Found(tree["state"], jax.tree.map(np.asarray, tree["history"]), checkpoint.number + 1)


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        got = os.strerror(error.errno or 0)
        raise OSError(
            error.errno, f"checkpoint: expected a folder, got {got!r} for {folder}. Do name one that can be made."
        ) from None


def writer(folder: str, about: Mapping[str, Any], found: Found, seconds: float) -> Callable[..., None]:
    """A function `write(state, pieces, last=False)`, which does so if it is time; `pieces` become one.

    Not more often than every so many seconds, and not for more than a twentieth of the time; the last one always. A
    write that fails (the disk is full) warns once, and the run goes on.
    """
    now = time.monotonic
    due, failed, number = now() + seconds, False, found.number
    there = None if found.state is None else place(found.state)

    def write(state: TrainState, pieces: list[History], last: bool = False) -> None:
        nonlocal due, failed, number, there
        if (not last and now() < due) or place(state) == there:
            return
        begun = now()
        pieces[:] = [joined(pieces)]
        try:
            write_checkpoint(folder, number, {"state": state, "history": pieces[0]}, dict(about))
            number, there = number + 1, place(state)
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
