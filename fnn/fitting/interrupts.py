"""Ctrl-C and SIGTERM, noted, so that what is under way can be finished."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def catch_signals() -> Iterator[list[str]]:
    """A list to which SIGINT (Ctrl-C) and SIGTERM add their names; a second one raises a KeyboardInterrupt at once.

    The handlers that were there come back at the end. Only in the main thread, as Python has it; elsewhere the list
    stays empty. A signal that the process ignores (as under nohup) stays ignored.

    >>> import signal
    >>> from fnn.fitting.interrupts import catch_signals
    >>> with catch_signals() as names:
    ...     signal.raise_signal(signal.SIGINT)
    >>> names
    ['SIGINT']
    """
    names: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield names
        return

    def note(number: int, frame: Any) -> None:
        if names:
            raise KeyboardInterrupt
        names.append(signal.Signals(number).name)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in ours:
            signal.signal(number, note)
        yield names
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
