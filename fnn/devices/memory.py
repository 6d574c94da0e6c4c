"""How much memory there is to take, and what may pass between that of the host and of a device."""

import ctypes
import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax


def free_bytes(devices: Iterable[Any] = ()) -> int | None:
    """Memory that may be taken, of these devices together, or of the host; None if it is not known.

    Of devices with memory of their own as much as if each had only what the fullest has: they get equal shares.

    >>> from fnn.devices.memory import free_bytes
    >>> free = free_bytes()
    >>> free is None or free > 0
    True
    """
    stats = [device.memory_stats() or {} for device in dict.fromkeys(devices)]
    if stats and all("bytes_limit" in of for of in stats):
        free: int | None = len(stats) * min(of["bytes_limit"] - of.get("bytes_in_use", 0) for of in stats)
        return free
    try:  # what is "available" counts the pages of files that can be given up; os.sysconf's free pages do not
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def trim_heap() -> None:
    """Hand memory that has been freed back to the system, which glibc would keep.

    To compile a run takes 10 to 90 MB for a small network, 150 MB for L1 on sparse rows. This takes 2 to 30 ms.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def usual_devices() -> tuple[Any, ...]:
    """All devices of the kind that JAX uses; of a single CPU as many times as there are cores: a thread each."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu" and len(devices) == 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        devices = devices * cores
    return tuple(devices)


_GUARDS = [f"jax_transfer_guard_{way}" for way in ("host_to_device", "device_to_host", "device_to_device")]


def allow_transfers() -> AbstractContextManager[None]:
    """Let arrays pass between the host and a device, on purpose, where a user has set JAX to refuse that.

    Without such a guard nothing is entered: three guards take longer than a small network's outputs.
    """
    guarded = any(getattr(jax.config, name) not in (None, "allow") for name in _GUARDS)
    return jax.transfer_guard("allow") if guarded else nullcontext()
