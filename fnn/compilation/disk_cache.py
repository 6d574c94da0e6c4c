"""Compiled programs kept on the disk, so that the next process need not compile them again."""

import functools
import os
from contextlib import suppress
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from fnn import arguments
from fnn.data import checks
from fnn.types import PathLike

_LOOKS = "/jax/compilation_cache/compile_requests_use_cache"  # what JAX records before it looks into the folder
_opened: list[str | None] = [None]  # the folder that JAX has opened


@arguments.explain_call
def enable_compile_cache(folder: PathLike | None = None, *, most_bytes: int = 2**30) -> None:
    """Keep compiled programs on the disk: `fnn.enable_compile_cache()` at the start of a script.

    It is JAX's persistent compilation cache, set to keep programs that compile in under a second too, as those of
    most networks do. A process that finds its programs there begins to train in a tenth of the time. Programs are
    identified by what they compute, by JAX's version and by the device, so one folder serves all projects; delete
    it whenever you like. The folder named last counts.

    Set the environment variable `FNN_COMPILE_CACHE` to a folder, and `import fnn` makes this call with it.

    Args:
        folder: made if it is not there, for you alone to read and write; `~` is the home folder. None: `fnn/programs`
            in your cache folder (`$XDG_CACHE_HOME`, else `~/.cache`).
        most_bytes: above that many bytes, the call deletes the programs that were not used for longest.

    Raises:
        TypeError: the folder is no path.
        PermissionError: the folder for None belongs to another user, who could change the programs that you run.
        OSError: it cannot be made.

    >>> import fnn, os, tempfile
    >>> folder = os.path.join(tempfile.mkdtemp(), "programs")
    >>> fnn.enable_compile_cache(folder)
    >>> os.path.isdir(folder)
    True
    >>> jax.config.update("jax_compilation_cache_dir", None)  # off again
    """
    most_bytes = arguments.whole_number("most_bytes", most_bytes, 0)
    path = checks.folder("folder", _users_folder() if folder is None else folder)
    os.makedirs(path, mode=0o700, exist_ok=True)
    if folder is None and hasattr(os, "getuid") and os.stat(path).st_uid != os.getuid():
        raise PermissionError(
            f"folder: expected {path} to belong to you, got another user's. Pass a folder of your own."
        )
    _delete_oldest(path, most_bytes)
    jax.config.update("jax_compilation_cache_dir", path)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _follow_the_setting()
    _look_again(_LOOKS)


def _users_folder() -> str:
    """Where the user's programs are kept: a relative `XDG_CACHE_HOME` does not count, as its specification says."""
    caches = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(caches if os.path.isabs(caches) else os.path.join("~", ".cache"), "fnn", "programs")


def _delete_oldest(folder: str, most_bytes: int) -> None:
    """Delete the programs that were not used for longest, until the others fit."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # another process has deleted it
                if entry.name.endswith("-cache") and entry.is_file(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    files.append((max(about.st_atime, about.st_mtime), about.st_size, entry.path))
    size = sum(size for _, size, _ in files)
    for _, bytes_, path in sorted(files):
        if size <= most_bytes:
            return
        with suppress(OSError):
            os.remove(path)
        size -= bytes_


@functools.cache
def _follow_the_setting() -> None:
    """From now on another folder counts, and none: JAX alone opens the first for good."""
    jax.monitoring.register_event_listener(_look_again)


def _look_again(event: str, **more: Any) -> None:
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if event == _LOOKS and folder != _opened[0]:
        compilation_cache.reset_cache()
        _opened[0] = folder
