"""Named arrays and a description of them in one file, which is whole or is not there at all.

The file is a safetensors file: a header in JSON, then the numbers. Reading one runs nothing and unpickles nothing.
Its metadata hold the description, also JSON, and the SHA-256 of the whole file, in which its own digits count as
zeros: no bit of the file is outside the check sum, and it is compared before anything else is made of the contents.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.devices.atomic import write_whole
from fnn.devices.memory import free_bytes
from fnn.types import PathLike

MAGIC = b'{"__metadata__":{"fnn":"{\\"check_sum\\":\\"'  # how the header of every file of ours begins, after its length
DIGITS = 64
NATIVE = {"bool", "float16", "float32", "float64", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64))}


# what a file may have: so a file made to harm cannot ask for much more memory than it has bytes
MOST_HEADER = 8 * 2**20  # bytes
MOST_ARRAYS = 50_000
MOST_DESCRIPTION = 32 * 2**20  # bytes that its values take in Python, about
MOST_MESSAGE = 300  # characters
LARGE = 2**30  # bytes: a sparse file of fewer is read like others
HINT = "Check the path, restore the file from a copy, or save it again."


class DamagedFile(ValueError):
    """A file that is truncated, changed, or was never written by fnn."""


def damage_error(path: PathLike, expected: str, got: object, hint: str = HINT) -> DamagedFile:
    """The error for this file, on one line, printable and short, whatever the file holds.

    >>> from fnn.storage.files import damage_error
    >>> print(damage_error("a.fnn", "format 1", 2 * chr(0), "Update fnn."))
    a.fnn: expected format 1, got ??. Update fnn.
    """
    begin, end = f": expected {printable(expected, 80)}, got ", f". {printable(hint, 90)}"
    room = MOST_MESSAGE - len(begin) - len(end)
    name = printable(os.fspath(path), room - 40, keep_end=True)
    return DamagedFile(f"{name}{begin}{printable(got, room - len(name))}{end}")


def printable(text: object, most: int = MOST_MESSAGE, keep_end: bool = False) -> str:
    """What a file says, or its path, for a message: without control characters, and cut to so many characters."""
    text = str(text)
    if len(text) > most:
        text = "…" + text[1 - most :] if keep_end else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "?" for c in text)


@contextlib.contextmanager
def naming_damage(path: PathLike, expected: str, hint: str = HINT) -> Iterator[None]:
    """Whatever goes wrong in the `with` is the file's fault: a DamagedFile says what."""
    try:
        yield
    except (DamagedFile, MemoryError):
        raise
    except Exception as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise damage_error(path, expected, f"{type(error).__name__}: {reason}", hint) from None


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
        ValueError: more than 50,000 arrays, or a description of more than 4 MiB.
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
    _check_limits(len(stored), text)
    data = memoryview(numpy_side.save(stored, metadata={"fnn": text}))
    start = 8 + len(MAGIC)
    if int.from_bytes(data[:8], "little") > MOST_HEADER:
        raise ValueError(f"arrays: expected names of at most {MOST_HEADER} bytes together, got more. Shorten them.")
    if data[8:start] != MAGIC:
        raise RuntimeError(
            "files: expected safetensors to begin with the metadata, got another order. Pin safetensors."
        )
    write_whole(
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
    with naming_damage(path, "contents that belong together", "Read it with the fnn and the JAX that wrote it."):
        about = _read_description(data)
        stored = numpy_side.load(data)
        known = _dtypes()
        for name, dtype in about["raw"].items():
            stored[name] = stored[name].view(known[dtype]).reshape(stored[name].shape[:-1])
        return stored, about["description"]


def read_check_sum(path: PathLike) -> str:
    """The check sum that a file says it has; of another's file whatever is there."""
    with open(path, "rb") as file:
        return file.read(8 + len(MAGIC) + DIGITS)[8 + len(MAGIC) :].decode("latin-1")


def _read_description(data: bytes) -> Any:
    """The description in a header, once it is known to be no larger than what is written.

    Only that part of the header is read here: safetensors reads the rest, if it names no more arrays than are allowed.
    """
    header = data[8 : 8 + int.from_bytes(data[:8], "little")].decode()
    text, end = json.JSONDecoder().raw_decode(header, MAGIC.index(b"{", 1) + len('{"fnn":'))
    _check_limits(header.count("[", end) // 2, text)  # each array has two lists: its shape, and where its bytes are
    return json.loads(text)


def _check_limits(arrays: int, text: str) -> None:
    """Raise a ValueError if a file would have more arrays, or a larger description, than can be read again."""
    if arrays > MOST_ARRAYS:
        raise ValueError(f"arrays: expected at most {MOST_ARRAYS}, got {arrays}. Put layers of one kind into a repeat.")
    size = len(text) + 240 * text.count("{") + 72 * text.count("[") + 40 * text.count(",")
    if size > MOST_DESCRIPTION or len(text) > MOST_HEADER // 2:
        raise ValueError(f"description: expected at most 4 MiB of text, got {len(text)} bytes. Describe less.")


def _read_verified(path: str) -> bytes:
    """The file's bytes, once its check sum has been found right; of another's file no more than the beginning."""
    start = 8 + len(MAGIC)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise damage_error(path, "a file written by fnn", "a folder or a device")
        with open(path, "rb") as file:
            head = file.read(start + DIGITS)
            if not head.startswith(MAGIC, 8) or len(head) < start + DIGITS:
                got = f"{status.st_size} bytes that start with {head[:16]!r}" if head else "an empty one"
                raise damage_error(path, "a file written by fnn", got)
            _check_size(path, int.from_bytes(head[:8], "little"), status)
            file.seek(0)
            data = file.read(status.st_size + 1)
    except OSError as error:
        got = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"{path}: expected a file, got {got!r}. Check the path.") from None
    summed = hashlib.sha256(data[:start] + b"0" * DIGITS)
    summed.update(memoryview(data)[start + DIGITS :])
    given, made = head[start:].decode("latin-1"), summed.hexdigest()
    if given != made:
        got = f"{made[:12]!r}: its {len(data)} bytes are not those that were written"
        raise damage_error(path, f"the check sum {given[:12]!r}", got)
    return data


def _check_size(path: str, header: int, status: os.stat_result) -> None:
    """Refuse what cannot be right or cannot be read, before it is read."""
    if header > MOST_HEADER:
        raise damage_error(path, f"a header of at most {MOST_HEADER} bytes", header)
    on_disk = 512 * getattr(status, "st_blocks", 0)
    if status.st_size > LARGE and 0 < on_disk < status.st_size // 64:
        raise damage_error(path, "a file whose bytes are on the disk", f"{on_disk} of {status.st_size} bytes")
    free = free_bytes()
    if free is not None and status.st_size > free:
        raise MemoryError(
            f"{path}: expected a file that fits the memory, of which {free / 1e9:.3g} GB are free, got "
            f"{status.st_size / 1e9:.3g} GB. Free memory, or read it on a larger machine."
        )


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
    leaves, about = read(path)
    got = about.get("kind") if isinstance(about, dict) else None
    if got != kind:
        name = f"a {got}" if isinstance(got, str) else "a file of another kind"
        raise damage_error(path, f"a {kind}", name, "Read a run by fnn.load, and a checkpoint by fit.")
    number = about.get("format")
    if type(number) is not int or not 0 < number <= FORMAT:
        raise damage_error(path, f"format {FORMAT}", number, "Update fnn: a later one wrote it.")
    return leaves, about
