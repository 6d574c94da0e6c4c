"""Compiled programs kept on the disk, so that the next process need not compile them again."""

import os

import jax

from fnn.data import checks
from fnn.types import PathLike


def enable_compile_cache(folder: PathLike) -> None:
    """Keep compiled programs in a folder: `fnn.enable_compile_cache("~/.cache/fnn")` at the start of a script.

    It is JAX's persistent compilation cache, set to keep programs that compile in under a second too, as those of
    most networks do. A process that finds its programs there begins to train in a tenth of the time. Programs are
    identified by what they compute, by JAX's version and by the device, so one folder serves all projects; delete
    it whenever you like.

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
