"""A progress bar, where somebody can see it: on a terminal, with tqdm installed."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from fnn.fitting.segments import Segment


@contextlib.contextmanager
def progress_bar(wanted: bool, epochs: int, done: int) -> Iterator[Callable[[Segment], None]]:
    """A function to be called with every segment.

    Args:
        wanted: False shows nothing.
        epochs: in all.
        done: those a resumed run has behind it.
    """
    bar = _bar(epochs, done) if wanted else None
    if bar is None:
        yield lambda segment: None
        return

    words: dict[str, str] = {}

    def show(segment: Segment) -> None:
        bar.update(len(segment.history.loss))
        words["rows/s"] = f"{segment.rows_per_second:.3g}"
        if len(segment.history.loss):
            words["loss"] = f"{segment.history.loss[-1]:.4g}"
            if segment.history.validation_loss is not None:
                words["validation"] = f"{segment.history.validation_loss[-1]:.4g}"
        bar.set_postfix(words)

    try:
        yield show
    finally:
        bar.close()


@contextlib.contextmanager
def study_progress_bar(
    wanted: bool, title: str, members: int, epochs: int
) -> Iterator[Callable[[int, int, bool], None]]:
    """A function `show(members, epochs, finished)`: so many have done so many epochs more; that was all of them."""
    bar = _bar(members * epochs, 0) if wanted else None
    if bar is None:
        yield lambda members, epochs, finished: None
        return
    bar.set_description(title)
    done = 0

    def show(some: int, more: int, finished: bool) -> None:
        nonlocal done
        done += some * finished
        bar.set_postfix({"finished": f"{done}/{members}"}, refresh=False)
        bar.update(some * more)

    try:
        yield show
    finally:
        bar.close()


def _is_terminal(stream: Any) -> bool:
    """Whether somebody can see it. There may be no stderr at all, or one that is closed, or can only write."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False


def _bar(epochs: int, done: int) -> Any:
    if not _is_terminal(sys.stderr):
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=epochs, initial=done, unit="epoch")
