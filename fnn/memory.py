"""How much memory there is to take."""

from pathlib import Path

import jax


def free_bytes(device: bool) -> int | None:
    """Memory that may be taken, of the first device or of the host; None if it cannot be told.

    >>> from fnn.memory import free_bytes
    >>> free = free_bytes(False)
    >>> free is None or free > 0
    True
    """
    if device:
        stats = jax.devices()[0].memory_stats() or {}
        if "bytes_limit" in stats:
            return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:  # what is "available" counts the pages of files that can be given up; os.sysconf's free pages do not
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
