"""The folder of a run or of a study: whose it is, and what a study keeps in it besides checkpoints.

A run's folder holds its checkpoints. A study's holds a folder per group of members, `0`, `1`, …: in it the file
`width`, members per program, and a folder of checkpoints per chunk of members. Neither may begin in the other's.
"""

import contextlib
import os
import re
from collections.abc import Iterator

from fnn.devices.atomic import make_folder, remove, write_whole
from fnn.storage import files
from fnn.storage.checkpoints import list_names
from fnn.storage.locks import lock_folder

WIDTH = "width"
MOST_UNSEEN = 2**16  # the largest width that is believed of a study which has no checkpoint yet


@contextlib.contextmanager
def open_folder(folder: str | None, of_study: bool) -> Iterator[None]:
    """Make a folder if it is not there, and keep all other processes and threads out of it until the end of the `with`.

    A folder that was made here is removed at the end if nothing has been written to it. None: nothing to open.

    Args:
        folder: where the checkpoints are to be.
        of_study: whether a study is to be kept in it; else a run.

    Raises:
        BlockingIOError: another process or thread has it open; says which process.
        ValueError: it is a study's and a run is to be kept in it, or the other way round.
        OSError: it cannot be made or read.
        ImportError: safetensors is not installed.
    """
    if folder is None:
        yield
        return
    files.import_safetensors()
    try:
        made = make_folder(folder)
    except OSError as error:
        got = os.strerror(error.errno or 0)
        raise OSError(
            error.errno, f"checkpoint: expected a folder, got {got!r} for {folder}. Name one that can be made."
        ) from None
    try:
        with lock_folder(folder):
            _check_owner(folder, of_study)
            yield
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):  # it is not empty: so it stays
                os.rmdir(path)


def _check_owner(folder: str, of_study: bool) -> None:
    """Raise a ValueError where a study would begin in the folder of a run, or a run in that of a study."""
    groups = [os.path.join(folder, name) for name in list_names(folder) if name.isdecimal()]
    hint = "Name another folder."
    if of_study:
        for path in (folder, *groups):
            if any(re.fullmatch(r"checkpoint-\d+\.safetensors", name) for name in _names_inside(path)):
                raise ValueError(f"checkpoint: expected the folder of a study, got {path}, which is a run's. {hint}")
        groups = []
    for path in (folder, *groups):
        if any(name == WIDTH or _width_of_chunk(name) for name in _names_inside(path)):
            kind = "a study, not of a part of one" if of_study else "a run"
            raise ValueError(f"checkpoint: expected the folder of {kind}, got {folder}, a study's. {hint}")


def _names_inside(path: str) -> list[str]:
    return list_names(path) if os.path.isdir(path) else []


# ---- a group of a study


def group_folder(folder: str, number: int) -> str:
    """Where a study keeps its members of one shape."""
    return os.path.join(folder, str(number))


def chunk_folder(group: str, first: int, last: int, width: int) -> str:
    """Where a group keeps the checkpoints of the members that one program trains."""
    return os.path.join(group, f"members-{first}-{last}-width-{width}")


def chunks_in(group: str) -> list[str]:
    """The folders of the chunks of a group that have begun."""
    return sorted(os.path.join(group, name) for name in list_names(group) if _width_of_chunk(name))


def _width_of_chunk(name: str) -> int:
    """The width in a name that `chunk_folder` makes; 0 for other names."""
    match = re.fullmatch(r"members-\d+-\d+-width-(\d+)", name)
    return int(match[1]) if match else 0


def read_width(group: str) -> int | None:
    """Members per program, with which the group in this folder began; None where none has.

    Raises:
        DamagedFile: what the file says cannot be, or is not what the folders of the chunks say.
        OSError: the file is there and cannot be read.
    """
    path = os.path.join(group, WIDTH)
    widths = {width for name in list_names(group) if (width := _width_of_chunk(name))}
    try:
        with open(path, "rb") as file:
            text = file.read(20).strip()
    except FileNotFoundError:
        if len(widths) < 2:
            return next(iter(widths), None)
        text = b""
    except OSError as error:
        got = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"{path}: expected a number, got {got!r}. Make the file readable.") from None
    width = int(text) if text.isdigit() else 0
    if width in widths or (not widths and 0 < width <= MOST_UNSEEN):
        return width
    known = " or ".join(map(str, sorted(widths)))
    expected = f"the number {known}, as its folders say" if widths else "the number of members per program"
    hint = f"Write {known} into it" if widths else "Delete it"
    raise files.damage_error(path, expected, repr(text.decode("latin-1")), f"{hint}, or name another folder.")


def write_width(group: str, width: int) -> None:
    """Write down the members per program, before the first checkpoint of the group; an OSError says why it cannot."""
    make_folder(group)
    remove(group, [name for name in list_names(group) if name.startswith(f".{WIDTH}.") and name.endswith(".tmp")])
    write_whole(os.path.join(group, WIDTH), [str(width).encode()])
