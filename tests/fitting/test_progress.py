"""The progress bar: what it shows, and where it stays silent."""

import io
import sys

import numpy as np
import pytest

import fnn
from fnn.fitting.progress import progress_bar, study_progress_bar
from fnn.fitting.segments import Segment, segment_seconds


def segment(losses, validation=None, rows_per_second=1234.5):
    history = fnn.History(np.float32(losses), {}, None if validation is None else np.float32(validation), {})
    return Segment(None, history, rows_per_second)


def test_it_shows_epochs_losses_and_rows_per_second(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(True, 10, 4) as show:
        show(segment([0.5, 0.25], [1.5, 1.25]))
        show(segment([], []))  # a part of an epoch: the last losses stay
    last = capsys.readouterr().err.rstrip().split("\r")[-1]
    assert "6/10" in last and "rows/s=1.23e+03, loss=0.25, validation=1.25" in last


@pytest.mark.parametrize("wanted, tty, installed", [(False, True, True), (True, False, True), (True, True, False)])
def test_it_is_silent_where_nobody_wants_or_sees_it(wanted, tty, installed, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty)
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress_bar(wanted, 10, 0) as show:
        show(segment([0.5]))
    assert capsys.readouterr().err == ""


class Log:
    """What some services put in the place of stderr."""

    write = flush = lambda *of: None


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stderr", [None, Log(), closed()], ids=["none", "a log", "closed"])
def test_it_is_silent_where_stderr_is_no_file(stderr, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress_bar(True, 10, 0) as show, study_progress_bar(True, "study", 3, 10) as show_study:
        show(segment([0.5]))
        show_study(1, 10, True)


def test_segments_are_no_longer_than_checkpoints_are_apart():
    assert [segment_seconds(between) for between in (None, 10.0, 0.2, 0.0)] == [0.5, 0.5, 0.2, 0.05]
