"""One writer per folder: a lock that ends with the process that holds it, whatever ends the process.

The lock is one of the operating system (`flock`; on Windows `msvcrt.locking`) on the file `.lock` in the folder, in
which the holder has written who it is. The file is removed with the lock. One that a killed process has left behind is
not locked, and the next process takes it. Two threads of one process exclude each other as two processes do, and a
forked child does not hold its parent's lock. Over a network the lock holds between machines where the file system
passes it on, as NFS and SMB do; a file system that has no locks is named in a warning.
"""

import contextlib
import errno
import os
import platform
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

from fnn.data.warnings import warn
from fnn.devices.atomic import make_folder

NAME = ".lock"
FAR = 4096  # the byte that Windows locks, behind the text: nobody may read a byte that is locked there
WAIT, TRIES = 0.02, 25  # seconds from a lock to the holder's name in the file; how often to look for it
_held: dict[BinaryIO, str] = {}  # the files that this process has locked, and where they are


@contextlib.contextmanager
def lock_folder(folder: str) -> Iterator[None]:
    """Keep all others out of a folder that exists, until the end of the `with`.

    Where nothing can be written to the folder there is no lock, and no need of one.

    Raises:
        BlockingIOError: another process or thread holds the lock; says which process.

    Warns:
        UserWarning: the folder cannot be locked: its file system has no locks, or the disk is full.

    >>> import tempfile
    >>> from fnn.storage.locks import lock_folder
    >>> folder = tempfile.mkdtemp()
    >>> with lock_folder(folder):
    ...     with lock_folder(folder):  # doctest: +ELLIPSIS
    ...         pass
    Traceback (most recent call last):
    BlockingIOError: checkpoint: expected a folder that nobody else writes to, got ..., which process ...
    """
    path = os.path.join(folder, NAME)
    file = _acquire(path)
    if file is None:
        yield
        return
    process = os.getpid()
    try:
        _write_holder(file)
        yield
    finally:
        _held.pop(file, None)
        if os.getpid() == process:  # a forked child that comes here has closed the file, and leaves it in its place
            _release(file, path)


def _acquire(path: str) -> BinaryIO | None:
    """The locked file; None if there can be none."""
    while True:
        try:
            file = _open(path)
        except FileNotFoundError:  # another process has removed the folder, which was empty
            make_folder(os.path.dirname(path))
            continue
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                _warn_unlocked(path, error)
            return None
        ours = False
        try:
            _held[file] = path
            free = _try_lock(file)
            ours = free and _is_same_file(file, path)  # else its holder has removed it since it was opened here
            if ours:
                return file
        except OSError as error:
            _warn_unlocked(path, error)
            _remove_empty(path)
            return None
        finally:
            if not ours:
                _held.pop(file, None)
                file.close()
        if not free and (holder := _read_holder(path)) is not None:
            raise BlockingIOError(_refusal(path, holder))


def _open(path: str) -> BinaryIO:
    """The file of the lock, made if it is not there; only to be read where another user's process has made it."""
    try:
        return open(path, "r+b", buffering=0)
    except FileNotFoundError:
        return open(path, "a+b", buffering=0)
    except PermissionError:
        return open(path, "rb", buffering=0)


def _try_lock(file: BinaryIO) -> bool:
    """Whether the lock could be had."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise


def _is_same_file(file: BinaryIO, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_empty(path: str) -> None:
    """Remove a file in which no holder has written."""
    with contextlib.suppress(OSError):
        if os.path.getsize(path) == 0:
            os.remove(path)


def _release(file: BinaryIO, path: str) -> None:
    if file.closed:  # it has been released
        return
    if sys.platform == "win32":  # where no open file can be removed
        file.close()
    with contextlib.suppress(OSError):
        if file.closed or _is_same_file(file, path):
            os.remove(path)
    file.close()


def release_locks() -> None:
    """Release all locks of this process: it ends now, without leaving its blocks."""
    for file, path in list(_held.items()):
        _release(file, path)


def _forget_in_child() -> None:
    """Close what a forked child has of its parent's locks: else they would last as long as the child."""
    for file in _held:
        with contextlib.suppress(OSError):
            file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


# ---- who holds it


def _write_holder(file: BinaryIO) -> None:
    """Write into the file who holds the lock, for others to read."""
    with contextlib.suppress(OSError):  # the disk is full, or the file is another user's: the lock holds all the same
        file.truncate(0)
        file.seek(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {platform.node()} has used since {since}".encode())


def _read_holder(path: str) -> str | None:
    """Who holds the lock; "" if the holder could not write it; None if the file is gone, and the lock with it."""
    for _ in range(TRIES):
        time.sleep(WAIT)
        try:
            with open(path, "rb") as file:
                text = file.read(200).decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError:
            return ""
        if text:
            return "".join(c for c in text if c.isprintable())
    return ""


def _refusal(path: str, holder: str) -> str:
    """What to say of a lock that another holds."""
    if holder.startswith(f"process {os.getpid()} on {platform.node()} "):
        holder = holder.replace(" on ", " (this one, in another call) on ", 1)
    return (
        f"checkpoint: expected a folder that nobody else writes to, got {os.path.dirname(path)}, which "
        f"{holder or 'another process uses'}. Wait until it ends, or name another folder."
    )


def _warn_unlocked(path: str, error: OSError) -> None:
    got = os.strerror(error.errno or 0)
    warn(
        f"checkpoint: expected to lock {os.path.dirname(path)}, got {got!r}. Make sure that no other process writes "
        "to that folder."
    )
