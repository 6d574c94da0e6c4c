"""The folder of a run: its newest checkpoints, each whole or not there."""

import os
import re
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.arguments import trees
from fnn.data.warnings import warn
from fnn.devices.atomic import make_folder, remove
from fnn.storage import files
from fnn.storage.files import FORMAT, read_kind
from fnn.storage.pieces import Pieces, check_whole, describe, from_description, read_whole
from fnn.types import PathLike, Tree


class Checkpoint(NamedTuple):
    """What `read_checkpoint` found: the newest that can be read, and what is wrong with those that are newer."""

    number: int
    leaves: dict[str, np.ndarray]
    description: Any
    damaged: tuple[str, ...]
    pieces: Pieces | None = None  # of the arrays whose shapes alone are among the leaves


class WriteFailures:
    """Says once that checkpoints cannot be written: one for each run or study."""

    def __init__(self) -> None:
        self._said = False
        self._lock = threading.Lock()  # the chunks of a study are written by several threads

    def warn(self, error: Exception) -> None:
        """Say what went wrong, the first time."""
        with self._lock:
            said, self._said = self._said, True
        if not said:
            warn(
                f"checkpoint: {error} Training goes on; were it killed now, it would resume from the newest checkpoint "
                "that is whole, or from the beginning. Further writes are tried without a warning."
            )


def write_checkpoint(
    folder: PathLike, number: int, tree: Tree, description: object = None, split: Mapping[str, str] | None = None
) -> str:
    """Write `checkpoint-<number>.safetensors`, and keep it and the one before it; the path.

    Stale temporaries of killed processes are removed first. One process at a time may write to a folder: whoever calls
    this holds its lock. What cannot be removed stays, and does no harm.

    Args:
        folder: made if it is not there.
        number: one more than that of the checkpoint that the run went on from, 0 for the first: so a newer but
            damaged one is replaced, and what is kept are two whole ones.
        tree: any pytree of arrays; typed keys as `jax.random.key_data`; with `split` also shapes and dtypes, of arrays
            that other files have the pieces of.
        description: whatever JSON holds.
        split: the files with the pieces, and their check sums. They are there before this is called.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; at least the newest of the checkpoints that
            were there is as before.
        TypeError: a leaf is not an array, or the description is not JSON.
        ValueError: there is a whole checkpoint with a higher number, which would be read instead of this one.

    >>> import numpy as np, tempfile
    >>> from fnn.storage.checkpoints import read_checkpoint, write_checkpoint
    >>> folder = tempfile.mkdtemp()
    >>> _ = write_checkpoint(folder, 0, {"w": np.arange(2)}, {"seed": 7})
    >>> read_checkpoint(folder)
    Checkpoint(number=0, leaves={'w': array([0, 1])}, description={'seed': 7}, damaged=(), pieces=None)
    """
    folder = os.path.expanduser(folder)
    make_folder(folder)
    remove(folder, [name for name in list_names(folder) if name.startswith(".checkpoint-") and name.endswith(".tmp")])
    if any(n > number for n in _numbers(folder)) and (newest := read_checkpoint(folder)) and newest.number > number:
        raise ValueError(f"{folder}: expected a number above {newest.number}, got {number}. Read_checkpoint first.")
    path = os.path.join(folder, checkpoint_name(number))
    older = [n for n in _numbers(folder) if n < number]
    remove(folder, map(checkpoint_name, older[2:]))  # what a process left that was killed between writing and removing
    about, leaves = {"kind": "checkpoint", "format": FORMAT, "description": description}, trees.flatten_named(tree)
    if split is not None:
        shapes = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, jax.ShapeDtypeStruct)}
        leaves = {name: leaf for name, leaf in leaves.items() if name not in shapes}
        about |= {"pieces": describe(Pieces(split, shapes))}
    files.write(path, leaves, about)
    remove(folder, map(checkpoint_name, older[1:]))
    return path


def read_checkpoint(folder: PathLike, whole: bool = True) -> Checkpoint | None:
    """The newest checkpoint of a folder that can be read and is whole; None where there is none at all.

    Nothing is deleted. Of a state in pieces all files are read; unless `whole` is True, they are only looked through,
    and the leaves are shapes and dtypes.

    Raises:
        DamagedFile: there are checkpoints, and all of them are damaged or cannot be read.
        OSError: the folder cannot be read.

    `trees.unflatten_named` makes a tree of the leaves again.
    """
    folder = os.path.expanduser(folder)
    wrong: dict[str, str] = {}
    for number in _numbers(folder):
        path = os.path.join(folder, checkpoint_name(number))
        try:
            leaves, about = read_kind(path, "checkpoint")
            with files.naming_damage(path, "a list of pieces"):
                split = from_description(about.get("pieces"))
            if split is not None and whole:
                leaves, split = leaves | read_whole(folder, split), None
            elif split is not None:
                leaves = {**leaves, **split.shapes}  # type: ignore[dict-item]
                check_whole(folder, split)
            return Checkpoint(number, leaves, about.get("description"), tuple(wrong.values()), split)
        except files.DamagedFile as error:
            wrong[path] = str(error)
        except OSError as error:  # the disk, the rights, a link that leads nowhere
            wrong[path] = str(error.strerror or error)
    if wrong:
        newest = next(iter(wrong))
        got = f"{len(wrong)} damaged or unreadable: {', '.join(map(os.path.basename, wrong))}"
        reason = wrong[newest].removeprefix(newest).removeprefix(": ").partition(". ")[0]
        hint = "Restore one from a copy, or delete them to start anew."
        raise files.damage_error(folder, "a whole checkpoint", f"{got} ({reason})", hint)
    return None


def checkpoint_name(number: int) -> str:
    """What a checkpoint's file is called."""
    return f"checkpoint-{number}.safetensors"


def list_names(folder: str) -> list[str]:
    """What is in a folder, if there is one."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        got = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"{folder}: expected a folder that can be read, got {got!r}. Check it.") from None


def _numbers(folder: str) -> list[int]:
    """The numbers of the checkpoints in a folder, newest first."""
    found = (re.fullmatch(r"checkpoint-(\d+)\.safetensors", name) for name in list_names(folder))
    return sorted((int(match[1]) for match in found if match), reverse=True)
