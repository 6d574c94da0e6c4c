"""Threads that a signal does not wait for, and that end quietly with the program.

Whatever may take long and hears no signal itself (compiling, a source of rows that waits for a network) runs in such a
thread. The caller waits in short steps, and gives up where the program was asked to stop.
"""

import atexit
import contextlib
import ctypes
import logging
import math
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence, Set
from types import FrameType
from typing import Any, Generic, TypeVar

import jax

STEP = 0.05  # seconds between two looks at whether to stop
PATIENCE = 1.0  # seconds that a thread has to end by itself, once the program was asked to stop
MOMENT = 2.0  # seconds that it has once it was made to; a source of rows is in the midst of a wait of its own
EXIT, QUIET_EXIT = 2.0, 30.0  # seconds that threads have when Python ends: after a signal, and else

T = TypeVar("T")

# JAX's settings that belong to a thread where `with` sets them, and what they are set by
OF_THREAD: dict[str, Any] = {
    "jax_enable_x64": jax.enable_x64,
    "jax_default_device": jax.default_device,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_default_prng_impl": jax.default_prng_impl,
    "jax_threefry_partitionable": jax.threefry_partitionable,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
}

_threads = weakref.WeakSet[threading.Thread]()  # of the tasks
_exiting = threading.Event()  # set when Python ends
_signalled = threading.Event()  # set when a signal has ended what was under way


class Interrupted(BaseException):
    """What was waited for was given up, because the program was asked to stop."""


def never() -> bool:
    """Return False: no signal is looked for."""
    return False


def thread_settings() -> dict[str, Any]:
    """JAX's settings of this thread that another thread or process takes over. A device stays in its process."""
    return {name: getattr(jax.config, name) for name in OF_THREAD if name != "jax_default_device"}


def apply_thread_settings(values: dict[str, Any]) -> contextlib.ExitStack:
    """A context in which this thread has these settings."""
    stack = contextlib.ExitStack()
    for name, value in values.items():
        stack.enter_context(OF_THREAD[name](value))
    return stack


def copy_thread_settings() -> Callable[[], Any]:
    """A context in which another thread computes as this one does now."""
    values = thread_settings() | {"jax_default_device": jax.config.jax_default_device}  # type: ignore[attr-defined]
    return lambda: apply_thread_settings(values)


class Task(Generic[T]):
    """A function that runs in a thread of its own, with the JAX settings of the thread that made the task.

    Where Python starts no threads any more, because it is about to end, the function runs at once in this thread, or
    with `here=False` a RuntimeError is raised.

    >>> from fnn.devices.threads import Task
    >>> Task(lambda: 6 * 7, "an example").result()
    42
    """

    def __init__(self, function: Callable[[], T], name: str, here: bool = True) -> None:
        self._function, self._as_there = function, copy_thread_settings()
        self._value: Any = None
        self._error: BaseException | None = Interrupted()  # what a thread ends with that was made to end
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        _threads.add(self._thread)
        try:
            self._thread.start()
        except RuntimeError:
            if not here:
                raise
            self._work()  # a thread that has not started is not alive

    def _work(self) -> None:
        try:
            with self._as_there():
                self._value = self._function()
            self._error = None
        except BaseException as error:
            self._error = error
        finally:
            del self._function

    def wait(self, seconds: float | None = None) -> bool:
        """Wait so long, or without a limit; whether the thread has ended."""
        if self._thread.ident is not None:  # else the function ran here
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> T:
        """What the function returned, or the error that it raised. Waits for the end."""
        self.wait()
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def end(self, patience: float) -> None:
        """End the thread: wait so long; then raise SystemExit in it where it next runs Python, and wait a moment."""
        if not self.wait(0 if _exiting.is_set() else patience):
            _make_end([self], 0 if _exiting.is_set() else MOMENT)

    def exit(self) -> None:
        """Raise SystemExit in the thread where it next runs Python."""
        if self._thread.is_alive():
            exit_thread(self._thread.ident)


