"""Warnings that point at the line of the user's program which called fnn, from however deep inside.

The line is found by its file, since the number of frames between differs with generators, context managers and threads.
"""

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_BELOW_THREADS = {"threading", "concurrent.futures.thread"}  # the modules whose frames begin a thread
_thread = threading.local()


class Caller(NamedTuple):
    """A line of a program, and the globals of its module, where Python keeps which warnings it has shown."""

    file: str
    line: int
    module: dict[str, Any]


def find_caller() -> Caller:
    """The line that called fnn: of the first frame outside the package, or of what started this thread of fnn."""
    frame = sys._getframe()
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(_PACKAGE) or frame.f_globals.get("__name__") == "contextlib"
    ):  # a context manager of fnn is called by way of contextlib
        frame = frame.f_back
    caller: Caller | None = getattr(_thread, "caller", None)
    if caller is not None and frame.f_globals.get("__name__") in _BELOW_THREADS:
        return caller
    return Caller(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)


@contextlib.contextmanager
def warnings_for(caller: Caller) -> Iterator[None]:
    """What a thread of fnn does for a line of the user's program; its warnings point there."""
    _thread.caller = caller
    try:
        yield
    finally:
        del _thread.caller


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's program that called fnn.

    >>> import warnings
    >>> from fnn.data.warnings import warn
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("data: something to know.")
    >>> print(caught[0].category.__name__, caught[0].message)
    UserWarning data: something to know.
    """
    file, line, module = find_caller()
    shown = module.setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, category, file, line, module.get("__name__"), shown)
