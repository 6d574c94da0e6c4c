"""Ctrl-C and SIGTERM: held back until what is under way has been kept, then handed to whoever would have got them.

So no signal is swallowed. Ctrl-C is a KeyboardInterrupt, as everywhere in Python; SIGTERM ends the process, unless the
program has a handler of its own, which is called.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from fnn.data.warnings import warn
from fnn.devices.threads import note_signal
from fnn.runs import TrainingInterrupted
from fnn.storage.locks import release_locks

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 5.0  # seconds after which a second signal is handed on at once
NUMBERS = (signal.SIGTERM, signal.SIGINT)  # in the order in which they are handed on


class Signals:
    """The signals that came while something was under way, and what there is of it."""

    def __init__(self) -> None:
        self.numbers: list[signal.Signals] = []
        self.before: dict[signal.Signals, Any] = {}  # the handlers that were there
        self.result: Any = None
        self.text = ""
        self._process, self._first = os.getpid(), 0.0
        self._handed_on = set[signal.Signals]()
        self._describe: Callable[[str], str] = "training: got {}".format

    def heard(self) -> bool:
        """Whether one has come, since this block began or one around it."""
        return bool(self.numbers) or any(outer.heard() for outer in self._around())

    def _around(self) -> list["Signals"]:
        """The blocks around this one."""
        owners = [getattr(before, "__self__", None) for before in self.before.values()]
        return [owner for owner in owners if isinstance(owner, Signals)]

    def keep(self, result: Any, describe: Callable[[str], str]) -> None:
        """Say what there is of the work: it becomes `run` of the exception that a signal ends with.

        Args:
            result: what would have been returned; None where there is nothing yet.
            describe: from the name of a signal to a sentence on what it ended, and where that is kept.
        """
        self.result, self._describe = result, describe

    def warn(self, done: bool = False) -> None:
        """Warn that this ended early, where the program's own handler has let it go on; not if all was done.

        Raises:
            KeyboardInterrupt: there is nothing to go on with.
        """
        if done or not self.heard():
            return
        if self.result is None:
            raise KeyboardInterrupt(self.text)
        if not self._around():  # else that one will say more
            warn(self.text, TrainingInterrupted)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler: remember the signal. Hand it on at once in a forked process, or if the first had no effect."""
        now = time.monotonic()
        if os.getpid() != self._process or (self.numbers and now - self._first > PATIENCE):
            _hand_on(signal.Signals(number), self.before[signal.Signals(number)], frame)
        else:
            self._first = self._first if self.numbers else now
            self.numbers.append(signal.Signals(number))

    def hand_on(self) -> None:
        """Hand on what has come, each kind once, to the handlers that were there."""
        for number in [n for n in NUMBERS if n in self.numbers and n not in self._handed_on]:
            self._handed_on.add(number)
            note_signal()
            self.text = self._describe(number.name)
            if self.before[number] is signal.SIG_DFL:
                with contextlib.suppress(Exception):  # there may be no stderr
                    print(self.text, file=sys.stderr, flush=True)
            try:
                _hand_on(number, self.before[number], sys._getframe())
            except BaseException as error:
                self._explain(error)
                raise

    def _explain(self, error: BaseException) -> None:
        """Put the run so far on an exception, and what it says about it."""
        error.run = self.result  # type: ignore[attr-defined]
        if isinstance(error, KeyboardInterrupt) and not error.args:
            error.args = (self.text,)
        else:
            error.add_note(self.text)


def _hand_on(number: signal.Signals, handler: Any, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    else:  # the process ends with it
        release_locks()
        signal.signal(number, handler)
        signal.raise_signal(number)


def insist_on_ctrl_c(function: Callable[P, T]) -> Callable[P, T]:
    """Make sure that the KeyboardInterrupt of a Ctrl-C ends a function, wherever in it the signal comes.

    Python swallows an exception that is raised while it collects garbage, with no more than a line on stderr, and JAX
    has a function that is called then. So a KeyboardInterrupt that has gone astray is raised again at the end, and at
    the next signal block.
    """

    @functools.wraps(function)
    def insist(*arguments: P.args, **more: P.kwargs) -> T:
        before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if not main or before is not signal.default_int_handler:
            return function(*arguments, **more)
        astray = Astray()
        signal.signal(signal.SIGINT, astray.interrupt)
        try:
            result = function(*arguments, **more)
        finally:
            signal.signal(signal.SIGINT, before)
        astray.check()
        return result

    return insist


class Astray:
    """Whether a KeyboardInterrupt has been raised, which may have been swallowed."""

    def __init__(self) -> None:
        self.raised = False

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.raised = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise it again, if it was raised."""
        if self.raised:
            raise KeyboardInterrupt


@contextlib.contextmanager
def catch_signals() -> Iterator[Signals]:
    """Hold SIGINT (Ctrl-C) and SIGTERM back until the end of the block, and then hand them on.

    Within the block `heard()` says that one has come; then it has some seconds to end, and to `keep` what there is. At
    the end the handlers that were there come back. Each is called for the signals of its kind, once however many came:
    that of Ctrl-C raises a KeyboardInterrupt, whose `run` is what was kept. Where there was none (as usual for
    SIGTERM), a line on stderr says what was kept, and the signal ends the process. A handler that returns lets the
    program go on.

    Only in the main thread, as Python has it; elsewhere nothing is heard. A signal that the process ignores (as under
    nohup) stays ignored.

    >>> import signal
    >>> from fnn.fitting.interrupts import catch_signals
    >>> try:
    ...     with catch_signals() as signals:
    ...         signal.raise_signal(signal.SIGINT)
    ...         signals.keep("half of it", "work: got {}; half of it is done".format)
    ... except KeyboardInterrupt as stop:
    ...     print(stop, "|", stop.run)
    work: got SIGINT; half of it is done | half of it
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    found = {number: signal.getsignal(number) for number in NUMBERS}
    astray = getattr(found[signal.SIGINT], "__self__", None)
    if isinstance(astray, Astray):
        astray.check()
    signals.before = {number: handler for number, handler in found.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in signals.before:
            signal.signal(number, signals.note)
        yield signals
    finally:
        try:
            signals.hand_on()  # while the handlers are still ours, so that more of them disturb nothing
        finally:
            for number, handler in signals.before.items():
                signal.signal(number, handler)
            signals.hand_on()  # what came in between
