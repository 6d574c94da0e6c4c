"""Compiled programs kept on the disk, so that the next process need not compile them again."""

import functools
import os
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from fnn.data import checks
from fnn.types import PathLike

_LOOKS = "/jax/compilation_cache/compile_requests_use_cache"  # what JAX records before it looks into the folder
_opened: list[str | None] = [None]  # the folder that JAX has opened


def enable_compile_cache(folder: PathLike) -> None:
    """Keep compiled programs in a folder: `fnn.enable_compile_cache("~/.cache/fnn")` at the start of a script.

    It is JAX's persistent compilation cache, set to keep programs that compile in under a second too, as those of
    most networks do. A process that finds its programs there begins to train in a tenth of the time. Programs are
    identified by what they compute, by JAX's version and by the device, so one folder serves all projects; delete
    it whenever you like. The folder named last counts.

    Args:
        folder: made if it is not there; `~` is the home folder.

    Raises:
        TypeError: the folder is no path.
        OSError: it cannot be made.

    >>> import fnn, os, tempfile
    >>> folder = os.path.join(tempfile.mkdtemp(), "programs")
    >>> fnn.enable_compile_cache(folder)
    >>> os.path.isdir(folder)
    True
    >>> jax.config.update("jax_compilation_cache_dir", None)  # off again
    """
    folder = checks.folder("folder", folder)
    os.makedirs(folder, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _follow_the_setting()
    _look_again(_LOOKS)


@functools.cache
def _follow_the_setting() -> None:
    """From now on another folder counts, and none: JAX alone opens the first for good."""
    jax.monitoring.register_event_listener(_look_again)


def _look_again(event: str, **more: Any) -> None:
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if event == _LOOKS and folder != _opened[0]:
        compilation_cache.reset_cache()
        _opened[0] = folder
