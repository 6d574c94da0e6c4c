"""The folder of a run: its newest checkpoints, each whole or not there."""

import contextlib
import os
import re
from typing import Any, NamedTuple

import numpy as np

from fnn import trees
from fnn.storage import files
from fnn.storage.files import FORMAT, read_kind
from fnn.types import PathLike, Tree


class Checkpoint(NamedTuple):
    """What `read_checkpoint` found: the newest whole one, and what is wrong with those that are newer."""

    number: int
    leaves: dict[str, np.ndarray]
    description: Any
    damaged: tuple[str, ...]


def write_checkpoint(folder: PathLike, number: int, tree: Tree, description: object = None) -> str:
    """Write `checkpoint-<number>.safetensors`, and keep it and the one before it; the path.

    Stale temporaries of killed processes are removed first. One process at a time may write to a folder.

    Args:
        folder: made if it is not there.
        number: one more than that of the checkpoint that the run went on from, 0 for the first: so a newer but
            damaged one is replaced, and what is kept are two whole ones.
        tree: any pytree of arrays; typed keys as `jax.random.key_data`.
        description: whatever JSON holds.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; the checkpoints that were there are as before.
        TypeError: a leaf is not an array, or the description is not JSON.
        ValueError: there is a whole checkpoint with a higher number, which would be read instead of this one.

    >>> import numpy as np, tempfile
    >>> from fnn.storage.checkpoints import read_checkpoint, write_checkpoint
    >>> folder = tempfile.mkdtemp()
    >>> _ = write_checkpoint(folder, 0, {"w": np.arange(2)}, {"seed": 7})
    >>> read_checkpoint(folder)
    Checkpoint(number=0, leaves={'w': array([0, 1])}, description={'seed': 7}, damaged=())
    """
    folder = os.path.expanduser(folder)
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.startswith(".checkpoint-") and name.endswith(".tmp"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, name))
    if any(n > number for n in _numbers(folder)) and (newest := read_checkpoint(folder)) and newest.number > number:
        raise ValueError(f"{folder}: expected a number above {newest.number}, got {number}. Read_checkpoint first.")
    path = os.path.join(folder, f"checkpoint-{number}.safetensors")
    _keep_newest(2, folder, number)  # what a process left that was killed between writing and removing
    files.write(path, trees.flatten_named(tree), {"kind": "checkpoint", "format": FORMAT, "description": description})
    _keep_newest(1, folder, number)
    return path


def _keep_newest(count: int, folder: str, number: int) -> None:
    """Remove all but so many of the checkpoints before this one."""
    for n in [n for n in _numbers(folder) if n < number][count:]:
        os.remove(os.path.join(folder, f"checkpoint-{n}.safetensors"))


def read_checkpoint(folder: PathLike) -> Checkpoint | None:
    """The newest checkpoint of a folder that is whole; None where there is none at all. Nothing is deleted.

    Raises:
        DamagedFile: there are checkpoints, and all of them are damaged.

    `named_arrays.filled` makes a tree of the leaves again.
    """
    folder = os.path.expanduser(folder)
    damaged: list[str] = []
    for number in _numbers(folder):
        try:
            leaves, about = read_kind(os.path.join(folder, f"checkpoint-{number}.safetensors"), "checkpoint")
            return Checkpoint(number, leaves, about["description"], tuple(damaged))
        except files.DamagedFile as error:
            damaged.append(str(error))
    if damaged:
        raise files.DamagedFile(
            "\n".join([f"{folder}: expected a whole checkpoint, got {len(damaged)} damaged:", *damaged])
            + "\nRestore one from a copy, or delete them to start anew."
        )
    return None


def _numbers(folder: str) -> list[int]:
    """The numbers of the checkpoints in a folder, newest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = (re.fullmatch(r"checkpoint-(\d+)\.safetensors", name) for name in names)
    return sorted((int(match[1]) for match in found if match), reverse=True)
