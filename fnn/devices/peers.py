"""The processes that train one network together: what they agree on, and what becomes of them when one is gone.

JAX's runtime joins them (`jax.distributed.initialize`, which the user calls) and adds up the gradients. Here the first
process, number 0, decides for all: how long the next segment is, whether to write a checkpoint. Any process may end the
run for all. Words go through the key-value store of that runtime; once per segment, numbers go from all to all.

Each process says every second that it is there, and in which segment. So a process that waits for ever for another's
gradients knows whose. It ends with status 75, with which a program says that it may be tried again.
"""

import contextlib
import ctypes
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.training.layout import Layout
from fnn.types import Tree

BEAT = 1.0  # seconds between two signs of life
SILENT = 4 * BEAT  # after which a process is called silent
SLOW, STUCK = 60.0, 600.0  # seconds in one segment after which a process is named as late, and as stuck
LONG = 20  # segments that these are at least
GRACE = 5.0  # seconds that this process has to end by itself where another has failed
START = 600.0  # seconds that the others have to come to the same call
STATUS = 75  # "temporary failure" in sysexits.h
LOST = ("gloo", "nccl", "connection", "unavailable", "coordination", "heartbeat", "peer", "deadline", "aborted")
_handlers: list[Any] = []  # of runs that an error has ended
_runs = itertools.count()  # all processes call `fit` equally often


class Agreement(NamedTuple):
    """What is done after a segment, by all alike."""

    steps: int  # of the next one
    write: bool
    end: bool
    signal: int  # that one of them has got; 0: none


