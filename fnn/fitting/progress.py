"""Progress, for those who look: a bar on a terminal or in a notebook, lines in a log, a function of the caller's."""

import contextlib
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fnn import arguments
from fnn.fitting.segments import Segment
from fnn.runs import Progress

LOG_SECONDS = 10.0  # between two lines

OnSegment = Callable[[Progress], bool | None]


def check_progress(progress: object) -> bool | str:
    """`progress=` of a run or a study: True, False or "log"."""
    if isinstance(progress, str) and progress == "log":
        return progress
    return arguments.flag("progress", progress)


def check_on_segment(on_segment: Any) -> OnSegment | None:
    """`on_segment=` of a run or a study: a function of one argument, or None."""
    if on_segment is None:
        return None
    hint = "Pass a function of the progress, such as print."
    return arguments.function("on_segment", on_segment, 1, "a function of one argument", hint)


def must_end(on_segment: OnSegment | None, segment: Segment, epochs: int) -> bool:
    """Call the caller's function with what a segment did; whether it asks the run to end."""
    if on_segment is None or segment.rows_per_second == 0:  # nothing has run yet
        return False
    reached, best = int(segment.state.epoch), int(segment.state.best_epoch)
    first = reached - len(segment.history.loss)
    progress = Progress(first, segment.history, epochs, best if best >= 0 else None, segment.rows_per_second)
    return _call(on_segment, progress)


class StudyListener:
    """The caller's function, called by one thread at a time with the segments of all chunks of a study."""

    def __init__(self, on_segment: OnSegment | None, epochs: int) -> None:
        self._on_segment, self._epochs, self._lock = on_segment, epochs, threading.Lock()
        self.stopped = False  # whether it has asked the study to end

    def must_end(self, segment: Segment, members: np.ndarray) -> bool:
        """Call it with what a segment did for these members; those that fill a chunk up are left out."""
        if self._on_segment is None or segment.rows_per_second == 0:
            return self.stopped
        state, history = segment.state, segment.history
        here = np.asarray(state.epoch), np.asarray(state.best_epoch), history
        alone = here[0].ndim == 0  # a chunk of one member has no axis of members
        reached, best, history = jax.tree.map(lambda a: a[None] if alone else a[: len(members)], here)
        first = int(reached.max()) - history.loss.shape[-1]
        progress = Progress(first, history, self._epochs, best, segment.rows_per_second, members)
        with self._lock:
            self.stopped = self.stopped or _call(self._on_segment, progress)
        return self.stopped


def _call(on_segment: OnSegment, progress: Progress) -> bool:
    stop = arguments.call("on_segment", on_segment, progress, what="a function of the progress")
    if stop is not None and not isinstance(stop, (bool, np.bool_)):
        got = arguments.describe_value(stop)
        raise TypeError(
            f"on_segment: expected it to return True, False or None, got {got}. Return True to end the run."
        )
    return bool(stop)


@contextlib.contextmanager
def progress_bar(wanted: bool | str, epochs: int, done: int) -> Iterator[Callable[[Segment], None]]:
    """A function to be called with every segment.

    Args:
        wanted: False shows nothing; "log" writes lines to a log.
        epochs: in all.
        done: those a resumed run has behind it.
    """
    bar = _bar(wanted, epochs, done)
    if bar is None:
        yield lambda segment: None
        return
    bar.set_description("fit")
    words: dict[str, str] = {}

    def show(segment: Segment) -> None:
        words["rows/s"] = f"{segment.rows_per_second:.3g}"
        if len(segment.history.loss):
            words["loss"] = f"{segment.history.loss[-1]:.4g}"
            if segment.history.validation_loss is not None:
                words["validation"] = f"{segment.history.validation_loss[-1]:.4g}"
        bar.set_postfix(words, refresh=False)
        bar.update(len(segment.history.loss))
        bar.refresh()

    try:
        yield show
    finally:
        bar.close()


@contextlib.contextmanager
def study_progress_bar(
    wanted: bool | str, title: str, members: int, epochs: int
) -> Iterator[Callable[[int, int, bool], None]]:
    """A function `show(members, epochs, finished)`: so many have done so many epochs more; that was all of them."""
    bar = _bar(wanted, members * epochs, 0)
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


class LogLines:
    """In the place of a bar: a line at level INFO of the logger "fnn", every ten seconds and at the end."""

    def __init__(self, epochs: int, done: int) -> None:
        self._epochs, self._done, self._title, self._words = epochs, done, "", dict[str, str]()
        self._due = time.monotonic() + LOG_SECONDS

    def set_description(self, title: str) -> None:
        """What lines begin with."""
        self._title = title

    def set_postfix(self, words: dict[str, str], refresh: bool = True) -> None:
        """What lines end with."""
        self._words = words

    def update(self, epochs: int) -> None:
        """So many epochs more; a line, if it is time."""
        self._done += epochs
        if time.monotonic() >= self._due:
            self.close()

    def refresh(self) -> None:
        """A bar draws itself anew; lines stay as they are."""

    def close(self) -> None:
        """Write a line."""
        words = "".join(f", {name} {value}" for name, value in self._words.items())
        logging.getLogger("fnn").info("%s: epochs %d of %d%s", self._title, self._done, self._epochs, words)
        self._due = time.monotonic() + LOG_SECONDS


def _bar(wanted: bool | str, epochs: int, done: int) -> Any:
    """What shows progress: tqdm's bar, lines in a log, or None."""
    if wanted == "log":
        return LogLines(epochs, done)
    notebook = _in_notebook()
    if not wanted or not (notebook or _is_terminal(sys.stderr)):
        return None
    try:
        if not notebook:
            from tqdm import tqdm
        else:
            with warnings.catch_warnings():  # without ipywidgets the bar is made of letters, which is fine
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=epochs, initial=done, unit="epoch")


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook, whose stderr is no terminal but is seen."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _is_terminal(stream: Any) -> bool:
    """Whether somebody can see it. There may be no stderr at all, or one that is closed, or can only write."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False
