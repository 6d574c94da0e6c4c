"""Compiled programs, remembered from call to call: one place for all, bounded by number, bytes and memory mappings.

A compiled training run takes some hundred memory mappings, of which Linux gives a process 65,530; beyond, LLVM cannot
allocate and the process dies. So the oldest programs are dropped in time.
"""

import functools
import gc
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from fnn.devices.memory import trim_heap

MOST = 128  # programs
MOST_BYTES = 32 * 2**20  # of arrays that the programs' functions have captured
MOST_MAPPINGS = 0.5  # of those that the system allows a process
UNCOUNTED = 8  # new entries between two counts of them: a count takes up to 20 ms, and so many leave at most 2,000

_MAPPINGS, _ALLOWED = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


V = TypeVar("V")  # what is remembered


class Entry:
    """One thing remembered. Its lock is held while it is made, so that nobody else makes it too."""

    value: Any  # what was made

    def __init__(self) -> None:
        self.lock, self.known, self.value, self.bytes = threading.Lock(), False, None, 0


class Cache:
    """Things by key, the least recently used first to go."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES):
        self.most, self.most_bytes = most, most_bytes
        self.entries: OrderedDict[Any, Entry] = OrderedDict()
        self.lock = threading.RLock()
        self.process: int | None = None  # the one that has made the first entry
        self.uncounted = 0  # new entries since the mappings were counted

    def get(self, key: Hashable, make: Callable[[], V], size: Callable[[V], int] = lambda value: 0) -> V:
        """The value of a key, made now if it is new; `size` says how many bytes of captured arrays it holds.

        Raises:
            RuntimeError: this process is a fork of one that has made entries. JAX's threads are not in it.

        >>> from fnn.compilation.cache import Cache
        >>> numbers = Cache(most=1)
        >>> numbers.get("a", lambda: 1), numbers.get("a", lambda: 2), numbers.get("b", lambda: 3), len(numbers.entries)
        (1, 1, 3, 1)
        """
        process = os.getpid()
        self.process = self.process or process
        if self.process != process:
            raise RuntimeError(
                f"process: expected one that was started by itself, got a fork of process {self.process}, which has "
                "trained or predicted: JAX would wait in it forever. Use multiprocessing.get_context('spawn')."
            )
        with self.lock:
            entry = self.entries.get(key)
            new = entry is None
            if entry is None:
                entry = self.entries[key] = Entry()
            self.entries.move_to_end(key)
        if new:
            self._make_room()
        if not entry.known:  # once it is, it stays
            with entry.lock:
                if not entry.known:
                    try:
                        entry.value = make()
                    except BaseException:
                        with self.lock:
                            self.entries.pop(key, None)
                        raise
                    entry.known, entry.bytes = True, size(entry.value)
        found: V = entry.value
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self.entries.clear()
        _give_back()

    def _make_room(self) -> None:
        """Let the oldest go while there are too many of them, or they hold too much; never the newest."""
        with self.lock:
            gone: list[Entry] = []
            while len(self.entries) > 1 and (
                len(self.entries) > self.most or sum(e.bytes for e in self.entries.values()) > self.most_bytes
            ):
                gone.append(self.entries.popitem(last=False)[1])
            crowded = self._is_crowded()
            for _ in range(len(self.entries) // 2 if crowded else 0):
                gone.append(self.entries.popitem(last=False)[1])
            held = sum(entry.bytes for entry in gone)
        gone.clear()
        if crowded or held:
            _give_back()

    def _is_crowded(self) -> bool:
        """Whether mappings become scarce; asked for each new entry, of which most are not worth a count."""
        self.uncounted += 1
        if self.uncounted < UNCOUNTED:
            return False
        self.uncounted = 0
        return len(self.entries) > 1 and _share_of_mappings() > MOST_MAPPINGS


def _give_back() -> None:
    """Free what has been dropped, down to the system."""
    gc.collect()  # programs are parts of cycles
    trim_heap()


def _share_of_mappings() -> float:
    """How many of the memory mappings that the system allows are in use; 0 where it does not say."""
    try:
        with _MAPPINGS.open("rb") as lines:
            return sum(1 for _ in lines) / int(_ALLOWED.read_text())
    except (OSError, ValueError):
        return 0.0


programs = Cache()


def memoise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember the results of a function of hashable arguments among the compiled programs."""

    @functools.wraps(function)
    def remember(*arguments: Hashable) -> Any:
        return programs.get(
            (function, arguments), lambda: function(*arguments), lambda value: getattr(value, "bytes", 0)
        )

    return remember


def clear_caches() -> None:
    """Forget all compiled programs, and free their memory. The next call compiles again.

    What has been compiled is remembered by what it computes, up to 128 programs, and fewer where they hold much.
    JAX has caches of its own: `jax.clear_caches()`.

    >>> import fnn
    >>> fnn.clear_caches()
    """
    programs.clear()