class Peers:
    """The processes of a mesh, this one among them.

    Args:
        say: called with a sentence where another process is late.
        catch_signals: a block that holds signals back to its end, and knows whether it has `heard()` one.
    """

    def __init__(self, say: Callable[[str], None], catch_signals: Callable[[], Any]) -> None:
        from jax._src import distributed  # the store has no public name
        from jax.experimental import multihost_utils  # takes a while to import

        self.index, self.count = jax.process_index(), jax.process_count()
        self._client: Any = distributed.global_state.client
        self._numbers: Any = multihost_utils
        self._name, self._say, self._words = f"fnn/{next(_runs)}", say, itertools.count()
        self._catch_signals = catch_signals
        self._gathered: dict[str, Iterator[int]] = {}
        self._segment, self._seconds, self._over = 0, 0.0, threading.Event()
        self._together = 0  # the segment that all have come to
        self._seen: dict[int, tuple[str, float]] = {}  # what each process said last, and when that was new
        self._moved = time.monotonic()  # when any process last began a segment
        self._segments: dict[int, int] = {}
        self._told, self._failed, self._failed_at = False, "", 0.0

    @contextlib.contextmanager
    def look_after(self) -> Iterator[None]:
        """Say every second that this process is there, and look at the others, until the end of the block."""
        thread = threading.Thread(target=self._watch, name="fnn peers", daemon=True)
        thread.start()
        with self._own_abort():
            try:
                yield
            except BaseException as error:
                self._failed = f"process {self.index} of {self.count} has ended with {type(error).__name__}: {error}"
                self._tell(self._failed)
                raise
            finally:
                self._over.set()
                thread.join()

    # ---- what they agree on

    def from_first(self, make: Callable[[], str]) -> str:
        """A text that process 0 makes; if that raises an error there, an error in all."""
        key = f"{self._name}/words/{next(self._words)}"
        if self.index == 0:
            try:
                text = make()
            except Exception as error:
                self._client.key_value_set(key, f"-{error}")
                raise
            self._client.key_value_set(key, f"+{text}")
            return text
        text = self._wait_at_start(key)
        if text[0] == "-":
            raise ValueError(f"{text[1:]} (On process 0 of {self.count}.)")
        return text[1:]

    def check_same(self, about: Mapping[str, Any]) -> None:
        """Raise a ValueError that names what differs between the processes."""
        key = f"{self._name}/about/"
        self._client.key_value_set(f"{key}{self.index}", json.dumps(about, default=str))
        mine, all_lines = dict[str, Any](), []
        for number in range(self.count):
            try:
                text = self._wait_at_start(f"{key}{number}")
            except jax.errors.JaxRuntimeError as error:
                raise ValueError(
                    f"mesh: expected all {self.count} processes to call fit, got no word from process {number}. "
                    "Start the same program in all."
                ) from error
            theirs = json.loads(text)
            mine = mine or theirs
            for name in [*mine, *(theirs.keys() - mine.keys())]:
                a, b = mine.get(name, "none"), theirs.get(name, "none")
                if a != b:
                    all_lines.append(f"  {name}: expected {_short(a)} as on process 0, got {_short(b)} on {number}")
        if all_lines:
            what = f"mesh: expected the same run on all {self.count} processes, got differences:"
            raise ValueError("\n".join([what, *all_lines, "Pass the same arguments on every process."]))

    def gather_words(self, text: str, about: str) -> list[str]:
        """A text of each process, in their order. Waits for all, however long that takes.

        One thread at a time may ask about a thing.
        """
        number = next(self._gathered.setdefault(about, itertools.count()))
        key = f"{self._name}/gathered/{about}"
        self._client.key_value_set(f"{key}/{number}/{self.index}", text)
        found = [self._wait_for(f"{key}/{number}/{index}") for index in range(self.count)]
        if number > 0:  # all have read what was before, since they are here
            self._client.key_value_delete(f"{key}/{number - 1}/{self.index}")
        return found

    def _wait_at_start(self, key: str) -> str:
        """A word of another process, which may come later to this call. A signal ends the wait."""
        until = time.monotonic() + START
        while True:
            with self._catch_signals() as signals:
                while not signals.heard():
                    try:
                        return str(self._client.blocking_key_value_get(key, int(1000 * BEAT)))
                    except jax.errors.JaxRuntimeError as error:
                        if "DEADLINE_EXCEEDED" not in str(error) or time.monotonic() > until:
                            raise

    def _wait_for(self, key: str) -> str:
        while True:
            try:
                return str(self._client.blocking_key_value_get(key, int(1000 * BEAT)))
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error) or self._over.is_set():
                    raise

    def agree(self, steps: int, write: bool, end: bool, number: int) -> Agreement:
        """What this process would do after a segment, and what all do: as process 0 says, or any, if it is to end."""
        mine = np.array([steps, write, end, number], np.int32)
        of_all = np.asarray(self._numbers.process_allgather(mine)).reshape(self.count, 4)
        self._segment = self._together = self._segment + 1
        return Agreement(int(of_all[0, 0]), bool(of_all[0, 1]), bool(of_all[:, 2].any()), int(of_all[:, 3].max()))

    def measure(self, seconds: float) -> None:
        """Take so many seconds as the length of a segment."""
        self._seconds = max(self._seconds, seconds)

    def broadcast(self, tree: Tree) -> Tree:
        """The arrays of process 0; those of the others are of the same shapes and dtypes."""
        return self._numbers.broadcast_one_to_all(tree)

    def wait_for_all(self, what: str) -> None:
        """Wait until all processes are here."""
        self._numbers.sync_global_devices(f"{self._name} {what}")

    # ---- when one is gone

    def _watch(self) -> None:
        for count in itertools.count():
            with contextlib.suppress(Exception):  # the store is gone with process 0; then JAX ends this process
                self._client.key_value_set(f"{self._name}/beat/{self.index}", f"{self._segment} {count}", True)
                self._look()
            if self._over.wait(BEAT):
                return

    def _look(self) -> None:
        now = time.monotonic()
        for key, text in self._client.key_value_dir_get(f"{self._name}/beat/"):
            number, segment = int(key.rpartition("/")[2]), int(text.split()[0])
            if self._seen.get(number, ("", 0.0))[0] != text:
                self._seen[number] = text, now
            if self._segments.get(number) != segment:
                self._segments[number], self._moved = segment, now
        for key, text in self._client.key_value_dir_get(f"{self._name}/failed/"):
            if int(key.rpartition("/")[2]) != self.index and not self._failed:
                self._failed, self._failed_at = text, now
        if self._failed and now - self._failed_at > GRACE and not self._over.is_set():
            self._end(self._failed)
        waited = now - self._moved
        if self._segment > 1 and waited > max(SLOW, LONG * self._seconds):
            self._tell_late(waited)

    def _tell_late(self, waited: float) -> None:
        segments = {number: self._segment_of(number) for number in sorted(self._segments)}
        least = min(segments.values())
        late = [number for number, segment in segments.items() if segment == least]
        text = f"{self._names(late)} last reported in segment {least}, {waited:.0f} s ago"
        if waited > max(STUCK, 10 * LONG * self._seconds):
            self._end(text)
        elif not self._told and self.index == 0:
            self._told = True
            self._say(f"mesh: expected all processes to go on, got a wait: {text}. Look at what they are at.")

    def _segment_of(self, number: int) -> int:
        """Where a process was last: as it has said, or where all came together, if that is later."""
        return max(self._segments.get(number, 0), self._together)

    def _names(self, numbers: list[int]) -> str:
        return f"process {', '.join(map(str, numbers))} of {self.count}"

    def _silent(self) -> list[int]:
        """The processes that have said nothing for a while."""
        now = time.monotonic()
        return [n for n, (_, since) in sorted(self._seen.items()) if n != self.index and now - since > SILENT]

    def _describe_silent(self) -> str:
        silent = self._silent()
        if self._failed:
            return self._failed
        missing = sorted(set(range(self.count)) - self._seen.keys())
        if not silent and self.index > 0:
            return f"process 0 of {self.count}, which the others hear of each other through, is gone"
        if not silent:
            return f"{self._names(missing)} has not come to this call" if missing else "another process has ended"
        segment = max(map(self._segment_of, silent))
        return f"{self._names(silent)} last reported in segment {segment}"

    def give_up(self, error: BaseException) -> None:
        """End this process where an error says that another one is gone; which, is known after some seconds."""
        text = str(error).lower()
        runtime = isinstance(error, jax.errors.JaxRuntimeError)
        if not any(word in text for word in (LOST if runtime else LOST[:2])):
            return
        until = time.monotonic() + 3 * SILENT
        while not self._silent() and time.monotonic() < until:
            time.sleep(BEAT / 4)
        self._end(self._describe_silent())

    def _tell(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self._client.key_value_set(f"{self._name}/failed/{self.index}", text, True)

    def _end(self, text: str) -> None:
        """End this process with a word on why, which the others have as well."""
        self._tell(text)
        if self.index == 0:
            time.sleep(2.5 * BEAT)  # with this process the store goes in which they read that
        self._exit(text)

    def _exit(self, text: str) -> None:
        words = (
            f"fit: expected {self.count} processes to train to the end, got a failure: {text.rstrip('.')}. "
            "Start all of them again; with checkpoint=folder they go on from there.\n"
        )
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            os.write(2, words.encode())
        os._exit(STATUS)

    @contextlib.contextmanager
    def _own_abort(self) -> Iterator[None]:
        """JAX calls `abort` where it misses another process: end with our words and status instead."""
        if sys.platform == "win32":
            yield
            return
        handler_type = ctypes.CFUNCTYPE(None, ctypes.c_int)
        handler = handler_type(lambda number: self._exit(self._describe_silent()))
        set_handler = ctypes.CDLL(None).signal
        set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
        before = set_handler(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
        try:
            yield
        except Exception:  # the others end, which JAX will miss while this program ends
            _handlers.append(handler)
            raise
        except BaseException:
            set_handler(signal.SIGABRT, before)
            raise
        set_handler(signal.SIGABRT, before)


def peers_of(layout: Layout | None, say: Callable[[str], None], catch_signals: Callable[[], Any]) -> Peers | None:
    """The processes of a layout; None where it is of this process alone."""
    return Peers(say, catch_signals) if layout is not None and layout.mesh.is_multi_process else None


def is_first(peers: Peers | None) -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return peers is None or peers.index == 0


def together(peers: Peers | None) -> contextlib.AbstractContextManager[None]:
    """A block in which all processes look after each other; of one process alone nothing."""
    return contextlib.nullcontext() if peers is None else peers.look_after()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
