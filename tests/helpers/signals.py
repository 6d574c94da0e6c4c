"""What the tests of signals share: handlers for a while, and calls that a signal ends."""

import contextlib
import signal

import pytest

BOTH = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handler(number, of):
    """For a while this handler for this signal."""
    before = signal.signal(number, of)
    try:
        yield
    finally:
        signal.signal(number, before)


def ending_of(call, *arguments, **more):
    """The KeyboardInterrupt that a call ends with, at a SIGTERM too, which by itself would end the tests."""
    with handler(signal.SIGTERM, signal.default_int_handler), pytest.raises(KeyboardInterrupt) as caught:
        call(*arguments, **more)
    return caught.value
