"""Named arrays and a description of them in one file, which is whole or is not there at all.

The file is a safetensors file: a header in JSON, then the numbers. Reading one runs nothing and unpickles nothing.
Its metadata hold the description, also JSON, and the SHA-256 of the whole file, in which its own digits count as
zeros: no bit of the file is outside the check sum, and it is compared before anything else is made of the contents.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.storage import files
from fnn.types import PathLike

MAGIC = b'{"__metadata__":{"fnn":"{\\"check_sum\\":\\"'  # how the header of every file of ours begins, after its length
DIGITS = 64
NATIVE = {"bool", "float16", "float32", "float64", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64))}


class DamagedFile(ValueError):
    """A file that is truncated, changed, or was never written by fnn."""


def write(path: PathLike, arrays: Mapping[str, Any], description: object = None) -> None:
    """Write named arrays and a description to one file: all of it, or nothing, and then the file that was there stays.

    Written to a temporary name in the same folder, flushed to the disk, then renamed.

    Args:
        path: where to; a file of that name is replaced.
        arrays: name -> array, of any dtype that JAX has and of any shape, `()` and empty ones included. Those dtypes
            that NumPy alone does not know (bfloat16, float8, ...) are stored as bytes, with one more axis.
        description: whatever JSON holds; nan and inf are allowed, tuples come back as lists.

    Raises:
        OSError: the disk is full, the folder is missing or read-only; no temporary file is left behind.
        TypeError: an array that has no numbers in it, or a description that JSON cannot hold.
        ImportError: safetensors is not installed.

    >>> import fnn.storage.files, numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "numbers.safetensors")
    >>> fnn.storage.files.write(path, {"a": np.arange(3)}, {"what": "numbers"})
    >>> fnn.storage.files.read(path)
    ({'a': array([0, 1, 2])}, {'what': 'numbers'})
    """
    numpy_side = import_safetensors()
    stored, raw = {}, {}
    for name, value in arrays.items():
        array = np.asarray(value, order="C")
        if array.dtype.name not in NATIVE | _dtypes().keys() or name == "__metadata__":  # a word of the format's own
            raise TypeError(
                f"{name}: expected an array of numbers, got {array.dtype} {array.shape}. Convert or rename it."
            )
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype.name not in NATIVE:
            raw[name] = array.dtype.name
            array = array[..., None].view(np.uint8)
        stored[name] = array
    zeros = b"0" * DIGITS
    try:
        head = {"check_sum": zeros.decode(), "raw": raw, "description": description}
        text = json.dumps(head, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"description: expected what JSON holds, got {error}. Use dicts, lists, text and numbers."
        ) from None
    data = memoryview(numpy_side.save(stored, metadata={"fnn": text}))
    start = 8 + len(MAGIC)
    if data[8:start] != MAGIC:
        raise RuntimeError(
            "files: expected safetensors to begin with the metadata, got another order. Pin safetensors."
        )
    _write_atomically(
        os.path.expanduser(path), (data[:start], hashlib.sha256(data).hexdigest().encode(), data[start + DIGITS :])
    )


def read(path: PathLike) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays and the description that `write` wrote, to the same bits.

    Raises:
        DamagedFile: a single bit is not as it was written, or the file is not one of fnn's.
        FileNotFoundError, OSError: there is none, or it cannot be read.
        ImportError: safetensors is not installed.

    >>> import fnn.storage.files, tempfile
    >>> with tempfile.NamedTemporaryFile() as empty:
    ...     fnn.storage.files.read(empty.name)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fnn.DamagedFile: ...: expected a file written by fnn, got an empty one. Check the path, ...
    """
    path = os.path.expanduser(path)
    numpy_side = import_safetensors()
    data = _read_verified(path)
    try:
        stored = numpy_side.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["fnn"])
        known = _dtypes()
        for name, dtype in about["raw"].items():
            stored[name] = stored[name].view(known[dtype]).reshape(stored[name].shape[:-1])
        return stored, about["description"]
    except MemoryError:
        raise
    except Exception as error:  # the check sum is right: somebody made it so, or a newer JAX has a dtype this one lacks
        raise DamagedFile(
            f"{path}: expected contents that belong together, got {type(error).__name__} {error}. "
            "Read it with the version of fnn and JAX that wrote it."
        ) from None


def _read_verified(path: str) -> bytes:
    """The file's bytes, once its check sum has been found right; of another's file no more than the beginning."""
    hint = "Check the path, restore the file from a copy, or save it again."
    start = 8 + len(MAGIC)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedFile(f"{path}: expected a file written by fnn, got a folder or a device. {hint}")
        with open(path, "rb") as file:
            head = file.read(start + DIGITS)
            if not head.startswith(MAGIC, 8) or len(head) < start + DIGITS:
                got = f"{status.st_size} bytes that start with {head[:16]!r}" if head else "an empty one"
                raise DamagedFile(f"{path}: expected a file written by fnn, got {got}. {hint}")
            file.seek(0)
            data = file.read()
    except OSError as error:
        got = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"{path}: expected a file, got {got!r}. Check the path.") from None
    summed = hashlib.sha256(data[:start] + b"0" * DIGITS)
    summed.update(memoryview(data)[start + DIGITS :])
    given, got = head[start:].decode("latin-1"), summed.hexdigest()
    if given != got:
        raise DamagedFile(
            f"{path}: expected the check sum {given[:12]!r}, got {got[:12]!r}: "
            f"its {len(data)} bytes are not those that were written. {hint}"
        )
    return data


def _write_atomically(path: str, pieces: Iterable[Any]) -> None:
    """Put a file in its place at one stroke. A crash at any moment leaves the old one or the new one."""
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name[:50]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())  # else the rename may reach the disk before the contents
        os.replace(temporary, path)
        _sync_folder(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError):
            got = os.strerror(error.errno or 0)
            raise OSError(
                error.errno,
                f"{path}: expected to write the file, got {got!r}; what was there before is as it was. "
                "Free space, or choose a folder that exists and may be written to.",
            ) from None
        raise


def _sync_folder(folder: str) -> None:
    """The new name to the disk too, where the system and the file system can do that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def import_safetensors() -> ModuleType:
    """The library that writes and reads; an ImportError with the command that installs it."""
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError('files: safetensors is not installed. Run: pip install "fnn[files]"') from None
    return safetensors.numpy


def _dtypes() -> dict[str, np.dtype]:
    """The dtypes of JAX by name: the only ones that a file can ask for."""
    dtypes = (getattr(thing, "dtype", None) for thing in vars(jnp).values())
    return {dtype.name: dtype for dtype in dtypes if isinstance(dtype, np.dtype)}


FORMAT = 1  # of the description; a file with a higher number is of a later fnn


def read_kind(path: PathLike, kind: str) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays and the description of a file of this kind."""
    leaves, about = files.read(path)
    got = about.get("kind") if isinstance(about, dict) else None
    if got != kind:
        raise files.DamagedFile(
            f"{os.fspath(path)}: expected a {kind}, got a {got or 'file of another kind'}. "
            "Read a run by fnn.load, and a checkpoint by fit."
        )
    if about["format"] > FORMAT:
        raise files.DamagedFile(
            f"{os.fspath(path)}: expected format {FORMAT}, got {about['format']}. Update fnn: a later one wrote it."
        )
    return leaves, about
