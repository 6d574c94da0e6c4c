"""Files and folders that are whole or absent, on the disk as well as in the system's memory of it."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable
from typing import Any


def write_whole(path: str, pieces: Iterable[Any]) -> None:
    """Put a file in its place at one stroke. A crash at any moment leaves the old one or the new one.

    The pieces are written to a temporary name in the same folder, flushed to the disk, renamed, and the folder is
    flushed. A file that is replaced hands on its mode and its owner. A link is replaced, not followed.

    Raises:
        OSError: the disk is full, the folder is missing or read-only, something else than a file is in the place. The
            message says which contents are there now. No temporary file is left behind.
    """
    before = _replaceable(path)
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name[:50]}.{secrets.token_hex(6)}.tmp")
    renamed = False
    try:
        with open(temporary, "xb", opener=_open_private if before else None) as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            if before:
                _hand_on(file.fileno(), before)
            os.fsync(file.fileno())  # else the rename may reach the disk before the contents
        os.replace(temporary, path)
        renamed = True
        sync_folder(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, _what_is_there(path, error, renamed)) from None
        raise


def _replaceable(path: str) -> os.stat_result | None:
    """What is known of the file in that place, if there is one; an error if it is a device, a pipe or a socket."""
    try:
        status = os.stat(path)
    except OSError:  # there is none, or a link that leads nowhere
        return None
    if stat.S_ISREG(status.st_mode):
        return status
    if stat.S_ISDIR(status.st_mode):  # the rename says so
        return None
    raise OSError(
        errno.EINVAL, f"{path}: expected a file to replace, got a device, a pipe or a socket. Choose another name."
    )


def _open_private(path: str, flags: int) -> int:
    """Open a file that nobody else may read, until it is known who may."""
    return os.open(path, flags, 0o600)


def _hand_on(handle: int, before: os.stat_result) -> None:
    """Give a file the mode and, if this process may, the owner of the one that it replaces."""
    if not hasattr(os, "fchown"):
        return
    now = os.fstat(handle)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(handle, before.st_uid, before.st_gid)
    with contextlib.suppress(OSError):  # some file systems have no modes
        os.fchmod(handle, stat.S_IMODE(before.st_mode))


def _what_is_there(path: str, error: OSError, renamed: bool) -> str:
    """The error with the path, and with which contents are there now."""
    got = os.strerror(error.errno or 0)
    if renamed:
        return (
            f"{path}: expected to flush the folder to the disk, got {got!r}; the new file is in its place, but a power "
            "cut now may bring back what was there before. Check the disk, and write the file again."
        )
    return (
        f"{path}: expected to write the file, got {got!r}; what was there before is as it was. "
        "Free space, or choose a folder that exists and may be written to."
    )


def sync_folder(folder: str) -> None:
    """Flush the names in a folder to the disk, where the system and the file system can do that."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to but not listed
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def make_folder(folder: str) -> list[str]:
    """Make a folder and those above it, each flushed in its parent; those that were made, the innermost last.

    Raises:
        OSError: it cannot be made, or its parent not be flushed; then none is.

    >>> import os, tempfile
    >>> from fnn.devices.atomic import make_folder
    >>> folder = tempfile.mkdtemp()
    >>> [os.path.relpath(made, folder) for made in make_folder(os.path.join(folder, "a", "b"))]
    ['a', 'a/b']
    """
    folder = os.path.abspath(folder)
    if os.path.isdir(folder):
        return []
    parent = os.path.dirname(folder)
    made = make_folder(parent) if parent != folder else []
    try:
        os.mkdir(folder)
        made.append(folder)
        sync_folder(parent)
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.isdir(folder):  # another process was quicker
            return made
        for path in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        got = os.strerror(error.errno or 0)
        raise OSError(
            error.errno, f"{folder}: expected a folder that can be made, got {got!r}. Name another one."
        ) from None
    return made


def remove(folder: str, names: Iterable[str]) -> None:
    """Remove these files of a folder; one that cannot be removed stays."""
    for name in names:
        with contextlib.suppress(OSError):
            os.remove(os.path.join(folder, name))