def _make_end(tasks: Sequence[Task[Any]], seconds: float) -> None:
    """Raise SystemExit in the threads until all have ended, for so long.

    It is raised again and again, because Python swallows an exception that is raised while it collects garbage.
    """
    until = time.monotonic() + seconds
    while alive := [task for task in tasks if not task.wait(0)]:
        for task in alive:
            task.exit()
        if time.monotonic() >= until:
            return
        alive[0].wait(STEP)


def results(tasks: Sequence[Task[Any]], must_stop: Callable[[], bool] = never, moment: float = MOMENT) -> list[Any]:
    """What the tasks returned, once all have ended; the error of the first that raised one.

    Args:
        tasks: what runs.
        must_stop: whether to give up.
        moment: seconds that a thread has to end, once it was made to.

    Raises:
        Interrupted: the program was asked to stop, and they did not end soon after. They are left to end by themselves.
    """
    until = math.inf
    for task in tasks:
        while not task.wait(STEP) and time.monotonic() < until:
            if must_stop():
                until = min(until, time.monotonic() + PATIENCE)
    if time.monotonic() >= until and not all([task.wait(0) for task in tasks]):
        _make_end(tasks, moment)
        raise Interrupted
    return [task.result() for task in tasks]


def note_signal() -> None:
    """Note that a signal has ended what was under way: Python then waits less long, when it ends, for threads left."""
    _signalled.set()


def exit_thread(ident: int | None) -> None:
    """Raise SystemExit in a thread, where it next runs Python; in the midst of a call that never returns it cannot."""
    if ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))


# ---- when Python ends


def _end_threads() -> None:
    """End the threads that are still in this package, before Python ends under them.

    A thread that comes back from compiled code then finds no Python, which aborts the process.
    """
    _exiting.set()
    by_ctrl_c = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    begin, asked, known, shown = time.monotonic(), set[int](), set[int](), sys.unraisablehook

    def ask_again(error: Any) -> None:
        if error.exc_type is not SystemExit:
            shown(error)
        asked.clear()  # what JAX does at a garbage collection has swallowed it

    sys.unraisablehook = ask_again
    while inside := _threads_inside(known):
        for ident in inside.keys() - asked:
            exit_thread(ident)
        asked |= inside.keys()
        known |= inside.keys()
        waited = time.monotonic() - begin
        if waited > EXIT and (by_ctrl_c or _signalled.is_set() or waited > QUIET_EXIT or not any(inside.values())):
            break
        time.sleep(STEP / 10)
    if inside and by_ctrl_c:
        _end_by_ctrl_c()


def _end_by_ctrl_c() -> None:
    """End now as Python does after a Ctrl-C that nothing caught, without the part in which a thread may abort it."""
    with contextlib.suppress(Exception):
        weakref.finalize._exitfunc()  # type: ignore[attr-defined]  # temporary folders go
        logging.shutdown()
        sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


def _threads_inside(left: Set[int] = frozenset()) -> dict[int, bool]:
    """The other threads that run a function of this package, or one that it has called; whether in compiled code.

    Those of `left` have been inside: while they end they may still free what XLA has made.
    """
    others = {ident: frame for ident, frame in sys._current_frames().items() if ident != threading.get_ident()}
    # one that has just started, or is about to end, has no frame of this package
    begun = {thread.ident: False for thread in list(_threads) if thread.is_alive() and thread.ident is not None}
    # compiled code has no frame: it is called by one of these. A user's code that waits is not compiled
    inside = {n: _package(frame) in ("fnn", "jax", "jaxlib") for n, frame in others.items() if _is_inside(frame)}
    return begun | {ident: False for ident in others.keys() & left} | inside


def _is_inside(frame: FrameType | None) -> bool:
    while frame is not None:
        if _package(frame) == "fnn":
            return True
        frame = frame.f_back
    return False


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


atexit.register(_end_threads)
